//! A client of the control socket that says what a test wants said.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A status.
#[derive(Clone, Debug, PartialEq)]
pub struct Status(pub Value);

impl Status {
    /// A number at the top.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        number(&self.0[name], name)
    }

    /// A counter of what happened.
    #[must_use]
    pub fn stat(&self, name: &str) -> u64 {
        number(&self.0["stats"][name], name)
    }

    /// A counter of what was lost.
    #[must_use]
    pub fn ledger(&self, name: &str) -> u64 {
        number(&self.0["ledger"][name], name)
    }

    /// A number of the first sink.
    #[must_use]
    pub fn sink(&self, name: &str) -> u64 {
        number(&self.0["sinks"][0][name], name)
    }

    /// Every sink.
    ///
    /// # Panics
    /// When there is no list of them.
    #[must_use]
    pub fn sinks(&self) -> &[Value] {
        self.0["sinks"].as_array().unwrap_or_else(|| panic!("the status has no list of sinks"))
    }

    /// Flows in the table.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.number("flows_ipv4") + self.number("flows_ipv6")
    }

    /// Every entry of the ledger that is not 0, but for flows that the full table did not hold:
    /// their destroys are accounted nonetheless, and in a flood those that wait fill any table.
    #[must_use]
    pub fn losses(&self) -> Vec<(String, u64)> {
        let entries = self.0["ledger"].as_object().into_iter().flatten();
        let numbers = entries.map(|(name, value)| (name.clone(), number(value, name)));
        numbers.filter(|(name, value)| *value != 0 && name != "table_full").collect()
    }
}

#[expect(clippy::panic, reason = "a status without a counter fails the test that asks for it")]
fn number(value: &Value, name: &str) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("the status has no number {name}"))
}

/// Asks one question; everything answered after `ok`.
///
/// # Errors
/// When the daemon does not answer, or refuses: the refusal is the message.
pub fn ask(socket: &Path, question: &str) -> io::Result<String> {
    let stream = connect(socket)?;
    let asked = (&stream).write_all(format!("{question}\n").as_bytes());
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    if first != "ok\n" {
        asked?;
        return Err(io::Error::other(format!("answered {first:?}")));
    }
    let mut answer = String::new();
    reader.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A connection with time limits.
///
/// # Errors
/// When nobody answers there.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The status of the daemon at `socket`.
///
/// # Errors
/// When it does not answer with one.
pub fn status(socket: &Path) -> io::Result<Status> {
    Ok(Status(serde_json::from_str(&ask(socket, "status json")?)?))
}
