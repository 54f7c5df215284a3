//! What the demo prints while it runs: at most 80 columns, at a pace that can be read.
//!
//! A sample of the flows is shown, [`SHOWN_PER_SECOND`] beginnings a second, and the end of every
//! flow whose beginning was shown. On a terminal the last line is a progress line that is written
//! over; elsewhere it is a plain line every two seconds.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::{HOSTS, Options};
use crate::lab::records::Record;
use crate::lab::{Count, Progress, Tuple, clock};

/// Flows a second whose beginning is printed.
const SHOWN_PER_SECOND: u32 = 6;
/// How often a plain progress line is printed.
const PLAIN: Duration = Duration::from_secs(2);

/// The demo's voice.
#[derive(Debug)]
pub(super) struct Show<'a, W> {
    out: &'a mut W,
    terminal: bool,
    begin: Instant,
    shown: u32,
    open: HashSet<Tuple>,
    last_plain: Option<Instant>,
}

impl<'a, W: Write> Show<'a, W> {
    pub(super) fn new(out: &'a mut W, terminal: bool) -> Self {
        let begin = clock::now();
        Self { out, terminal, begin, shown: 0, open: HashSet::new(), last_plain: None }
    }

    pub(super) fn into_inner(self) -> &'a mut W {
        self.out
    }

    pub(super) fn introduction(&mut self, options: &Options) -> io::Result<()> {
        self.begin = clock::now();
        writeln!(
            self.out,
            "\n  {} LAN hosts ---- [ router: masquerade + firmware-ctd ] ---- {} WAN hosts\n  \
             192.0.2.0/24                  198.51.100.1          198.51.100.0/24\n  \
             2001:db8:1::/64            forwards IPv6            2001:db8:2::/64\n\n\
             {} flows in {} s; a sample of what the daemon tells (+ begins, - ends):\n\n  \
             {:<6} {:<47}{:>7} {:>7} {:>6}",
            HOSTS.lan_hosts,
            HOSTS.wan_hosts,
            grouped(options.flows.into()),
            options.seconds,
            "",
            "",
            "up",
            "down",
            "time",
        )
    }

    /// Shows a record if it is in the sample.
    pub(super) fn record(&mut self, record: &Record) -> io::Result<()> {
        let orig = record.told.orig;
        match record.kind.as_str() {
            "new" if self.may_show() => {
                self.shown += 1;
                self.open.insert(orig);
                self.line(&format!("+ {}", flow(&orig)))
            }
            "destroy" if self.open.remove(&orig) => {
                let [up, down] = [record.told.orig_count, record.told.reply_count].map(volume);
                let time = record.duration().map_or("?".to_owned(), |s| format!("{s:.2}s"));
                self.line(&format!("- {:<54}{up:>7} {down:>7} {time:>6}", flow(&orig)))
            }
            _ => Ok(()),
        }
    }

    fn may_show(&self) -> bool {
        let due = self.begin.elapsed().as_millis() * u128::from(SHOWN_PER_SECOND) / 1000;
        u128::from(self.shown) <= due
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        self.wipe()?;
        writeln!(self.out, "{text}")
    }

    fn wipe(&mut self) -> io::Result<()> {
        if self.terminal { write!(self.out, "\r\x1b[K") } else { Ok(()) }
    }

    /// How far the transfers are.
    pub(super) fn progress(&mut self, progress: &Progress, live: usize) -> io::Result<()> {
        let (ended, planned) = (progress.ended, progress.planned.max(1));
        let bar = (u64::from(ended) * 20 / u64::from(planned)).min(20);
        let done = "#".repeat(usize::try_from(bar).unwrap_or_default());
        let (ended, planned) = (grouped(ended.into()), grouped(planned.into()));
        self.status(&format!(
            "  [{done:<20}] {ended} of {planned} transfers, {live} flows in the router",
        ))
    }

    /// The transfers are done; flows are still to time out.
    pub(super) fn waiting(&mut self, live: usize) -> io::Result<()> {
        self.status(&format!("  transfers done, {live} flows still to end in the router"))
    }

    fn status(&mut self, text: &str) -> io::Result<()> {
        if self.terminal {
            write!(self.out, "\r\x1b[K{text}")?;
            return self.out.flush();
        }
        if self.last_plain.is_none_or(|last| last.elapsed() >= PLAIN) {
            self.last_plain = Some(clock::now());
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }

    /// Ends the live part.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.wipe()?;
        writeln!(self.out)
    }
}

/// Protocol and addresses, 54 columns at most.
fn flow(tuple: &Tuple) -> String {
    let name = tuple.proto.name();
    if tuple.proto.is_icmp() {
        let (src, dst) = (tuple.src.ip(), tuple.dst.ip());
        return format!("{name:<6} {src} > {dst} id {}", tuple.src.port());
    }
    format!("{name:<6} {} > {}", tuple.src, tuple.dst)
}

fn volume(count: Option<Count>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| bytes(count.bytes))
}

/// Bytes in seven columns at most, up to a terabyte.
pub(super) fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    let whole = bytes / unit;
    if whole >= 100 {
        return format!("{whole} {name}");
    }
    format!("{whole}.{} {name}", bytes % unit * 10 / unit)
}

/// A number with commas.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Show, bytes, grouped};
    use crate::demo::Options;
    use crate::lab::records::Record;

    #[test]
    fn bytes_fit_their_column() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_999, "99.9 kB"),
            (253_900, "253 kB"),
            (1_500_000, "1.5 MB"),
            (999_999_999_999, "999 GB"),
        ] {
            assert_eq!(bytes(number), text);
            assert!(text.len() <= 7);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    /// The widest flow there is, begun and ended, on a terminal and elsewhere.
    #[test]
    fn lines_fit_in_eighty_columns() {
        let wide = |kind: &str, key: &str| {
            let v6 = "2001:db8:1::fa";
            let way = format!(
                r#"{{"src":"{v6}","dst":"{v6}","sport":65535,"dport":65535,"packets":9,"bytes":999999}}"#
            );
            let line = format!(
                r#"{{"type":"{kind}","{key}":"0","start":1.0,"end":999.5,"proto":"tcp","orig":{way},"reply":{way}}}"#
            );
            Record::parse(&line).unwrap()
        };
        let mut out = Vec::new();
        let mut show = Show::new(&mut out, false);
        show.introduction(&Options { flows: 100_000, ..Options::default() }).unwrap();
        show.record(&wide("new", "flow")).unwrap();
        show.record(&wide("destroy", "key")).unwrap();
        show.end().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("\n+ tcp ") && text.contains("999 kB 998.50s"), "{text}");
    }
}
