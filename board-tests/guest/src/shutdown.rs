//! An orderly reboot, in procd's order and with its time limits.
//!
//! The stop scripts run first, each at most 15 s: that of the package saves and waits
//! (`checkpoint save --wait 10`), then has procd send SIGTERM; the network's takes the interfaces
//! down and takes a second; `umount` comes next. Then all get SIGTERM, and SIGKILL a second later.

use std::process::Command;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Router;
use crate::reaper::End;
use crate::service::PROGRAM;
use crate::{network, wait};

/// procd's `run_timeout` of a stop script.
const SCRIPT: Duration = Duration::from_secs(15);
/// From SIGTERM to what comes next.
const SECOND: Duration = Duration::from_secs(1);

/// Reboots; with `forget`, the images are taken away once the daemon has ended.
pub(crate) fn now(router: &Router, forget: bool) {
    let began = wait::now();
    let tell = |text: &str| {
        router.talk.event(&format!("shutdown {} ms: {text}", began.elapsed().as_millis()));
    };
    let save = ["checkpoint", "save", "--wait", "10"];
    match router.reaper.output(Command::new(PROGRAM).args(save), SCRIPT) {
        Ok((text, Some(End::Exit(0)))) => tell(text.trim_end()),
        Ok((text, end)) => tell(&format!("not saved ({end:?}): {}", text.trim_end())),
        Err(error) => tell(&format!("not saved: {error}")),
    }
    match router.service.stop(SECOND) {
        Some(end) => tell(&format!("the daemon has ended: {end}")),
        None => tell("the daemon has not ended within a second"),
    }
    if forget {
        tell(
            &crate::flash::forget().map_or_else(|error| error.to_string(), |()| "forgotten".into()),
        );
    }
    if let Err(error) = network::down() {
        tell(&error.to_string());
    }
    if let Some(flash) = &router.flash {
        flash.unmount();
    }
    tell("rebooting");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It fails when there is nobody left.
        let _ = kill(Pid::from_raw(-1), signal);
        let nobody = || kill(Pid::from_raw(-1), None).is_err();
        // Whoever does not end is killed, and whoever cannot be killed ends with the kernel.
        let _ = wait::until("all processes to end", SECOND, nobody);
    }
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    tell(&format!("the kernel does not reboot: {error}"));
}
