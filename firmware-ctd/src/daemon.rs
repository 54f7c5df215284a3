//! The edge: one thread around one epoll, and all the input and output.
//!
//! `run` reads the configuration, looks at what the kernel can do, opens the event sockets and the
//! shared memory, and becomes two processes, a supervisor and its worker.
//! The worker opens everything else and says `ready`; after that nothing is allocated. The modules
//! below it each do one kind of I/O.

pub mod addresses;
pub mod checkpoint;
pub mod clock;
pub mod command;
pub mod control;
mod dying;
pub mod event_loop;
pub mod lines;
pub mod listeners;
pub mod log;
mod losses;
pub mod netlink;
pub mod output;
mod relay;
pub mod restore;
pub mod selftest;
pub mod shared;
pub mod sink;
pub mod status;
mod supervisor;
pub mod sys;
pub mod sysctl;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use nix::sys::signal::{SigSet, Signal as UnixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use command::{events, flows, selftest, status};
pub use output::print;

use crate::config::{self, Config, Groups};
use crate::engine::{Engine, EventPath, Settings, Sizes};
use crate::exit;
use crate::table::{BYTES_IPV4, BYTES_IPV6, WrongSize};
use crate::time::Duration;
use checkpoint::Checkpoints;
use control::Control;
use event_loop::{Edge, EventLoop, Signal};
use netlink::{EventSocket, RequestSocket, group};
use shared::{Parts, Shared, Word};
use sink::Sinks;
use status::EdgeFacts;
use supervisor::{Birth, Fate, Sockets, Supervisor};

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
    let config = match config::load_or_tell(files) {
        Ok(config) => config,
        Err(code) => return code,
    };
    log::init(&config.log);
    let fate = supervisor(files, config).and_then(Supervisor::run);
    let done = match fate {
        Ok(Fate::Ended(code)) => return code,
        Ok(Fate::Worker(birth)) => serve(files, *birth),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => exit::OK,
        Err(Failure(code, text)) => {
            ::log::error!("{text}");
            code
        }
    }
}

/// Opens what outlives a worker.
fn supervisor(files: &[PathBuf], config: Config) -> Result<Supervisor, Failure> {
    for warning in config.warnings() {
        ::log::warn!("{warning}");
    }
    sysctl::check(config.kernel.manage_sysctls, event_loop::tell_setting);
    let tested = test_events()?;
    let boot_id = boot_id().map_err(|error| Failure::of_io("/proc", &error))?;
    let shared = Shared::open(&config, &sizes(&config), boot_id)
        .map_err(|error| shared_failure(&config, &error))?;
    let taken_over = shared.taken_over();
    note_takeover(&shared);
    // Before anybody listens: the kernel is twice as fast then.
    let loaded = checkpoint::load(&config.checkpoint, boot_id, shared.words(), clock::now());
    let sockets = Sockets {
        state: open_events(&config, &state_groups(config.events.groups))?,
        destroy: open_events(&config, &[group::DESTROY])?,
    };
    let birth = Birth {
        config,
        sockets,
        shared,
        boot_id,
        loaded,
        tested,
        successor: taken_over,
        unheard: taken_over,
    };
    Supervisor::new(files, birth).map_err(|error| Failure::of_io("signals", &error))
}

/// Notes between when and when nobody listened.
fn note_takeover(shared: &Shared) {
    if !shared.taken_over() {
        return;
    }
    let (words, now) = (shared.words(), clock::now().boot);
    let to_s = now.as_secs_u32();
    let silence_s = u32::try_from(words.silence(now).as_secs()).unwrap_or(u32::MAX);
    words.add(Word::Takeovers, 1);
    words.set(Word::TakeoverFrom, to_s.saturating_sub(silence_s));
    words.set(Word::TakeoverTo, to_s);
    words.set(Word::ValveOpen, 0);
    ::log::info!("taking over what a daemon before left, which was last heard {silence_s} s ago");
}

fn shared_failure(config: &Config, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AddrInUse {
        return control_failure(config, error);
    }
    let capacity = config.table.capacity;
    let mebibytes = sizes(config).words() / (1 << 18);
    let text =
        format!("{mebibytes} MiB for table.capacity = {capacity}: {error}; choose a smaller one");
    Failure(exit::UNAVAILABLE, text)
}

