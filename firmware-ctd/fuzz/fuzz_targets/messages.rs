//! Any bytes as a datagram: every message that can be read can be emitted and read back equal.
//! What is read back is the emitted bytes, not the input a second time.
#![no_main]

use std::cell::RefCell;

use firmware_ctd::wire::{Filter, Message, Messages, RawMessage, Writer, request};
use libfuzzer_sys::fuzz_target;

/// More than a message grows by being emitted: headers of nests, 64-bit counters for 32-bit ones.
const BUFFER: usize = 1 << 18;

thread_local! {
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

fuzz_target!(|datagram: &[u8]| {
    ROOM.with_borrow_mut(|room| {
        for raw in Messages::new(datagram).flatten() {
            message(&raw, room);
            filter(&raw, room);
        }
    });
});

fn message(raw: &RawMessage<'_>, room: &mut [u8]) {
    let Ok(message) = Message::parse(raw) else { return };
    let mut w = Writer::new(room);
    message.emit(&mut w, raw.header.seq).expect("fits");
    let again = Messages::new(w.as_bytes()).next().expect("a message").expect("well formed");
    assert_eq!(again.header.seq, raw.header.seq);
    assert_eq!(Message::parse(&again), Ok(message));
}

/// The same bytes as a filtered request.
fn filter(raw: &RawMessage<'_>, room: &mut [u8]) {
    let Ok(filter) = Filter::parse(raw.payload) else { return };
    let mut w = Writer::new(room);
    request::dump_filtered(&mut w, 1, &filter).expect("fits");
    let again = Messages::new(w.as_bytes()).next().expect("a message").expect("well formed");
    assert_eq!(Filter::parse(again.payload), Ok(filter));
}
