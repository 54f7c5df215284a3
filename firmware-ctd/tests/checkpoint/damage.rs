//! What is damaged is refused, and the other of two images is loaded.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use firmware_ctd::checkpoint::pair::{Choice, Found, Slot, choose};
use firmware_ctd::checkpoint::{Facts, Fault, FaultKind, Reader, SavedFlow, Section};
use firmware_ctd::daemon::checkpoint::files::Files;
use firmware_ctd::time::WallTime;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::arbitrary::{expectation, flow};
use super::support::{Content, Noise, read};

/// An image with a few of everything.
fn image(generation: u64, flows: usize) -> Vec<u8> {
    let mut runner = TestRunner::deterministic();
    let flows: Vec<SavedFlow> = (0..flows + usize::try_from(generation).unwrap())
        .map(|_| flow().new_tree(&mut runner).unwrap().current())
        .collect();
    Content {
        facts: Facts { generation, wall_ns: 1_795_289_206_230_000_000, ..Facts::default() },
        flows,
        expectations: vec![expectation().new_tree(&mut runner).unwrap().current()],
        words: vec![(Section::words(1), 1, vec![u32::try_from(generation).unwrap(); 20])],
    }
    .image()
}

fn open(image: &[u8]) -> Result<Facts, Fault> {
    Reader::open(Cursor::new(image)).map(|reader| *reader.facts())
}

fn found(image: &[u8]) -> Found {
    open(image).map_or_else(Found::Faulty, Found::Good)
}

#[test]
fn an_image_that_is_cut_anywhere_is_refused_where_it_ends() {
    let image = image(1, 40);
    for len in 0..image.len() {
        let fault = open(&image[..len]).unwrap_err();
        assert_eq!(fault, Fault { offset: len as u64, what: FaultKind::Cut }, "{len}");
    }
    let mut longer = image.clone();
    longer.push(0);
    let end = image.len() as u64;
    assert_eq!(open(&longer), Err(Fault { offset: end, what: FaultKind::BytesAfterEnd }));
}

#[test]
fn an_image_with_any_bit_flipped_is_refused_at_or_before_that_byte() {
    let mut image = image(1, 40);
    for byte in 0..image.len() {
        for bit in 0..8 {
            image[byte] ^= 1 << bit;
            let fault = open(&image).unwrap_err();
            // A length that is too long is found at the end of the file.
            let cut = fault.what == FaultKind::Cut && fault.offset == image.len() as u64;
            assert!(cut || fault.offset <= byte as u64, "{byte}.{bit}: {fault}");
            assert!(Reader::reopen(Cursor::new(&image)).is_err(), "{byte}.{bit}, by checksums");
            image[byte] ^= 1 << bit;
        }
    }
    assert!(open(&image).is_ok());
    let (opened, reopened) =
        (Reader::open(Cursor::new(&image)), Reader::reopen(Cursor::new(&image)));
    let (opened, reopened) = (opened.unwrap(), reopened.unwrap());
    assert_eq!((opened.facts(), opened.summary()), (reopened.facts(), reopened.summary()));
}

#[test]
fn other_files_are_told_apart() {
    let fault = |bytes: &[u8]| open(bytes).unwrap_err();
    assert_eq!(fault(b"#!/bin/sh\n"), Fault { offset: 0, what: FaultKind::NotAnImage });
    assert_eq!(fault(b""), Fault { offset: 0, what: FaultKind::Cut });
    assert_eq!(fault(&[0; 4096]), Fault { offset: 0, what: FaultKind::NotAnImage });
    let mut later = image(1, 1);
    later[9] = 2;
    assert_eq!(fault(&later), Fault { offset: 8, what: FaultKind::Version(2) });
}

