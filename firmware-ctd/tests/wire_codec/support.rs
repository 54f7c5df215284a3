//! What the tests of the wire codec share.

use firmware_ctd::wire::{Error, Message, Messages, RawMessage, Writer};

/// Bytes of a buffer that takes any one message.
pub(crate) const BUFFER: usize = 1 << 17;

/// `message` as bytes.
pub(crate) fn emitted(message: &Message<'_>) -> Vec<u8> {
    written(|w| message.emit(w, 0))
}

/// What `write` writes.
pub(crate) fn written<E: std::fmt::Debug>(
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), E>,
) -> Vec<u8> {
    let mut buffer = vec![0xa5; BUFFER];
    let mut w = Writer::new(&mut buffer);
    write(&mut w).expect("fits");
    w.as_bytes().to_vec()
}

/// The one message in `bytes`.
pub(crate) fn only(bytes: &[u8]) -> RawMessage<'_> {
    let mut messages = Messages::new(bytes);
    let first = messages.next().expect("a message").expect("well formed");
    assert!(messages.next().is_none(), "more than one message");
    first
}

/// The one message in `bytes`, read.
pub(crate) fn parsed(bytes: &[u8]) -> Result<Message<'_>, Error> {
    Message::parse(&only(bytes))
}
