//! Taking over a table: what a killed process left is whole, and any damage is survived.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod chance;

use chance::Chance;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firmware_ctd::table::{Carried, Extension, FlowTable, Slot, flag};
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

/// What a flow carries on that has counted so much.
fn carried(bytes: u64) -> Carried {
    let base = Counters { packets: bytes << 20, bytes: !bytes };
    Carried { base: Some([base; 2]), start_ms: Some(bytes + 1), as_of_ms: None }
}

/// Puts in, changes and takes out; what is in the table then, by number: its counters, and whether
/// it carries something on.
fn use_table(table: &mut FlowTable<'_>, chance: &mut Chance) -> BTreeMap<u32, (u64, bool)> {
    let mut model = BTreeMap::new();
    for _ in 0..chance.below(600) {
        let number = chance.below(90);
        let key = table.key(&tuple(number), 0);
        match (table.find(&key), chance.below(4)) {
            (None, _) => {
                if let Ok(slot) = table.insert(&key) {
                    model.insert(number, (0, false));
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
            (Some(slot), 1) => {
                let (bytes, mut carries) = model[&number];
                let new = if carries { Carried::default() } else { carried(bytes) };
                carries = table.set_carried(slot, &new).is_ok() && !carries;
                model.insert(number, (bytes, carries));
            }
            (Some(slot), _) => {
                let bytes = u64::from(chance.below(1_000_000));
                let counters = Counters { packets: 1, bytes };
                let mut flow = table.flow_mut(slot);
                flow.set_counters([counters, counters]);
                flow.set_generation(9);
                flow.change_flags(flag::MISSED, 0);
                let carries = model[&number].1;
                if carries {
                    table.set_carried(slot, &carried(bytes)).unwrap();
                }
                model.insert(number, (bytes, carries));
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
        for (&number, &(bytes, carries)) in &model {
            let slot = table.find(&table.key(&tuple(number), 0)).unwrap();
            let flow = table.flow(slot);
            assert_eq!((flow.orig(), flow.counters()[0].bytes), (tuple(number), bytes));
            assert_eq!((flow.generation(), flow.has(flag::MISSED)), (0, false));
            assert!(flow.has(flag::UNHEARD));
            let wanted = if carries { carried(bytes) } else { Carried::default() };
            assert_eq!(flow.carried(), wanted);
            assert!(!flow.has(flag::INEXACT));
        }
        assert_eq!(slots(&table).len(), model.len());
        assert_eq!(
            slots(&table).iter().filter(|&&s| table.flow(s).has_extension()).count(),
            extended
        );
        fill_and_empty(&mut table);
    }
}

/// The store of a cell's reference is what makes it the flow's: without it, the cell is free; and
/// counts that were growing are between the old ones and the new ones.
#[test]
fn what_a_flow_carries_is_whole_wherever_the_process_was_killed() {
    let old =
        Carried { base: Some([Counters { packets: u64::MAX >> 32, bytes: 5 }; 2]), ..carried(1) };
    let grown = Counters { packets: (u64::MAX >> 32) + 9, bytes: 50 };
    let new = Carried { base: Some([grown; 2]), ..old };
    let memory_with = |carried: &[Carried]| {
        let mut memory = fresh();
        let mut table = FlowTable::format(&mut memory, CAPACITY, EXTENSIONS, [3, 4]).unwrap();
        let slot = table.insert(&table.key(&tuple(2), 0)).unwrap();
        let labels = Some(Labels([9; 16]));
        table.set_extension(slot, &Extension { labels, ..Extension::default() }).unwrap();
        for carried in carried {
            table.set_carried(slot, carried).unwrap();
        }
        memory
    };
    let looked_at = |mut memory: Vec<u32>| {
        let mut table = FlowTable::open(&mut memory, CAPACITY, EXTENSIONS, 0).unwrap();
        let slot = table.find(&table.key(&tuple(2), 0)).unwrap();
        let flow = table.flow(slot);
        assert_eq!(flow.extension().labels, Some(Labels([9; 16])));
        let found = (flow.carried(), table.usage().permille);
        fill_and_empty(&mut table);
        found
    };
    let (none, with_old, with_new) =
        (memory_with(&[]), memory_with(&[old]), memory_with(&[old, new]));
    // All stores of the first but the last, in any order: nothing is carried.
    let stores: Vec<usize> = (0..none.len()).filter(|&at| none[at] != with_old[at]).collect();
    let link = *stores.iter().find(|&&at| with_old[at] >> 31 == 1).unwrap();
    for left_out in &stores {
        let mut memory = with_old.clone();
        memory[link] = none[link];
        memory[*left_out] = none[*left_out];
        assert_eq!(looked_at(memory), looked_at(none.clone()));
    }
    // Growing, in order: low halves first.
    let mut memory = with_old.clone();
    assert_eq!(looked_at(memory.clone()).0, old);
    for at in (0..memory.len()).filter(|&at| with_old[at] != with_new[at]) {
        memory[at] = with_new[at];
        let [counts, _] = looked_at(memory.clone()).0.base.unwrap();
        assert!(counts.packets <= grown.packets && counts.bytes <= grown.bytes, "{counts:?}");
    }
    assert_eq!(looked_at(memory).0, new);
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
            let _ = table.flow(slot).carried();
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