#[test]
fn sections_that_are_not_known_are_skipped() {
    let image = image(1, 5);
    // A block of section 0x7777 before the last one: the totals are made by hand.
    let (before, end) = image.split_at(image.len() - 36);
    let mut block = vec![0x77, 0x77, 0xab, 0xcd, 0, 0, 0, 3, 1, 2, 3];
    block.extend_from_slice(&crc(&block).to_be_bytes());
    let mut longer = before.to_vec();
    longer.extend_from_slice(&block);
    let mut end = end.to_vec();
    let word = |end: &[u8], at: usize| u32::from_be_bytes(end[at..at + 4].try_into().unwrap());
    let blocks = word(&end, 20) + 1;
    let bytes = u32::try_from(image.len() + block.len()).unwrap();
    end[20..24].copy_from_slice(&blocks.to_be_bytes());
    end[24..28].copy_from_slice(&bytes.to_be_bytes());
    end[28..32].copy_from_slice(&crc(&checksums(&longer)).to_be_bytes());
    let sum = crc(&end[..32]).to_be_bytes();
    end[32..].copy_from_slice(&sum);
    longer.extend_from_slice(&end);
    let (plain, more) = (read(&image).unwrap(), read(&longer).unwrap());
    assert_eq!(plain, more);
    let reader = Reader::open(Cursor::new(&longer)).unwrap();
    let unknown = reader.summary().sections.iter().find(|s| s.section.number() == 0x7777);
    assert_eq!(unknown.unwrap().bytes, 3);
}

/// The checksums of header and blocks as they stand.
fn checksums(image: &[u8]) -> Vec<u8> {
    let mut all = image[60..64].to_vec();
    let mut rest = &image[64..];
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize;
        all.extend_from_slice(&rest[8 + len..12 + len]);
        rest = &rest[12 + len..];
    }
    all
}

/// CRC-32, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// A directory that is removed at the end of its test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ctd-ckpt-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(files: &Files, slot: Slot, image: &[u8], now: WallTime) {
    let mut draft = files.begin(slot).unwrap();
    draft.write_all(image).unwrap();
    draft.commit(now).unwrap();
}

const NOW: WallTime = WallTime::from_nanos(1_795_289_206_230_000_000);

#[test]
fn images_take_turns_on_disk() {
    let directory = Directory::new("turns");
    let files = Files::new(directory.0.clone());
    assert_eq!(files.find(), [Found::Missing; 2]);
    for generation in 1..=4 {
        let Choice { write: slot, generation: next, .. } = choose(&files.find());
        assert_eq!(next, generation);
        write(&files, slot, &image(generation, 3), NOW);
        let choice = choose(&files.find());
        assert_eq!(choice.load, Some(slot));
        assert_eq!(choice.write, slot.other());
    }
    let mut names: Vec<_> =
        fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.ckpt", "b.ckpt"]);
}

#[test]
fn the_file_is_never_later_than_the_clock() {
    let directory = Directory::new("time");
    let files = Files::new(directory.0.clone());
    // A clock that is years behind the kernel's.
    let now = WallTime::from_nanos(1_000_000_000_123_456_789);
    write(&files, Slot::A, b"anything", now);
    let time = fs::metadata(files.path(Slot::A)).unwrap().modified().unwrap();
    assert_eq!(time, UNIX_EPOCH + Duration::from_nanos(now.as_nanos()));
    // One that is ahead changes nothing.
    write(&files, Slot::A, b"anything", WallTime::from_nanos(u64::MAX));
    let time = fs::metadata(files.path(Slot::A)).unwrap().modified().unwrap();
    assert!(time > UNIX_EPOCH + Duration::from_nanos(now.as_nanos()));
}

#[test]
fn failures_name_their_step() {
    let directory = Directory::new("steps");
    let gone = Files::new(directory.0.join("gone"));
    let error = gone.begin(Slot::A).unwrap_err().to_string();
    assert!(error.starts_with("creating: "), "{error}");
    let files = Files::new(directory.0.clone());
    fs::create_dir(files.temporary(Slot::B)).unwrap();
    let error = files.begin(Slot::A).unwrap_err().to_string();
    assert!(error.starts_with("removing an old temporary: "), "{error}");
    fs::remove_dir(files.temporary(Slot::B)).unwrap();
    fs::create_dir(files.path(Slot::A)).unwrap();
    let draft = files.begin(Slot::A).unwrap();
    let error = draft.commit(NOW).unwrap_err().to_string();
    assert!(error.starts_with("renaming: "), "{error}");
    let draft = files.begin(Slot::B).unwrap();
    draft.discard().unwrap();
    assert_eq!(files.find()[1], Found::Missing);
    assert!(!files.temporary(Slot::B).exists());
}

