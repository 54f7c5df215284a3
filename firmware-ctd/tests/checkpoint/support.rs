//! Writing and reading whole images.

use std::io::Cursor;
use std::ops::ControlFlow;

use firmware_ctd::checkpoint::{
    Encoder, EncoderMemory, Facts, Fault, Limit, Reader, SavedExpect, SavedFlow, Section, Summary,
};

/// All that an image holds, in the order in which it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) facts: Facts,
    pub(crate) flows: Vec<SavedFlow>,
    pub(crate) expectations: Vec<SavedExpect>,
    /// Section, version, words.
    pub(crate) words: Vec<(Section, u32, Vec<u32>)>,
}

impl Content {
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut memory = EncoderMemory::new();
        self.image_with(&mut memory).0
    }

    pub(crate) fn image_with(&self, memory: &mut EncoderMemory) -> (Vec<u8>, Summary) {
        let mut encoder = Encoder::new(memory, Vec::new(), &self.facts, Limit::default()).unwrap();
        for flow in &self.flows {
            encoder.flow(flow).unwrap();
        }
        for expectation in &self.expectations {
            encoder.expectation(expectation).unwrap();
        }
        for (section, version, words) in &self.words {
            encoder.words(*section, *version, words).unwrap();
        }
        encoder.finish().unwrap()
    }

    /// The same, with the flows of each batch of 1,024 in the order that the format gives them.
    pub(crate) fn sorted(mut self) -> Self {
        for batch in self.flows.chunks_mut(1024) {
            batch.sort_by_key(|flow| flow.start_ms);
        }
        self
    }
}

/// Reads everything, twice, and compares it with the summary.
pub(crate) fn read(image: &[u8]) -> Result<Content, Fault> {
    let mut reader = Reader::open(Cursor::new(image))?;
    let mut content = Content { facts: *reader.facts(), ..Content::default() };
    let mut again = Vec::new();
    for flows in [&mut content.flows, &mut again] {
        reader.flows(&mut |flow| {
            flows.push(*flow);
            ControlFlow::Continue(())
        })?;
    }
    assert_eq!(again, content.flows);
    reader.expectations(&mut |expectation| {
        content.expectations.push(*expectation);
        ControlFlow::Continue(())
    })?;
    let summary = reader.summary().clone();
    for section in &summary.sections {
        let mut all = Vec::new();
        reader.words(section.section, &mut |version, words| {
            assert_eq!(version, section.version);
            all.extend_from_slice(words);
            ControlFlow::Continue(())
        })?;
        if section.section.is_words() {
            assert_eq!(section.bytes as usize, 4 * all.len());
            content.words.push((section.section, section.version, all));
        }
    }
    assert_eq!(summary.bytes as usize, image.len());
    assert_eq!(summary.flows as usize, content.flows.len());
    let ipv6 = content.flows.iter().filter(|flow| flow.orig.src.is_ipv6()).count();
    assert_eq!(summary.ipv6 as usize, ipv6);
    assert_eq!(summary.expectations as usize, content.expectations.len());
    Ok(content)
}

/// A small generator of noise (xorshift*).
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let noise = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from((u128::from(noise) * bound as u128) >> 32).unwrap()
    }
}
