//! Any bytes as a checkpoint image: as they are, and with every checksum and total made right, so
//! that it gets behind them. What can be read can be written and read back equal.
#![no_main]

use std::io::Cursor;
use std::ops::ControlFlow;

use firmware_ctd::checkpoint::{
    Encoder, EncoderMemory, Facts, Limit, Reader, SavedExpect, SavedFlow, Section,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    let mut image = bytes.to_vec();
    if repair(&mut image).is_some() {
        look(&image);
    }
});

#[derive(Debug, Default, PartialEq)]
struct Content {
    facts: Facts,
    flows: Vec<SavedFlow>,
    expectations: Vec<SavedExpect>,
    words: Vec<(Section, u32, Vec<u32>)>,
}

/// Everything in an image, if it is good.
fn read(image: &[u8]) -> Option<Content> {
    let mut reader = Reader::open(Cursor::new(image)).ok()?;
    let mut content = Content { facts: *reader.facts(), ..Content::default() };
    let go_on = ControlFlow::Continue(());
    reader
        .flows(&mut |flow| {
            content.flows.push(*flow);
            go_on
        })
        .expect("it was verified");
    reader
        .expectations(&mut |expectation| {
            content.expectations.push(*expectation);
            go_on
        })
        .expect("it was verified");
    assert_eq!(content.flows.len(), reader.summary().flows as usize);
    for section in reader.summary().sections.clone() {
        let mut all = Vec::new();
        let mut each = |version: u32, words: &[u32]| {
            if version == section.version {
                all.extend_from_slice(words);
            }
            go_on
        };
        reader.words(section.section, &mut each).expect("it was verified");
        if section.section.is_words() {
            content.words.push((section.section, section.version, all));
        }
    }
    Some(content)
}

fn look(image: &[u8]) {
    let Some(mut content) = read(image) else { return };
    let mut memory = EncoderMemory::new();
    let mut encoder =
        Encoder::new(&mut memory, Vec::new(), &content.facts, Limit::default()).expect("a vector");
    for flow in &content.flows {
        encoder.flow(flow).expect("a vector");
    }
    for expectation in &content.expectations {
        encoder.expectation(expectation).expect("a vector");
    }
    for (section, version, words) in &content.words {
        encoder.words(*section, *version, words).expect("a vector");
    }
    let (again, _) = encoder.finish().expect("a vector");
    let again = read(&again).expect("what was written can be read");
    for batch in content.flows.chunks_mut(1024) {
        batch.sort_by_key(|flow| flow.start_ms);
    }
    assert_eq!(content, again);
}

/// Makes checksums and the total of bytes right; the counts at the end are the fuzzer's business.
fn repair(image: &mut Vec<u8>) -> Option<()> {
    image.get_mut(..12)?.copy_from_slice(b"FWCTDckp\0\x01\0\x40");
    let sum = crc(image.get(..60)?).to_be_bytes();
    image.get_mut(60..64)?.copy_from_slice(&sum);
    let mut sums = sum.to_vec();
    let mut at = 64;
    loop {
        let head = image.get(at..at + 8)?;
        let section = u16::from_be_bytes([head[0], head[1]]);
        let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let end = at.checked_add(8)?.checked_add(len)?;
        if section == 3 && len >= 24 {
            let bytes = u32::try_from(end + 4).ok()?.to_be_bytes();
            image.get_mut(at + 24..at + 28)?.copy_from_slice(&bytes);
            let sums = crc(&sums).to_be_bytes();
            image.get_mut(at + 28..at + 32)?.copy_from_slice(&sums);
        }
        let sum = crc(image.get(at..end)?).to_be_bytes();
        image.get_mut(end..end + 4)?.copy_from_slice(&sum);
        sums.extend_from_slice(&sum);
        at = end + 4;
        if section == 3 {
            image.truncate(at);
            return Some(());
        }
    }
}

/// CRC-32, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}
