//! The answers to who asks for a checkpoint.

use std::path::Path;

use super::super::checkpoint::Image;
use super::super::checkpoint::saver::Step;
use super::super::lines::bytes;
use super::super::log::InWords;
use crate::exit;
use crate::record::text::Text;
use crate::time::Duration;

/// There are no checkpoints.
pub(super) fn none(out: &mut Text<'_>) {
    error(out, exit::CONFIG);
    out.str("checkpoints are off: name a checkpoint.directory in the configuration\n");
}

/// It is not over.
pub(super) fn under_way(out: &mut Text<'_>, wait: Duration) {
    if wait == Duration::ZERO {
        out.str("ok\na save has begun\n");
        return;
    }
    error(out, exit::TRY_AGAIN);
    out.str("the save is not over after ");
    out.number(wait.as_secs());
    out.str(" s; it goes on\n");
}

/// It is over. A line of its own tells programs where the image is.
pub(super) fn over(out: &mut Text<'_>, image: &Image, file: (&Path, &str)) {
    use core::fmt::Write as _;
    let outcome = &image.outcome;
    if outcome.step != Step::None {
        error(out, exit::IO);
        let error = std::io::Error::from_raw_os_error(outcome.errno);
        out.str(outcome.step.name());
        // It fits: a step and an error are a few words.
        let _ = write!(out, ": {}", InWords(&error));
        out.str("; the last image stays\n");
        return;
    }
    out.str("ok\nsaved generation ");
    out.number(image.generation);
    out.str(": ");
    out.number(u64::from(outcome.flows));
    out.str(" flows, ");
    bytes(out, outcome.bytes);
    out.str(", in ");
    out.number(image.took.as_millis_ceil());
    out.str(" ms\n");
    // It fits: a path of at most 1000 bytes.
    let _ = writeln!(out, "image {}/{}", file.0.display(), file.1);
    if outcome.cut > 0 {
        out.number(u64::from(outcome.cut));
        out.str(" flows had no room: checkpoint.max_bytes\n");
    }
}

fn error(out: &mut Text<'_>, code: u8) {
    out.str("error ");
    out.number(u64::from(code));
    out.str(" ");
}
