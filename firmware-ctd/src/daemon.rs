//! The edge: one thread around one epoll, and all the input and output.
//!
//! `run` reads the configuration, looks at what the kernel can do, opens everything, and says
//! `ready`; after that nothing is allocated. The modules below it each do one kind of I/O.

pub mod clock;
pub mod command;
pub mod control;
pub mod event_loop;
pub mod lines;
pub mod log;
pub mod netlink;
pub mod selftest;
pub mod sink;
pub mod status;
pub mod sys;
pub mod sysctl;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use nix::sys::signal::{SigSet, Signal as UnixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use command::{events, flows, selftest, status};

use crate::config::{self, Config, Groups};
use crate::engine::{Engine, EventPath, Settings, Sizes};
use crate::exit;
use crate::table::{BYTES_IPV4, BYTES_IPV6};
use crate::time::Duration;
use control::Control;
use event_loop::{Edge, EventLoop, Signal};
use netlink::{EventSocket, RequestSocket, group};
use sink::Sinks;
use status::EdgeFacts;

/// Why the daemon could not start or go on: an exit code, and what to do.
#[derive(Debug)]
struct Failure(u8, String);

impl Failure {
    fn of_kernel(error: &io::Error) -> Self {
        Self(command::code_of(error), command::explain(error))
    }

    fn of_io(what: &str, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
            io::ErrorKind::AddrInUse => exit::UNAVAILABLE,
            _ => exit::IO,
        };
        Self(code, format!("{what}: {error}"))
    }
}

/// The command `run`; returns the exit code.
#[must_use]
pub fn run(files: &[PathBuf]) -> u8 {
    let config = match config::load(files) {
        Ok(config) => config,
        Err(faults) => {
            // Nobody is left to tell when standard error is gone; the exit code still tells.
            let _ = writeln!(io::stderr(), "{faults}");
            return exit::CONFIG;
        }
    };
    log::init(&config.log);
    match serve(files, config) {
        Ok(()) => exit::OK,
        Err(Failure(code, text)) => {
            ::log::error!("{text}");
            code
        }
    }
}

fn serve(files: &[PathBuf], mut config: Config) -> Result<(), Failure> {
    for warning in config.warnings() {
        ::log::warn!("{warning}");
    }
    let mut event_loop = start(&config)?;
    say_ready(&mut event_loop, &config);
    loop {
        match event_loop.run().map_err(|error| Failure::of_io("netlink", &error))? {
            Signal::End => {
                event_loop.finish();
                ::log::info!("ended by a signal");
                return Ok(());
            }
            Signal::Reload => reload(files, &mut config, &mut event_loop),
        }
    }
}

/// Opens everything.
fn start(config: &Config) -> Result<EventLoop<'static>, Failure> {
    let started = clock::now().boot;
    let signals = signals().map_err(|error| Failure::of_io("signals", &error))?;
    sysctl::check(config.kernel.manage_sysctls, event_loop::tell_setting);
    let events = test_events()?;
    let control =
        Control::open(&config.control).map_err(|error| control_failure(config, &error))?;
    let mut engine = engine(config, events.unwrap_or(EventPath::Reliable))?;
    let chance = chance().map_err(|error| Failure::of_io("/dev/urandom", &error))?;
    let edge = Edge {
        state: open_events(config, &state_groups(config.events.groups))?,
        destroy: open_events(config, &[group::DESTROY])?,
        requests: RequestSocket::open().map_err(|error| Failure::of_kernel(&error))?,
        control,
        signals,
        sinks: Sinks::open(config, engine.queue_mut(), started, chance),
    };
    let sockets = [edge.state.memory(), edge.destroy.memory()].map(Result::unwrap_or_default);
    tell_buffers(config, sockets[1].receive_buffer);
    let facts = EdgeFacts {
        started,
        ready: (0, 0),
        reload_allocations: 0,
        sockets,
        tested: events.is_some(),
        clients: 0,
        clients_refused: 0,
    };
    EventLoop::new(engine, edge, facts, config).map_err(|error| Failure::of_io("epoll", &error))
}

/// Says `ready`, and counts allocations from here on.
fn say_ready(event_loop: &mut EventLoop<'_>, config: &Config) {
    event_loop.facts_mut().ready = (sys::bytes_held(), sys::allocations());
    ::log::info!(
        "ready: {} flows of {BYTES_IPV4} bytes (IPv6 {BYTES_IPV6}), control socket {}",
        config.table.capacity,
        config.control.socket.display()
    );
}

/// SIGTERM, SIGINT and SIGHUP, to be read instead of interrupting.
fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [UnixSignal::SIGTERM, UnixSignal::SIGINT, UnixSignal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// What the kernel's events are worth; nothing if that could not be tried.
fn test_events() -> Result<Option<EventPath>, Failure> {
    match selftest::run() {
        Ok(finding) => {
            match finding.events {
                EventPath::Reliable => ::log::info!("self-test: events are reliable"),
                EventPath::BestEffort => ::log::warn!(
                    "self-test: this kernel loses destroys that do not fit into a buffer; \
                     what vanishes is found by dumps"
                ),
                EventPath::None => ::log::warn!(
                    "self-test: no events come (nf_conntrack_events is 0, or another module \
                     holds the only listener's place); flows are learnt from dumps alone"
                ),
            }
            Ok(Some(finding.events))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Failure::of_kernel(&error))
        }
        Err(error) => {
            ::log::warn!("self-test: the kernel refused the probe flow ({error}); going on");
            Ok(None)
        }
    }
}

