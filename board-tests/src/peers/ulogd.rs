//! ulogd2: flows by NFCT, lines by GPRINT.

use super::account::each_line;
use super::{Account, Setup};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const LOG: &str = "ulogd-flows.log";

pub(super) fn configure(command: &mut Command, setup: &Setup<'_>) -> io::Result<()> {
    let log = setup.path(LOG);
    configure_output(command, setup, "GPRINT", &format!("file=\"{log}\"\nsync=0\n"))
}

/// Gives `command` a configuration: flows by NFCT into this output plugin, which has these lines.
///
/// Destroys only (`event_mask` 4) and no table of its own: the cheapest set-up that accounts every
/// flow, since a destroy carries all that is put out. ulogd2 2.0.8 takes a buffer size only when it
/// is below the greatest one.
pub(super) fn configure_output(
    command: &mut Command,
    setup: &Setup<'_>,
    output: &str,
    lines: &str,
) -> io::Result<()> {
    let plugins = plugins()?;
    let text = format!(
        "[global]\n\
         logfile=\"{said}\"\n\
         loglevel=5\n\
         plugin=\"{plugins}/ulogd_inpflow_NFCT.so\"\n\
         plugin=\"{plugins}/ulogd_output_{output}.so\"\n\
         stack=ct1:NFCT,out1:{output}\n\
         [ct1]\n\
         event_mask=0x00000004\n\
         hash_enable=0\n\
         reliable=1\n\
         netlink_socket_buffer_size={buffer}\n\
         netlink_socket_buffer_maxsize={twice}\n\
         [out1]\n{lines}",
        said = setup.path(super::SAID),
        plugins = plugins.display(),
        buffer = setup.buffer(),
        twice = setup.buffer().saturating_mul(2),
    );
    let file = setup.file("ulogd.conf");
    fs::write(&file, text)?;
    command.arg("-c").arg(file);
    Ok(())
}

/// Debian has the plugins below a directory of the architecture.
fn plugins() -> io::Result<PathBuf> {
    let libraries = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let triplets = fs::read_dir("/usr/lib")?.flatten().map(|it| it.path());
    let mut places = libraries.into_iter().chain(triplets).map(|it| it.join("ulogd"));
    places.find(|it| it.join("ulogd_inpflow_NFCT.so").is_file()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "ulogd2's plugin ulogd_inpflow_NFCT.so is missing")
    })
}

/// Told apart by all of a line but its times, not by tuples: of an IPv6 address GPRINT (2.0.8)
/// prints the first four bytes only.
pub(super) fn account(directory: &Path) -> io::Result<Account> {
    let mut destroys = 0;
    let mut flows = HashSet::new();
    each_line(&directory.join(LOG), |line| {
        destroys += 1;
        flows.extend(flow(line));
    })?;
    Ok(Account { events: None, destroys, tuples: None, keys: Some(flows.len() as u64) })
}

/// Tuples, counters and id of `orig.ip.saddr=A,...,ct.id=N,ct.event=4,flow.start.sec=N,...`.
fn flow(line: &str) -> Option<String> {
    let (flow, _) = line.split_once(",ct.event=4,")?;
    flow.starts_with("orig.ip.saddr=").then(|| flow.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_destroy_is_one_flow() {
        let line = |port, end| {
            format!(
                "orig.ip.saddr=253.0.0.0,orig.ip.daddr=32.1.13.184,orig.ip.protocol=17,\
                 orig.l4.sport={port},ct.mark=0,ct.id=7,ct.event=4,flow.end.sec={end},oob.family=10"
            )
        };
        assert_eq!(flow(&line(1, 5)), flow(&line(1, 6)));
        assert_ne!(flow(&line(1, 5)), flow(&line(2, 5)));
        assert_eq!(flow("orig.ip.saddr=253.0"), None, "a torn line is no flow");
    }
}
