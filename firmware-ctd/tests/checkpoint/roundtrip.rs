//! What goes in comes out.

use firmware_ctd::checkpoint::{EncodeError, Encoder, EncoderMemory, Limit, Section};
use proptest::collection::vec;
use proptest::prelude::*;

use super::arbitrary::{expectation, facts, flow};
use super::support::{Content, read};

fn content() -> impl Strategy<Value = Content> {
    let words = (any::<u32>(), vec(any::<u32>(), 1..3000));
    (facts(), vec(flow(), 0..300), vec(expectation(), 0..8), vec(words, 0..4)).prop_map(
        |(facts, flows, expectations, words)| Content {
            facts,
            flows,
            expectations,
            words: (0..)
                .zip(words)
                .map(|(number, (version, words))| (Section::words(number), version, words))
                .collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn everything_comes_back_as_it_was(content in content()) {
        let read = read(&content.image()).unwrap();
        // Flows with equal starts come in the order in which they were given.
        prop_assert_eq!(read, content.sorted());
    }

    #[test]
    fn a_limit_is_kept_and_nothing_accepted_is_lost(
        content in content(),
        limit in 200..60_000_u32,
        reserve in 0..2_000_u32,
    ) {
        let mut memory = EncoderMemory::new();
        let limit = Limit { bytes: Some(limit), reserve };
        let mut encoder = Encoder::new(&mut memory, Vec::new(), &content.facts, limit).unwrap();
        let mut accepted = Content { facts: content.facts, ..Content::default() };
        let full = |result| match result {
            Ok(()) => true,
            Err(EncodeError::Full) => false,
            Err(EncodeError::Io(error)) => panic!("{error}"),
        };
        for flow in &content.flows {
            if full(encoder.flow(flow)) {
                accepted.flows.push(*flow);
            }
        }
        for expectation in &content.expectations {
            if full(encoder.expectation(expectation)) {
                accepted.expectations.push(*expectation);
            }
        }
        for (section, version, words) in &content.words {
            if full(encoder.words(*section, *version, words)) {
                accepted.words.push((*section, *version, words.clone()));
            }
        }
        let (image, summary) = encoder.finish().unwrap();
        prop_assert!(image.len() <= limit.bytes.unwrap() as usize);
        prop_assert_eq!(summary.bytes as usize, image.len());
        let mut read = read(&image).unwrap();
        // Near the limit batches are small, and so the order is another.
        for flows in [&mut read.flows, &mut accepted.flows] {
            flows.sort_by_key(|flow| format!("{flow:?}"));
        }
        prop_assert_eq!(read, accepted);
    }
}