#[test]
fn a_power_cut_at_any_byte_of_a_write_leaves_the_older_image() {
    let directory = Directory::new("cut");
    let files = Files::new(directory.0.clone());
    let (old, new) = (image(1, 20), image(2, 20));
    write(&files, Slot::A, &old, NOW);
    for len in 0..new.len() {
        // In the temporary, as it should be; or in the slot, by a file system that reorders.
        fs::write(files.temporary(Slot::B), &new[..len]).unwrap();
        assert_eq!(choose(&files.find()).load, Some(Slot::A));
        fs::rename(files.temporary(Slot::B), files.path(Slot::B)).unwrap();
        let choice = choose(&files.find());
        assert_eq!((choice.load, choice.write), (Some(Slot::A), Slot::B), "{len}");
        fs::remove_file(files.path(Slot::B)).unwrap();
    }
    fs::write(files.temporary(Slot::B), b"left over").unwrap();
    write(&files, Slot::B, &new, NOW);
    assert_eq!(choose(&files.find()).load, Some(Slot::B));
}

/// One way in which storage fails.
fn damage(image: &mut Vec<u8>, other: &[u8], noise: &mut Noise) {
    match noise.below(5) {
        0 => image.truncate(noise.below(image.len())),
        1 => {
            let at = noise.below(image.len());
            image[at] ^= 1 << noise.below(8);
        }
        2 => {
            for _ in 0..=noise.below(8) {
                let at = noise.below(image.len());
                image[at] = u8::try_from(noise.below(256)).unwrap();
            }
        }
        // A page of another file, of an earlier time of this one, or never written.
        kind => {
            let pages = image.len().div_ceil(4096);
            let from = 4096 * noise.below(pages);
            let to = image.len().min(from + 4096);
            for (at, byte) in image.iter_mut().enumerate().take(to).skip(from) {
                *byte = if kind == 3 { 0 } else { other.get(at).copied().unwrap_or(0xff) };
            }
        }
    }
}

#[test]
fn of_100000_damages_none_is_loaded() {
    // In debug builds a part of them; `cargo test --release` does all.
    let cases = if cfg!(debug_assertions) { 2_000 } else { 100_000 };
    let images = [image(8, 140), image(9, 140)];
    assert!(images.iter().all(|image| image.len() > 2 * 4096), "torn pages need several");
    let sound = [0, 1].map(|at| found(&images[at]));
    let mut noise = Noise::new(1);
    let mut refused = 0;
    for case in 0..cases {
        let mut stored = images.clone();
        // The one that was being written; the other one; now and then both.
        let hit = [noise.below(3) != 0, noise.below(3) == 0];
        for at in [0, 1].into_iter().filter(|&at| hit[at]) {
            let (file, other) = (&mut stored[at], &images[1 - at]);
            damage(file, other, &mut noise);
        }
        let now = [0, 1].map(|at| {
            // A page may have been torn into what it was, or into the whole other image.
            match images.iter().position(|image| *image == stored[at]) {
                Some(which) => sound[which],
                None => found(&stored[at]),
            }
        });
        let expected: Vec<_> = stored.iter().map(|file| images.contains(file)).collect();
        for (at, found) in now.iter().enumerate() {
            assert_eq!(matches!(found, Found::Good(_)), expected[at], "case {case}: {found:?}");
            refused += u32::from(!expected[at]);
        }
        // Slot A holds generation 8 and B generation 9.
        let load = match (expected[0], expected[1]) {
            (_, true) => Some(Slot::B),
            (true, false) => Some(Slot::A),
            (false, false) => None,
        };
        assert_eq!(choose(&now).load, load, "case {case}");
    }
    assert!(refused > cases / 2, "{refused}");
}
