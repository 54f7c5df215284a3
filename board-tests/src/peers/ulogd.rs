//! ulogd2: flows by NFCT, lines by GPRINT.

use super::account::{each_line, tuple, value};
use super::{Account, Setup};
use firmware_ctd::wire::{Protocol, Tuple};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const LOG: &str = "ulogd-flows.log";

/// Destroys only (`event_mask` 4) and no table of its own: the cheapest set-up that accounts every
/// flow, since a destroy carries all that it prints. ulogd2 2.0.8 takes a buffer size only when it
/// is below the greatest one.
pub(super) fn configure(command: &mut Command, setup: &Setup<'_>) -> io::Result<()> {
    let plugins = plugins()?;
    let text = format!(
        "[global]\n\
         logfile=\"{said}\"\n\
         loglevel=5\n\
         plugin=\"{plugins}/ulogd_inpflow_NFCT.so\"\n\
         plugin=\"{plugins}/ulogd_output_GPRINT.so\"\n\
         stack=ct1:NFCT,gp1:GPRINT\n\
         [ct1]\n\
         event_mask=0x00000004\n\
         hash_enable=0\n\
         reliable=1\n\
         netlink_socket_buffer_size={buffer}\n\
         netlink_socket_buffer_maxsize={twice}\n\
         [gp1]\n\
         file=\"{log}\"\n\
         sync=0\n",
        said = setup.path(super::SAID),
        plugins = plugins.display(),
        buffer = setup.buffer(),
        twice = setup.buffer().saturating_mul(2),
        log = setup.path(LOG),
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

pub(super) fn account(directory: &Path) -> io::Result<Account> {
    let mut destroys = 0;
    let mut tuples = HashSet::new();
    each_line(&directory.join(LOG), |line| {
        destroys += 1;
        tuples.extend(parse(line));
    })?;
    Ok(Account { events: None, destroys, tuples: Some(tuples), keys: None })
}

/// `orig.ip.saddr=A,orig.ip.daddr=B,orig.ip.protocol=N,orig.l4.sport=N,orig.l4.dport=N,...`.
fn parse(line: &str) -> Option<Tuple> {
    let field = |name| value(line, name, &[',']);
    let proto = field("orig.ip.protocol=")?.parse().ok()?;
    let ports = (field("orig.l4.sport=").unwrap_or(""), field("orig.l4.dport=").unwrap_or(""));
    tuple(field("orig.ip.saddr=")?, field("orig.ip.daddr=")?, Protocol(proto), ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware_ctd::wire::L4;

    #[test]
    fn a_line_is_read() {
        let line = "orig.ip.saddr=10.0.0.2,orig.ip.daddr=198.51.100.1,orig.ip.protocol=6,\
                    orig.l4.sport=1025,orig.l4.dport=443,orig.raw.pktlen=0,reply.ip.saddr=1.2.3.4";
        let tuple = parse(line).unwrap();
        assert_eq!(tuple.proto, Protocol::TCP);
        assert_eq!(tuple.dst.to_string(), "198.51.100.1");
        assert_eq!(tuple.l4, L4::Ports { src: 1025, dst: 443 });
    }
}
