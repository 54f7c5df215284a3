//! The first process of an emulated router: what procd, netifd, the firewall and a serial console
//! are on OpenWrt, as far as `firmware-ctd` meets them.
//!
//! Boots in OpenWrt's order: file systems, kernel modules, the flash, the package, sysctls and
//! firewall, the daemon (START=19), then the interfaces (START=20), so that what is restored is
//! there before the WAN is up. Then it serves the console on the first serial port, where a person
//! types the daemon's commands, and the channel ([`board_guest::channel`]) on the second, where
//! tests do. It starts the daemon anew when that ends, as procd does, and shuts down as procd
//! does.
//!
//! Decides nothing about the daemon. What it cannot do at boot ends the boot with a panic that is
//! seen on the console.

mod command;
mod console;
mod flash;
mod journal;
mod modules;
mod mounts;
mod network;
mod options;
mod package;
mod reaper;
mod service;
mod shutdown;
mod sys;
mod talk;
mod wait;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use board_guest::error::LabError;

use journal::Journal;
use options::Options;
use reaper::Reaper;
use service::Service;
use talk::Talk;

/// How long the interfaces wait for the daemon.
const READY: Duration = Duration::from_secs(20);

/// All that the console and the channel work with.
#[derive(Debug)]
struct Router {
    reaper: Arc<Reaper>,
    service: Service,
    talk: Arc<Talk>,
    flash: Option<flash::Flash>,
}

fn main() -> ExitCode {
    match boot() {
        Ok(()) => {}
        Err(error) => console::print(&format!("init: {error}\n")),
    }
    // The kernel panics when its first process ends, and says so on the console.
    ExitCode::FAILURE
}

/// Boots, and serves until the board is shut down.
fn boot() -> Result<(), LabError> {
    // Before any thread: all are to have its signal mask.
    let reaper = Reaper::new()?;
    mounts::kernel()?;
    let options = Options::read()?;
    modules::load()?;
    let talk = Arc::new(Talk::open(&options.channel)?);
    let journal = Journal::open(&talk, options.show_log)?;
    let flash = options.flash.as_ref().map(flash::Flash::mount).transpose()?;
    package::install_all()?;
    network::rules()?;
    talk.event(&format!("boot {}", mounts::boot_id()?));
    if let Some(flash) = &flash {
        flash.tell(&talk)?;
        flash.watch(&talk)?;
    }
    let service = Service::new(Arc::clone(&reaper), Arc::clone(&talk), Arc::clone(&journal));
    talk.event("starting");
    service.start()?;
    if !journal.wait_until_ready(READY) {
        talk.event("not ready");
    }
    network::interfaces(&options)?;
    talk.event("up");
    let router = Arc::new(Router { reaper, service, talk, flash });
    console::serve(&router)?;
    command::serve(&router)?;
    router.reaper.run()
}
