//! The lines in which a board and its tests talk over a serial port.
//!
//! A test says a command, words with spaces between; the board answers with any number of lines
//! (`| text`) and one last word (`= ok`, `= failed: why`). Between them, at any time but never
//! within a line, come events (`! text`): that it has booted, what the daemon logs. Bytes of files
//! travel in hexadecimal digits. Limits: one command at a time; text without line breaks.

use std::fmt::Write as _;

/// What a board says in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line of the answer.
    Line(String),
    /// The end of the answer: why it failed, if it did.
    Done(Result<(), String>),
    /// Something that happened.
    Event(String),
}

impl Said {
    /// Reads a line; `None` when the board did not make it.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches(['\r', '\n']);
        let (mark, text) = line.split_at_checked(2)?;
        match (mark, text) {
            ("| ", text) => Some(Self::Line(text.to_owned())),
            ("! ", text) => Some(Self::Event(text.to_owned())),
            ("= ", "ok") => Some(Self::Done(Ok(()))),
            ("= ", text) => {
                let why = text.strip_prefix("failed: ")?;
                Some(Self::Done(Err(why.to_owned())))
            }
            _ => None,
        }
    }

    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Line(text) => format!("| {}\n", flat(text)),
            Self::Event(text) => format!("! {}\n", flat(text)),
            Self::Done(Ok(())) => "= ok\n".to_owned(),
            Self::Done(Err(why)) => format!("= failed: {}\n", flat(why)),
        }
    }
}

/// The text on one line.
fn flat(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Bytes in hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hexadecimal digits; `None` where there are others, or half a byte.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Said, from_hex, to_hex};

    #[test]
    fn what_is_said_is_understood() {
        for said in [
            Said::Line(String::new()),
            Said::Line("= ok".to_owned()),
            Said::Event("boot".to_owned()),
            Said::Done(Ok(())),
            Said::Done(Err("no such file".to_owned())),
        ] {
            assert_eq!(Said::parse(&said.line()), Some(said));
        }
        for line in ["", "|", "boot", "= perhaps", "é "] {
            assert_eq!(Said::parse(line), None, "{line}");
        }
        assert_eq!(Said::Line("a\nb".to_owned()).line(), "| a b\n");
    }

    #[test]
    fn bytes_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!([from_hex("1"), from_hex("0g"), from_hex("")], [None, None, Some(Vec::new())]);
    }
}
