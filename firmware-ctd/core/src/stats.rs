//! Counters: what happened, and the loss ledger: what was lost, by cause.
//!
//! Counters only grow, wrap never (64 bits) and start at zero with the daemon. The ledger is kept
//! apart so that "was anything lost?" has one place to look.

/// Defines a struct of counters and a list of them with names and explanations.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $help:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = $help] $(#[$field_doc])* pub $field: u64,)*
        }

        impl $name {
            /// Every counter: its name, its value, and what it counts.
            #[must_use]
            pub fn all(&self) -> [(&'static str, u64, &'static str); $name::COUNT] {
                [$((stringify!($field), self.$field, $help),)*]
            }

            /// Every counter's value.
            #[must_use]
            pub const fn values(&self) -> [u64; $name::COUNT] {
                [$(self.$field,)*]
            }

            /// Counters of these values, in the order of [`Self::values`].
            #[must_use]
            pub const fn from_values(values: [u64; $name::COUNT]) -> Self {
                let [$($field,)*] = values;
                Self { $($field,)* }
            }

            /// What stands for each counter's name where it is carried elsewhere, in the order of
            /// [`Self::values`].
            pub const IDS: [u32; $name::COUNT] = [$(id_of(stringify!($field)),)*];

            /// How many counters there are.
            pub const COUNT: usize = [$(stringify!($field)),*].len();
        }
    };
}

/// FNV-1a (32 bits) of a counter's name.
const fn id_of(name: &str) -> u32 {
    let (bytes, mut at, mut hash) = (name.as_bytes(), 0, 0x811c_9dc5_u32);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

counters! {
    /// What happened.
    Stats {
        events_new: "NEW events",
        events_update: "UPDATE events",
        events_destroy: "DESTROY events, repeats included",
        repeated_destroys: "DESTROY events repeated by the kernel, recognised by key and dropped",
        destroys_without_new: "DESTROY events of flows that the table did not hold",
        updates_without_new: "UPDATE events of flows that the table did not hold",
        late_events: "NEW or UPDATE events of flows already destroyed",
        tuples_reused: "flows that began while an earlier one with their tuple was not yet reported",
        weak_keys: "records without a start, whose repeats cannot be recognised",
        inexact_flows: "flows whose counters ran backwards: another program zeroes them",
        state_overruns: "deliveries to the state socket that found its buffer full (attempts)",
        destroy_overruns: "deliveries to the destroy socket that found its buffer full (attempts)",
        dumps: "dumps of the kernel's table completed",
        dump_entries: "flows shown by dumps",
        dumps_failed: "dumps that failed or were interrupted, and are made again",
        resyncs: "dumps made because events were lost",
        flows_missed: "flows that a dump no longer showed, to be confirmed by a second one",
        ghosts: "flows made from late events that never lived, dropped in silence",
        stale_dump_entries: "flows that a dump still showed after their DESTROY",
        expectations: "expectation messages",
        foreign_messages: "messages of a sender that is not the kernel, refused",
        other_messages: "messages of other kinds",
        settings_restored: "kernel settings that somebody changed and the daemon set again",
    }
}

counters! {
    /// What was lost, by cause. Each entry counts destroyed flows unless it says otherwise.
    Ledger {
        malformed: "messages that could not be read (messages)",
        truncated: "messages longer than the receive buffer (messages)",
        vanished_unseen: "flows whose end nobody told: reported with their last known counters",
        table_full: "times that a flow was not held for want of room (attempts): such flows are \
            reported from their DESTROY alone",
        extensions_full: "flows held without labels, helper or the like for want of room",
        carried_full: "flows whose earlier counts and start were not held for want of room in the \
            table: marked inexact",
        clients_behind: "lines that slow readers of the event stream missed (best effort)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_counters_have_one_id() {
        let ids = Stats::IDS.iter().chain(&Ledger::IDS);
        assert_eq!(
            ids.collect::<std::collections::BTreeSet<_>>().len(),
            Stats::COUNT + Ledger::COUNT
        );
        // The test vector "foobar" of the authors of FNV.
        assert_eq!(id_of("foobar"), 0xbf9c_f968);
    }

    #[test]
    fn every_counter_is_listed_by_name() {
        let stats = Stats { dumps: 3, ..Stats::default() };
        assert!(stats.all().iter().any(|&(name, value, _)| name == "dumps" && value == 3));
        assert_eq!(stats.all().len(), Stats::COUNT);
    }
}