/// A worker, from its birth to its end.
fn serve(files: &[PathBuf], birth: Birth) -> Result<(), Failure> {
    let mut config = birth.config.clone();
    let mut event_loop = start(birth)?;
    event_loop.handle_again();
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

/// Opens everything that is a worker's own.
fn start(birth: Birth) -> Result<EventLoop<'static>, Failure> {
    let Birth { config, sockets, shared, boot_id, loaded, tested, successor, unheard } = birth;
    let config = &config;
    let started = clock::now().boot;
    let signals = signals(&ENDS).map_err(|error| Failure::of_io("signals", &error))?;
    let control =
        Control::open(&config.control).map_err(|error| control_failure(config, &error))?;
    let (words, sizes) = (shared.words(), *shared.sizes());
    let Parts { destroy, state, engine, sinks } = shared.into_parts();
    let events = tested.unwrap_or(EventPath::Reliable);
    let mut engine = self::engine(engine, config, &sizes, boot_id, (events, successor, unheard))?;
    if let Some(loaded) = &loaded {
        if let Err(fault) = loaded.recall(&mut engine, words, clock::now()) {
            ::log::error!("{}: {fault}; accounts begin anew", loaded.path().display());
        }
    }
    let chance = chance().map_err(|error| Failure::of_io("/dev/urandom", &error))?;
    let edge = Edge {
        state: sockets.state,
        destroy: sockets.destroy,
        requests: RequestSocket::open().map_err(|error| Failure::of_kernel(&error))?,
        control,
        signals,
        sinks: Sinks::open(config, engine.queue_mut(), sinks, started, chance),
        checkpoints: Checkpoints::new(config, boot_id, started, words, loaded)
            .map_err(|error| Failure::of_io("checkpoints", &error))?,
    };
    let sockets = [edge.state.memory(), edge.destroy.memory()].map(Result::unwrap_or_default);
    if !successor {
        tell_buffers(config, sockets[1].receive_buffer);
    }
    let facts = EdgeFacts {
        started,
        ready: (0, 0),
        reload_allocations: 0,
        sockets,
        tested: tested.is_some(),
        clients: 0,
        clients_refused: 0,
        other: None,
        words,
    };
    EventLoop::new(engine, edge, facts, config, (destroy, state))
        .map_err(|error| Failure::of_io("epoll", &error))
}

/// Says `ready`, and counts allocations from here on.
fn say_ready(event_loop: &mut EventLoop<'_>, config: &Config) {
    let facts = event_loop.facts_mut();
    facts.ready = (sys::bytes_held(), sys::allocations());
    facts.words.set(Word::Ready, 1);
    ::log::info!(
        "ready: {} flows of {BYTES_IPV4} bytes (IPv6 {BYTES_IPV6}), control socket {}",
        config.table.capacity,
        config.control.socket.display()
    );
}

/// What a worker is told by signals.
const ENDS: [UnixSignal; 3] = [UnixSignal::SIGTERM, UnixSignal::SIGINT, UnixSignal::SIGHUP];

/// These signals, to be read instead of interrupting.
fn signals(wanted: &[UnixSignal]) -> io::Result<SignalFd> {
    let set: SigSet = wanted.iter().copied().collect();
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

fn sizes(config: &Config) -> Sizes {
    Sizes {
        capacity: config.table.capacity,
        extensions: config.table.extensions,
        remember: config.events.remember,
        queue: config.retry.capacity,
    }
}

/// The engine that a predecessor left, or a new one. What is told of the predecessor: what events
/// are worth, whether there was one, and whether nobody listened since.
fn engine(
    memory: &'static mut [u32],
    config: &Config,
    sizes: &Sizes,
    boot_id: [u8; 16],
    (events, successor, unheard): (EventPath, bool, bool),
) -> Result<Engine<'static>, Failure> {
    let refresh = Duration::from_secs(u64::from(config.table.refresh_s));
    let settings = Settings { events, refresh, observed: false };
    let sinks = Sinks::ids(config);
    let wrong = |error: WrongSize| Failure(exit::SOFTWARE, error.to_string());
    if successor && Engine::is_there(memory, sizes) {
        return Engine::open(memory, sizes, settings, boot_id, &sinks, unheard).map_err(wrong);
    }
    let seed = seed().map_err(|error| Failure::of_io("/dev/urandom", &error))?;
    Engine::new(memory, sizes, settings, boot_id, seed, &sinks).map_err(wrong)
}

/// A random number: as good as the kernel has at once. Early in the boot of a board without a
/// generator it has to gather randomness first, for a second, and the network waits for this daemon.
fn chance() -> io::Result<u32> {
    let mut bytes = [0; 4];
    if sys::random_at_once(&mut bytes).is_err() {
        // Before Linux 5.6, where this does not wait.
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    }
    Ok(u32::from_ne_bytes(bytes))
}

fn seed() -> io::Result<[u32; 2]> {
    Ok([chance()?, chance()?])
}

fn boot_id() -> io::Result<[u8; 16]> {
    let mut text = [0; 36];
    File::open("/proc/sys/kernel/random/boot_id")?.read_exact(&mut text)?;
    Ok(parse_uuid(&text))
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
            config.take_live(&new);
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
