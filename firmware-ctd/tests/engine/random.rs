//! Whatever chance gives, the accounts are right.

use proptest::prelude::*;

use firmware_ctd::checkpoint::account;

use crate::edge::{Router, sizes};
use crate::kernel::{Fate, Kind, Recipe, Trouble};

/// Something that happens; what the numbers mean depends on the kind.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: u8,
    a: u32,
    b: u32,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Setting {
    kernel: Kind,
    /// Names of flows to choose from.
    names: u32,
    /// Whether ids may repeat.
    same_memory: bool,
    /// Whether some flows never tell anything.
    mute: bool,
    /// Whether somebody zeroes counters and sets the clock.
    meddling: bool,
}

fn pick(router: &Router<'_>, number: u32) -> Option<u32> {
    let live = &router.kernel.live;
    number.checked_rem(u32::try_from(live.len()).unwrap()).map(|at| live[at as usize])
}

/// How long an event is under way: mostly no time.
fn delay_us(number: u32) -> u64 {
    [0, 0, 0, 0, 0, 3_000, 40_000, 300_000][number as usize % 8]
}

fn step(router: &mut Router<'_>, setting: &Setting, step: Step) {
    let Step { kind, a, b } = step;
    match kind % 32 {
        0..=6 => {
            let same_memory = setting.same_memory && b & 1 == 1;
            let tells = !setting.mute || b & 6 != 0;
            let recipe = Recipe { name: a % setting.names, same_memory, tells };
            router.kernel.create(recipe, delay_us(b >> 3));
        }
        7..=11 => {
            if let Some(serial) = pick(router, a) {
                router.kernel.destroy(serial);
            }
        }
        12..=14 => {
            if let Some(serial) = pick(router, a) {
                let packets = u64::from(b % 50) + 1;
                router.kernel.traffic(serial, packets, packets * 77, delay_us(b >> 8));
            }
        }
        15 => {
            if let Some(serial) = pick(router, a) {
                router.kernel.change_mark(serial, delay_us(b));
            }
        }
        16 if setting.meddling => router.kernel.zero_counters(),
        17 if setting.meddling => {
            let s = i64::from(b % 20_000) - 10_000;
            // The daemon is awake now and then between two steps.
            router.round();
            router.kernel.step_clock(s * 1_000_000_000);
            router.round();
        }
        18 => router.holds = b % 2 == 1,
        19 => router.kernel.other_listener_full = b % 4 == 1,
        20 | 21 => {
            let troubles = [
                Trouble::Refused,
                Trouble::FailsAtEnd,
                Trouble::Interrupted,
                Trouble::Silent,
                Trouble::Skips,
                Trouble::Garbled,
            ];
            router.kernel.trouble = troubles[b as usize % troubles.len()];
        }
        22 => {
            let now = router.kernel.now().boot;
            router.engine.resync(now);
        }
        23..=26 => router.round(),
        27 => router.pass(u64::from(b % 20_000)),
        28 if a % 2 == 0 => router.pass(u64::from(b % 3_000_000)),
        29 if a % 4 == 0 => router.pass(u64::from(b % 70_000_000)),
        _ => router.kernel.advance(u64::from(b % 5_000)),
    }
}

/// The router reboots: what lives is saved, and some of it ends before the daemon listens again.
fn reboot<'m>(router: &mut Router<'m>, memory: &'m mut [u32], meddling: bool, step: Step) {
    let Step { a, b, .. } = step;
    router.check();
    let saved = router.save();
    assert_eq!(saved.len(), router.kernel.live.len());
    for (flow, _) in &saved {
        let mut live = router.kernel.live.iter().map(|&serial| router.kernel.flow(serial));
        let wanted = live.find(|f| (f.orig, f.zone) == (flow.orig, flow.zone)).unwrap();
        let start_ms = wanted.true_start_ns().map(|ns| ns / 1_000_000);
        if wanted.start_ns.is_some() {
            assert_eq!(flow.start_ms, start_ms, "{wanted:?}");
        }
        assert_eq!(flow.account(), flow.start_ms.map(|ms| account(&flow.orig, flow.zone, ms)));
        if !wanted.zeroed && wanted.counters.is_some() && !router.truth.mergeable {
            assert_eq!(flow.counters, Some(wanted.transferred), "{wanted:?}");
        }
    }
    let fates = [Fate::Made, Fate::Made, Fate::Made, Fate::Ended, Fate::Refused];
    let kinds = 1 + b as usize % fates.len();
    router.reboot(memory, &saved, |n| fates[(n + a as usize / 4) % kinds]);
    if meddling || !router.kernel.kind.timestamps {
        // Without starts, or after a clock was set back, a flow that takes an ended one's tuple
        // before that one is called gone may be taken for it.
        router.pass_s(6);
    }
}

fn run(setting: &Setting, steps: impl Iterator<Item = Step>) {
    let capacity = 128 + 4 * setting.names;
    let mut memories = vec![vec![0; sizes(capacity).words()]; 4];
    let mut memories = memories.iter_mut();
    let mut router = Router::new(memories.next().unwrap(), setting.kernel, capacity);
    router.truth.mergeable = setting.same_memory;
    for now in steps {
        if now.kind % 32 == 31 && now.a % 4 == 0 {
            if let Some(memory) = memories.next() {
                reboot(&mut router, memory, setting.meddling, now);
            }
        }
        step(&mut router, setting, now);
    }
    router.check();
}

fn setting() -> impl Strategy<Value = Setting> {
    let kernel = (any::<[bool; 5]>(), 0_usize..20, 0_usize..20, 1_usize..30).prop_map(
        |([timestamps, acct, event_ns, events, reliable], state, destroy, part)| Kind {
            timestamps,
            acct,
            event_ns,
            events: events || timestamps,
            reliable,
            state_room: if state < 10 { state } else { 1_000 },
            destroy_room: if destroy < 10 { destroy + 1 } else { 1_000 },
            part,
        },
    );
    (kernel, 1_u32..60, any::<[bool; 3]>()).prop_map(
        |(kernel, names, [same_memory, mute, meddling])| Setting {
            kernel,
            names,
            same_memory,
            mute,
            meddling,
        },
    )
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step =
        (any::<u8>(), any::<u32>(), any::<u32>()).prop_map(|(kind, a, b)| Step { kind, a, b });
    prop::collection::vec(step, 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(setting in setting(), steps in steps(250)) {
        run(&setting, steps.into_iter());
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn step(&mut self) -> Step {
        let [kind, ..] = self.next().to_be_bytes();
        let [a, b] = [self.next() >> 32, self.next() >> 32].map(|n| u32::try_from(n).unwrap());
        Step { kind, a, b }
    }
}

/// A long life of one router of each kind.
#[test]
fn a_long_life() {
    let small = Kind { state_room: 20, destroy_room: 20, ..Kind::default() };
    let kernels = [
        small,
        Kind { event_ns: false, ..small },
        Kind { reliable: false, ..small },
        Kind { timestamps: false, ..small },
        Kind { events: false, ..small },
    ];
    for (seed, kernel) in (1..).zip(kernels) {
        let setting =
            Setting { kernel, names: 300, same_memory: false, mute: true, meddling: true };
        let mut random = Random(seed);
        run(&setting, (0..8_000).map(|_| random.step()));
    }
}
