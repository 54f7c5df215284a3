//! conntrackd in its statistics mode.

use super::account::{each_line, tuple, value};
use super::{Account, Setup};
use firmware_ctd::wire::{Protocol, Tuple};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

const LOG: &str = "conntrackd-stats.log";

/// `HashSize` is its default. `HashLimit` is above every load: beyond it new flows are refused and
/// their destroys not logged.
pub(super) fn configure(command: &mut Command, setup: &Setup<'_>) -> io::Result<()> {
    let text = format!(
        "General {{\n\
         \x20 HashSize 65536\n\
         \x20 HashLimit 2097152\n\
         \x20 LogFile no\n\
         \x20 Syslog no\n\
         \x20 LockFile {lock}\n\
         \x20 UNIX {{ Path {control} }}\n\
         \x20 NetlinkBufferSize {buffer}\n\
         \x20 NetlinkBufferSizeMaxGrowth {buffer}\n\
         \x20 NetlinkOverrunResync off\n\
         \x20 NetlinkEventsReliable on\n\
         }}\n\
         Stats {{\n\
         \x20 LogFile {log}\n\
         }}\n",
        lock = setup.path("conntrackd.lock"),
        control = setup.path("conntrackd.ctl"),
        buffer = setup.buffer(),
        log = setup.path(LOG),
    );
    let file = setup.file("conntrackd.conf");
    fs::write(&file, text)?;
    command.arg("-C").arg(file);
    Ok(())
}

pub(super) fn account(directory: &Path) -> io::Result<Account> {
    let mut destroys = 0;
    let mut tuples = HashSet::new();
    each_line(&directory.join(LOG), |line| {
        destroys += 1;
        tuples.extend(parse(line));
    })?;
    Ok(Account { events: None, destroys, tuples: Some(tuples), keys: None })
}

/// `DATE<TAB>udp      17 src=A dst=B sport=N dport=N packets=N bytes=N src=... [ASSURED] ...`.
fn parse(line: &str) -> Option<Tuple> {
    let (_, flow) = line.split_once('\t')?;
    let proto = flow.split_whitespace().nth(1)?.parse().ok()?;
    let field = |name| value(flow, name, &[' ']);
    let ports = (field(" sport=").unwrap_or(""), field(" dport=").unwrap_or(""));
    tuple(field(" src=")?, field(" dst=")?, Protocol(proto), ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_ctd::wire::L4;

    #[test]
    fn a_line_of_the_log_is_read() {
        let line = "Sat Nov 21 21:30:56 2026\tudp      17 src=10.0.0.2 dst=198.51.100.1 \
                    sport=1024 dport=53 packets=0 bytes=0 src=198.51.100.1 dst=10.0.0.2 sport=53 \
                    dport=1024 packets=0 bytes=0 [ASSURED] delta-time=0";
        let tuple = parse(line).unwrap();
        assert_eq!(tuple.proto, Protocol::UDP);
        assert_eq!(tuple.src.to_string(), "10.0.0.2");
        assert_eq!(tuple.l4, L4::Ports { src: 1024, dst: 53 });
    }
}