fn control_failure(config: &Config, error: &io::Error) -> Failure {
    let path = config.control.socket.display();
    if error.kind() == io::ErrorKind::AddrInUse {
        let text = format!(
            "{path}: another daemon answers there, or it is no socket; \
                            end that one, or set control.socket"
        );
        return Failure(exit::UNAVAILABLE, text);
    }
    Failure::of_io(&path.to_string(), error)
}

fn engine(config: &Config, events: EventPath) -> Result<Engine<'static>, Failure> {
    let table = &config.table;
    let sizes = Sizes {
        capacity: table.capacity,
        extensions: table.extensions,
        remember: config.events.remember,
        queue: config.retry.capacity,
    };
    let memory = sys::map_words(sizes.words()).map_err(|error| {
        let mebibytes = sizes.words() / (1 << 18);
        Failure(
            exit::UNAVAILABLE,
            format!(
                "{mebibytes} MiB for table.capacity = {}: {error}; choose a smaller one",
                table.capacity
            ),
        )
    })?;
    let settings = Settings {
        events,
        refresh: Duration::from_secs(u64::from(table.refresh_s)),
        observed: false,
    };
    let [boot_id, seed] = identity().map_err(|error| Failure::of_io("/proc and /dev", &error))?;
    let seed = [word(&seed[..4]), word(&seed[4..8])];
    Engine::new(memory, &sizes, settings, boot_id, seed, &Sinks::ids(config))
        .map_err(|error| Failure(exit::SOFTWARE, error.to_string()))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// A random number.
fn chance() -> io::Result<u32> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

/// The boot id, and 16 random bytes.
fn identity() -> io::Result<[[u8; 16]; 2]> {
    let mut text = [0; 36];
    File::open("/proc/sys/kernel/random/boot_id")?.read_exact(&mut text)?;
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok([parse_uuid(&text), random])
}

/// The bytes of a UUID in its usual form; what is no hexadecimal digit is passed over.
fn parse_uuid(text: &[u8]) -> [u8; 16] {
    let mut nibbles = text.iter().filter_map(|&c| char::from(c).to_digit(16));
    std::array::from_fn(|_| {
        let (high, low) = (nibbles.next().unwrap_or(0), nibbles.next().unwrap_or(0));
        u8::try_from(high << 4 | low).unwrap_or(0)
    })
}

fn state_groups(groups: Groups) -> Vec<u32> {
    let wanted = [(groups.new, group::NEW), (groups.update, group::UPDATE)];
    wanted.into_iter().filter_map(|(wanted, group)| wanted.then_some(group)).collect()
}

fn open_events(config: &Config, groups: &[u32]) -> Result<EventSocket, Failure> {
    EventSocket::open(groups, config.events.receive_buffer_bytes, config.events.reliable)
        .map_err(|error| Failure::of_kernel(&error))
}

/// Tells when the receive buffer is not what was asked for. The kernel counts it double.
fn tell_buffers(config: &Config, had: u32) {
    let wanted = config.events.receive_buffer_bytes;
    if had / 2 < wanted {
        ::log::warn!(
            "events.receive_buffer is {wanted} bytes but {} were had: raise \
             net.core.rmem_max, or give the daemon CAP_NET_ADMIN in the first user namespace",
            had / 2
        );
    }
}

/// Notes what was applied; what needs a restart stays as it is, to be told of again.
fn take_over(config: &mut Config, new: &Config) {
    config.kernel = new.kernel.clone();
    config.log = new.log.clone();
    config.events.coalesce_ms = new.events.coalesce_ms;
    config.events.reliable = new.events.reliable;
    config.table.refresh_s = new.table.refresh_s;
    config.retry = config::Retry { capacity: config.retry.capacity, ..new.retry.clone() };
    for (config::Sink::File(old), config::Sink::File(new)) in
        config.sinks.iter_mut().zip(&new.sinks)
    {
        old.max_bytes = new.max_bytes;
        old.reliable = new.reliable;
    }
}

/// SIGHUP: takes over a changed configuration if it is without fault.
fn reload(files: &[PathBuf], config: &mut Config, event_loop: &mut EventLoop<'_>) {
    let before = sys::allocations();
    match config::load(files) {
        Ok(new) => {
            let fixed = config.needs_restart(&new);
            for key in &fixed {
                ::log::warn!("{key} has changed: that needs a restart");
            }
            log::apply(&new.log);
            event_loop.reconfigure(&new);
            take_over(config, &new);
            ::log::info!("configuration read again");
        }
        Err(faults) => {
            ::log::error!("configuration not taken over, the old one stays:");
            // One line each: a log line has no line breaks and a bounded length.
            for fault in faults.as_slice() {
                ::log::error!("{fault}");
            }
        }
    }
    event_loop.facts_mut().reload_allocations += sys::allocations().wrapping_sub(before);
}
