//! The emulator's process: its command line, and its end.
//!
//! It ends with the value, and with the thread that started it, whichever comes first.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use super::Off;
use super::model::Flash;
use crate::lab::{Mac, Side, cable_ends};
use crate::load::sys;

/// A running emulator.
#[derive(Debug)]
pub(super) struct Emulator {
    child: Child,
    log: std::path::PathBuf,
}

impl Emulator {
    /// Starts a board.
    pub(super) fn start(board: &Off) -> io::Result<Self> {
        let log = board.directory.path().join("emulator.log");
        let mut command = command(board);
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        sys::prepare(&mut command, Some(board.netns.as_raw_fd()));
        let name = board.model.emulator;
        let child = command.spawn().map_err(|error| {
            let advice = "on Debian: apt-get install --no-install-recommends qemu-system-mips \
                          qemu-system-arm qemu-system-x86";
            io::Error::new(error.kind(), format!("{name}: {error}; {advice}"))
        })?;
        Ok(Self { child, log })
    }

    /// An error when it has ended, with what it said.
    pub(super) fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                Err(io::Error::other(format!("the emulator ended with {status}: {said}")))
            }
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The emulator's command line.
fn command(board: &Off) -> Command {
    let Off { model, options, firmware, directory, .. } = board;
    let place = |name: &str| directory.path().join(name).display().to_string();
    let mut command = Command::new(model.emulator);
    let memory = options.memory_mib.max(model.memory_mib);
    command.args(model.machine).args(["-m", &memory.to_string()]);
    command.args(["-nodefaults", "-display", "none", "-monitor", "none"]);
    command.arg("-kernel").arg(&firmware.kernel).arg("-initrd").arg(&firmware.root);
    command.args(["-append", &kernel_line(board)]);
    for port in ["console", "channel"] {
        command.args(["-chardev", &format!("socket,id={port},path={}", place(port))]);
    }
    command.args(["-serial", "chardev:console"]).args(model.channel.1);
    let flash = place("flash");
    let bus = model.bus;
    match model.flash {
        Flash::Chip => command.args(["-drive", &format!("if=pflash,format=raw,file={flash}")]),
        Flash::DiskAsChip(_) | Flash::Disk(_) => command
            .args(["-drive", &format!("if=none,id=flash,format=raw,file={flash}")])
            .args(["-device", &format!("virtio-blk-{bus},drive=flash")]),
    };
    for (side, slot) in [Side::Lan, Side::Wan].into_iter().zip(model.slots) {
        let (hosts, end) = cable_ends(directory.path(), side);
        let (name, hosts, end) = (side.interface(), hosts.display(), end.display());
        let cable = format!(
            "dgram,id={name},local.type=unix,local.path={end},remote.type=unix,remote.path={hosts}"
        );
        let mac = text(side.router_mac());
        let boot = if bus == "pci" { ",romfile=" } else { "" };
        let card = format!("virtio-net-{bus},netdev={name},mac={mac},{NO_OFFLOADS}{boot}{slot}");
        command.args(["-netdev", &cable, "-device", &card]);
    }
    command.args(&options.emulator);
    command
}

/// Frames go over the cables as they are: with their checksums, never merged.
const NO_OFFLOADS: &str = "csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,\
                           guest_ecn=off,guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,\
                           host_ufo=off,mrg_rxbuf=off";

/// The kernel's command line.
fn kernel_line(board: &Off) -> String {
    let Off { model, options, .. } = board;
    let (console, channel, flash) = (model.console, model.channel.0, model.flash.word());
    let (lan, wan) = (options.lan_hosts, options.wan_hosts);
    let log = if options.show_log { " board.log=console" } else { "" };
    format!(
        "console={console} panic=-1 quiet board.channel={channel} board.flash={flash} \
         board.lan={lan} board.wan={wan}{log}"
    )
}

fn text(mac: Mac) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
