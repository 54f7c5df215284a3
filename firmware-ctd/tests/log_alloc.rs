//! The log back-end allocates nothing, whatever becomes of a line.

use std::os::unix::net::UnixDatagram;

use firmware_ctd::config::LogTarget;
use firmware_ctd::daemon::log::{self as backend, Backend, RateLimit};
use firmware_ctd::daemon::sys::{CountingAllocator, allocations};
use firmware_ctd::limited;
use log::Level;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

static LIMIT: RateLimit = RateLimit::new(5, 10);

/// One line of each sort: short, cut, escaped, limited, below the level.
fn lines(round: u32) {
    backend::set_now(round / 100);
    log::error!("round {round}");
    log::info!("{:>700}", round);
    log::warn!("\u{1b}[2J\n{:?}", "a\tb");
    limited!(LIMIT, Level::Warn, "limited in round {round}");
    log::debug!("not written");
}

// Without the test harness, whose own thread allocates when a test takes long.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("ctd-log-alloc-{}", std::process::id()));
    let name: &'static str = Box::leak(path.to_string_lossy().into_owned().into_boxed_str());
    let logger: &'static Backend = Box::leak(Box::new(Backend::new(name)));
    log::set_logger(logger).map_err(|error| error.to_string())?;
    log::set_max_level(log::LevelFilter::Info);
    // What falls back to standard error must not lie between the lines of the test's own output.
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stderr(&null)?;
    let daemon = UnixDatagram::bind(&path)?;

    let before = allocations();
    assert!(before > 0, "the allocator counts");
    let mut buffer = [0; 1024];
    for target in [LogTarget::Stderr, LogTarget::Syslog] {
        logger.set_target(target);
        (0..3_000).for_each(lines);
    }
    // The queue of the socket is full by now: the rest fell back.
    let received = daemon.recv(&mut buffer)?;
    std::fs::remove_file(&path)?;
    (0..1_000).for_each(lines);
    let after = allocations();

    assert!(buffer[..received].starts_with(b"<27>firmware-ctd["));
    assert_eq!(after - before, 0);
    assert!(backend::suppressed() > 0);
    Ok(())
}
