//! Which flows are worth keeping, and which the most.

use core::fmt;

use crate::filter::{Filter, FilterError, FlowFacts};

/// Most rules of a [`Keep`].
pub const MOST_RULES: usize = 8;

/// Rules for what a checkpoint keeps: a flow is kept that meets one of them, and the earlier that
/// stands, the more the flow is worth: it goes first into an image that cannot hold all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    rules: Vec<Filter>,
}

/// A rule that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleFault {
    /// It has a word that filters do not know.
    Word(FilterError),
    /// There are more than [`MOST_RULES`].
    TooMany,
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(error) => error.fmt(f),
            Self::TooMany => write!(f, "one rule too many; allowed: {MOST_RULES}"),
        }
    }
}

impl Keep {
    /// Appends a rule: `all`, `tcp-established`, or words of a [`Filter`].
    ///
    /// # Errors
    /// [`RuleFault`]; nothing is changed.
    pub fn push(&mut self, rule: &str) -> Result<(), RuleFault> {
        let words = match rule.trim() {
            "all" => "",
            "tcp-established" => "proto=tcp state=established",
            words => words,
        };
        let filter = Filter::parse(words.split_ascii_whitespace()).map_err(RuleFault::Word)?;
        if self.rules.len() == MOST_RULES {
            return Err(RuleFault::TooMany);
        }
        self.rules.push(filter);
        Ok(())
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule: then nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first rule that the flow meets: 0 is worth the most. None if it is not kept.
    #[must_use]
    pub fn rank(&self, flow: &FlowFacts<'_>) -> Option<usize> {
        self.rules.iter().position(|rule| rule.matches(flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{L4, Protocol, Status, Tuple};

    fn rank(keep: &Keep, proto: Protocol, status: u32, tcp_state: Option<u8>) -> Option<usize> {
        let l4 = L4::Ports { src: 1, dst: 2 };
        let src = core::net::Ipv4Addr::LOCALHOST.into();
        let tuple = Tuple { src, dst: src, proto, l4 };
        let status = Status(status);
        let (orig, reply) = (&tuple, &tuple);
        keep.rank(&FlowFacts {
            family: 4,
            orig,
            reply,
            zone: 0,
            mark: 0,
            status,
            tcp_state,
            labels: None,
        })
    }

    #[test]
    fn the_first_rule_that_a_flow_meets_is_its_rank() {
        let mut keep = Keep::default();
        assert!(keep.is_empty());
        assert_eq!(rank(&keep, Protocol::TCP, 0, Some(3)), None, "without rules nothing is kept");
        keep.push("tcp-established").unwrap();
        keep.push("assured").unwrap();
        assert_eq!(rank(&keep, Protocol::TCP, Status::ASSURED, Some(3)), Some(0));
        assert_eq!(rank(&keep, Protocol::UDP, Status::ASSURED, None), Some(1));
        assert_eq!(rank(&keep, Protocol::TCP, 0, Some(1)), None);
        keep.push("all").unwrap();
        assert_eq!(rank(&keep, Protocol::TCP, 0, Some(1)), Some(2));
        assert_eq!(keep.len(), 3);
    }

    #[test]
    fn wrong_rules_change_nothing() {
        let mut keep = Keep::default();
        assert!(matches!(keep.push("assured port=x"), Err(RuleFault::Word(e)) if e.index == 1));
        assert!(keep.is_empty());
        for _ in 0..MOST_RULES {
            keep.push("proto=udp port=53").unwrap();
        }
        assert_eq!(keep.push("all"), Err(RuleFault::TooMany));
    }
}
