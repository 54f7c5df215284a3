//! Standard output of the commands, without the lock and the lines of std's, which the daemon has no
//! use for.

use std::io::{self, BufWriter, ErrorKind, Write};

use super::sys::standard_output;
use crate::exit;

#[derive(Debug)]
struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(standard_output(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives standard output to `write`, who need not flush.
///
/// # Errors
///
/// What `write` or the output says. That nobody reads any more is none.
pub fn to_output(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut output = BufWriter::new(Output);
    let done = write(&mut output).and_then(|()| output.flush());
    // What could not be written once is not tried again.
    drop(output.into_parts());
    done.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Prints a text; the exit code.
#[must_use]
pub fn print(text: &str) -> u8 {
    to_output(|out| out.write_all(text.as_bytes())).map_or(exit::IO, |()| exit::OK)
}
