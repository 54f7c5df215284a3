//! What is emitted is read back equal, for all values.

use firmware_ctd::wire::{Filter, Message, Writer, request};
use proptest::prelude::*;

use crate::support::{emitted, only, parsed, written};
use crate::values;

/// `message`, emitted and read back.
fn comes_back(message: &Message<'_>) -> Result<(), TestCaseError> {
    let bytes = emitted(message);
    prop_assert_eq!(bytes.len() % 4, 0);
    prop_assert_eq!(parsed(&bytes), Ok(*message));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn conntrack(event in values::event(), ct in values::conntrack()) {
        comes_back(&Message::Conntrack { event, ct })?;
    }

    #[test]
    fn expect(event in values::event(), expect in values::expect()) {
        comes_back(&Message::Expect { event, expect })?;
    }

    #[test]
    fn statistics(
        cpu in values::cpu_stats(),
        expect in values::expect_cpu_stats(),
        global in values::global_stats(),
    ) {
        comes_back(&Message::CpuStats(cpu))?;
        comes_back(&Message::ExpectCpuStats(expect))?;
        comes_back(&Message::GlobalStats(global))?;
    }

    #[test]
    fn answers(response in values::response(), done in values::done()) {
        comes_back(&Message::Response(response))?;
        comes_back(&Message::Done(done))?;
    }

    #[test]
    fn filter(filter in values::filter()) {
        let dump = written(|w| request::dump_filtered(w, 7, &filter));
        prop_assert_eq!(Filter::parse(only(&dump).payload), Ok(filter));
        let flush = written(|w| request::flush(w, 7, Some(&filter)));
        prop_assert_eq!(Filter::parse(only(&flush).payload), Ok(filter));
    }

    /// A buffer of any size holds the whole message or nothing of it.
    #[test]
    fn full_leaves_the_buffer_as_it_was(ct in values::conntrack(), cut in any::<prop::sample::Index>()) {
        let first = written(|w| request::get_stats(w, 1));
        let flags = request::CreateFlags { ack: false, exclusive: true };
        let whole = written(|w| request::create(w, 2, flags, &ct));
        let room = cut.index(whole.len());
        let mut buffer = vec![0; first.len() + room];
        let mut w = Writer::new(&mut buffer);
        prop_assert!(request::get_stats(&mut w, 1).is_ok());
        prop_assert!(request::create(&mut w, 2, flags, &ct).is_err());
        prop_assert_eq!(w.as_bytes(), &first[..]);
    }
}
