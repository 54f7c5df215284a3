//! The commands `checkpoint show` and `checkpoint verify`: what is in an image file.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::Path;

use super::files;
use super::load;
use crate::checkpoint::{Facts, Fault, FaultKind, Reader, SavedExpect, SavedFlow, Summary};
use crate::daemon::lines;
use crate::daemon::output::{print, to_output};
use crate::exit;
use crate::record::text::Text;
use crate::record::{Cause, Kind, Record, RecordKey, json};
use crate::time::NANOS_PER_MILLI;

/// The command `checkpoint verify`: one line, and the exit code.
#[must_use]
pub fn verify(path: &Path) -> u8 {
    match files::open(path) {
        Ok(reader) => print(&verdict(&reader)),
        Err(fault) => refuse(path, fault),
    }
}

/// The command `checkpoint show`: facts, totals, and every flow and expectation; the exit code.
#[must_use]
pub fn show(path: &Path, json: bool) -> u8 {
    let mut reader = match files::open(path) {
        Ok(reader) => reader,
        Err(fault) => return refuse(path, fault),
    };
    let mut fault = None;
    let printed = to_output(|out| {
        let facts = reader.facts();
        let directory = path.parent().unwrap_or(path);
        let ended = facts.orderly || load::mark_of(directory, facts).is_some();
        let head = if json { head_json(&reader, ended) } else { head_text(&reader, ended) };
        out.write_all(head.as_bytes())?;
        let mut done = Ok(());
        let mut line = |write: &dyn Fn(&mut Text<'_>)| {
            let mut room = [0; json::MAX_LINE];
            let mut text = Text::new(&mut room);
            write(&mut text);
            done = out.write_all(text.as_bytes());
            if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let all = reader
            .flows(&mut |flow| {
                let record = record(flow);
                line(&|text| {
                    if json { json::line(text, &record) } else { lines::line(text, &record) }
                })
            })
            .and_then(|()| {
                reader.expectations(&mut |expectation| {
                    line(&|text| {
                        if json {
                            expect_json(text, expectation);
                        } else {
                            expect_text(text, expectation);
                        }
                    })
                })
            });
        fault = all.err();
        done
    });
    // The file has changed since it was verified.
    let code = printed.map_or(exit::IO, |()| exit::OK);
    fault.map_or(code, |fault| refuse(path, fault))
}

pub(super) fn refuse(path: &Path, fault: Fault) -> u8 {
    let path = path.display();
    let (code, text) = match fault.what {
        FaultKind::Io(ErrorKind::PermissionDenied) => {
            (exit::NO_PERMISSION, format!("{path}: permission denied; read it as root"))
        }
        FaultKind::Io(kind) => (exit::IO, format!("{path}: {kind}")),
        _ => (exit::DATA, format!("{path}: {fault}; it will not be loaded")),
    };
    // Nobody is left to tell when standard error is gone; the exit code still tells.
    let _ = writeln!(io::stderr(), "firmware-ctd: {text}");
    code
}

fn verdict(reader: &Reader<File>) -> String {
    let Summary { flows, ipv6, expectations, bytes, .. } = reader.summary();
    let generation = reader.facts().generation;
    format!(
        "good: generation {generation}, {flows} flows ({ipv6} IPv6), {expectations} expectations, \
         {bytes} bytes\n"
    )
}

/// A text of a fixed buffer.
fn text<const N: usize>(write: impl FnOnce(&mut Text<'_>)) -> String {
    let mut room = [0; N];
    let mut text = Text::new(&mut room);
    write(&mut text);
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

/// Appends text; once in the program, not at every place.
#[inline(never)]
fn say(out: &mut Text<'_>, text: &str) {
    out.str(text);
}

/// Appends text and a number.
#[inline(never)]
fn pair(out: &mut Text<'_>, text: &str, number: u64) {
    out.str(text);
    out.number(number);
}

fn head_text(reader: &Reader<File>, ended: bool) -> String {
    let Facts { generation, wall_ns, boot_ms, synchronised, boot_id, .. } = *reader.facts();
    let Summary { flows, ipv6, expectations, bytes, sections, .. } = reader.summary();
    text::<1024>(|out| {
        pair(out, "generation    ", generation);
        say(out, "\nsaved         ");
        out.seconds(wall_ns);
        say(
            out,
            if synchronised {
                " s since 1970\n"
            } else {
                " s since 1970, by a clock that was not set\n"
            },
        );
        say(out, "in boot       ");
        out.hex_bytes(&boot_id);
        say(out, ", after ");
        out.seconds(boot_ms.saturating_mul(NANOS_PER_MILLI));
        say(out, " s\norderly end   ");
        say(out, if ended { "yes\n" } else { "no\n" });
        pair(out, "flows         ", (*flows).into());
        pair(out, " (", (*ipv6).into());
        pair(out, " IPv6)\nexpectations  ", (*expectations).into());
        for section in sections {
            pair(out, "\nsection       ", section.section.number().into());
            pair(out, ", version ", section.version.into());
            pair(out, ", ", section.bytes.into());
            say(out, " bytes");
        }
        pair(out, "\nbytes         ", (*bytes).into());
        say(out, "\n");
    })
}

fn head_json(reader: &Reader<File>, ended: bool) -> String {
    let Facts { generation, wall_ns, boot_ms, synchronised, boot_id, .. } = *reader.facts();
    let Summary { flows, ipv6, expectations, bytes, sections, .. } = reader.summary();
    text::<2048>(|out| {
        let bool = |set: bool| if set { "true" } else { "false" };
        pair(out, "{\"type\":\"checkpoint\",\"generation\":", generation);
        say(out, ",\"boot_id\":\"");
        out.hex_bytes(&boot_id);
        say(out, "\",\"saved\":");
        out.seconds(wall_ns);
        pair(out, ",\"boot_ms\":", boot_ms);
        say(out, ",\"synchronised\":");
        say(out, bool(synchronised));
        say(out, ",\"orderly\":");
        say(out, bool(ended));
        for (name, number) in [
            (",\"flows\":", flows),
            (",\"ipv6\":", ipv6),
            (",\"expectations\":", expectations),
            (",\"bytes\":", bytes),
        ] {
            pair(out, name, (*number).into());
        }
        say(out, ",\"sections\":[");
        for (at, section) in sections.iter().enumerate() {
            say(out, if at == 0 { "{\"section\":" } else { ",{\"section\":" });
            out.number(section.section.number().into());
            pair(out, ",\"version\":", section.version.into());
            pair(out, ",\"bytes\":", section.bytes.into());
            say(out, "}");
        }
        say(out, "]}\n");
    })
}

/// A saved flow as a record of a living one.
fn record(flow: &SavedFlow) -> Record {
    Record {
        kind: Kind::Flow,
        cause: Cause::Event,
        key: RecordKey::Weak(0),
        flow: 0,
        account: flow.account(),
        start_ns: flow.start_ms.map(|ms| ms.saturating_mul(NANOS_PER_MILLI)),
        end_ns: None,
        as_of_ns: None,
        orig: flow.orig,
        reply: flow.reply,
        counters: flow.counters,
        inexact: flow.inexact,
        zone: flow.zone,
        mark: flow.mark,
        id: 0,
        status: flow.status,
        timeout_s: flow.timeout_s,
        l4_state: flow.l4_state,
        helper: flow.rare.helper,
        labels: flow.rare.labels,
    }
}

fn expect_text(out: &mut Text<'_>, expectation: &SavedExpect) {
    out.str("expect ");
    json::protocol(out, expectation.tuple.proto);
    out.byte(b' ');
    lines::ends(out, &expectation.tuple);
    out.byte(b' ');
    out.number(expectation.timeout_s.into());
    out.str("s of ");
    lines::ends(out, &expectation.master);
    if let Some(helper) = &expectation.helper {
        out.byte(b' ');
        out.escaped(helper.split(|&b| b == 0).next().unwrap_or_default());
    }
    out.byte(b'\n');
}

fn expect_json(out: &mut Text<'_>, expectation: &SavedExpect) {
    out.str("{\"type\":\"expectation\",\"proto\":\"");
    json::protocol(out, expectation.tuple.proto);
    out.str("\",\"master\":");
    json::direction(out, &expectation.master, None);
    out.str(",\"tuple\":");
    json::direction(out, &expectation.tuple, None);
    out.str(",\"mask\":");
    json::direction(out, &expectation.mask, None);
    for (name, number) in [
        (",\"zone\":", expectation.zone.into()),
        (",\"timeout\":", expectation.timeout_s),
        (",\"flags\":", expectation.flags),
        (",\"class\":", expectation.class),
    ] {
        out.str(name);
        out.number(number.into());
    }
    if let Some(helper) = &expectation.helper {
        out.str(",\"helper\":\"");
        out.escaped(helper.split(|&b| b == 0).next().unwrap_or_default());
        out.str("\"");
    }
    out.str("}\n");
}
