//! Taking over a table: what a killed process left is whole, and any damage is survived.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod chance;

use chance::Chance;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firmware_ctd::table::{Extension, FlowTable, Slot, flag};
use firmware_ctd::wire::{Counters, L4, Labels, Protocol, Tuple};

const CAPACITY: u32 = 64;
const EXTENSIONS: u32 = 16;

/// The tuple of a number; odd ones are of IPv6.
fn tuple(number: u32) -> Tuple {
    let address = |n: u32| -> IpAddr {
        if number % 2 == 1 {
            Ipv6Addr::from_bits(u128::from(n) << 64 | 7).into()
        } else {
            Ipv4Addr::from_bits(n).into()
        }
    };
    let l4 = L4::Ports { src: 7, dst: 8 };
    Tuple { src: address(number), dst: address(!number), proto: Protocol::UDP, l4 }
}

fn fresh() -> Vec<u32> {
    vec![0; FlowTable::words(CAPACITY, EXTENSIONS)]
}

/// Puts in, changes and takes out; what is in the table then, by number: its counters.
fn use_table(table: &mut FlowTable<'_>, chance: &mut Chance) -> BTreeMap<u32, u64> {
    let mut model = BTreeMap::new();
    for _ in 0..chance.below(600) {
        let number = chance.below(90);
        let key = table.key(&tuple(number), 0);
        match (table.find(&key), chance.below(3)) {
            (None, _) => {
                if let Ok(slot) = table.insert(&key) {
                    model.insert(number, 0);
                    if chance.below(4) == 0 {
                        let labels = Some(Labels([9; 16]));
                        let _ = table
                            .set_extension(slot, &Extension { labels, ..Extension::default() });
                    }
                }
            }
            (Some(slot), 0) => {
                table.remove(slot);
                model.remove(&number);
            }
            (Some(slot), _) => {
                let bytes = u64::from(chance.below(1_000_000));
                let counters = Counters { packets: 1, bytes };
                let mut flow = table.flow_mut(slot);
                flow.set_counters([counters, counters]);
                flow.set_generation(9);
                flow.change_flags(flag::MISSED, 0);
                model.insert(number, bytes);
            }
        }
    }
    model
}

fn slots(table: &FlowTable<'_>) -> Vec<Slot> {
    let mut all = Vec::new();
    for bucket in 0..table.buckets() {
        let mut next = table.first(bucket);
        while let Some(slot) = next {
            all.push(slot);
            assert!(all.len() <= CAPACITY as usize, "a chain without end");
            next = table.next(slot);
        }
    }
    all
}

/// The store is whole: it can be filled to the last cell, and emptied.
fn fill_and_empty(table: &mut FlowTable<'_>) {
    for slot in slots(table) {
        table.remove(slot);
    }
    let usage = table.usage();
    assert_eq!((table.len(), usage.permille, usage.extensions_used), (0, 0, 0));
    for number in 0..CAPACITY {
        let key = table.key(&tuple(2 * number), 1);
        let slot = table.insert(&key).unwrap();
        let labels = Some(Labels([1; 16]));
        let extended = table.set_extension(slot, &Extension { labels, ..Extension::default() });
        assert_eq!(extended.is_ok(), number < EXTENSIONS);
    }
    let key = table.key(&tuple(2_000), 1);
    assert!(table.insert(&key).is_err(), "full");
}

#[test]
fn everything_is_taken_over() {
    let mut chance = Chance(1);
    for _ in 0..300 {
        let mut memory = fresh();
        let mut table = FlowTable::format(&mut memory, CAPACITY, EXTENSIONS, [3, 4]).unwrap();
        let model = use_table(&mut table, &mut chance);
        let extended = slots(&table).iter().filter(|&&s| table.flow(s).has_extension()).count();
        let before = table.usage();
        let mut table = FlowTable::open(&mut memory, CAPACITY, EXTENSIONS, flag::UNHEARD).unwrap();
        assert_eq!(table.usage(), before);
        for (&number, &bytes) in &model {
            let slot = table.find(&table.key(&tuple(number), 0)).unwrap();
            let flow = table.flow(slot);
            assert_eq!((flow.orig(), flow.counters()[0].bytes), (tuple(number), bytes));
            assert_eq!((flow.generation(), flow.has(flag::MISSED)), (0, false));
            assert!(flow.has(flag::UNHEARD));
        }
        assert_eq!(slots(&table).len(), model.len());
        assert_eq!(
            slots(&table).iter().filter(|&&s| table.flow(s).has_extension()).count(),
            extended
        );
        fill_and_empty(&mut table);
    }
}

/// What a process was killed in the middle of, and worse.
#[test]
fn any_damage_is_survived() {
    let mut chance = Chance(2);
    for round in 0..3_000 {
        let mut memory = fresh();
        let mut table = FlowTable::format(&mut memory, CAPACITY, EXTENSIONS, [3, 4]).unwrap();
        use_table(&mut table, &mut chance);
        for _ in 0..=round % 8 {
            // Behind what tells that it is a table of this size: the seed included.
            let at = 4 + chance.below(u32::try_from(memory.len()).unwrap() - 4) as usize;
            memory[at] = match chance.below(3) {
                0 => 0,
                1 => chance.below(2 * CAPACITY + 2),
                _ => chance.below(u32::MAX),
            };
        }
        let Ok(mut table) = FlowTable::open(&mut memory, CAPACITY, EXTENSIONS, 0) else { continue };
        for slot in slots(&table) {
            let _ = (table.flow(slot).orig(), table.flow(slot).extension());
        }
        // What is left can be taken out, so it is where it belongs.
        fill_and_empty(&mut table);
    }
}

#[test]
fn other_memory_is_refused() {
    let mut memory = fresh();
    assert!(FlowTable::open(&mut memory, CAPACITY, EXTENSIONS, 0).is_err(), "never formatted");
    FlowTable::format(&mut memory, CAPACITY, EXTENSIONS, [3, 4]).unwrap();
    assert!(FlowTable::open(&mut memory, CAPACITY, EXTENSIONS + 1, 0).is_err());
    assert!(FlowTable::open(&mut memory[1..], CAPACITY, EXTENSIONS, 0).is_err());
    assert!(FlowTable::open(&mut memory, CAPACITY, EXTENSIONS, 0).is_ok());
}
