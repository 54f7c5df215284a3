//! The part of a status that is about checkpoints: what was saved, what that cost, and what was
//! made again after a reboot.

use super::{Facts, span};
use crate::checkpoint::plan::Place;
use crate::daemon::checkpoint::saver::Step;
use crate::daemon::lines::bytes;
use crate::daemon::log::InWords;
use crate::daemon::shared::Word;
use crate::record::text::Text;

impl Facts<'_, '_> {
    /// Numbers of saves; nothing without checkpoints.
    pub(super) fn saves(&self) -> Option<[(&'static str, u64, &'static str); 17]> {
        let checkpoints = self.checkpoints?;
        let (plan, written) = (checkpoints.plan(), checkpoints.plan().written());
        let image = checkpoints.image(Place::Flash);
        let outcome = image.outcome;
        let age = image.saved.map(|at| self.now.boot.since(at).as_secs());
        let next = plan.flash_at().map(|at| at.since(self.now.boot).as_secs());
        Some([
            ("generation", image.generation, "of the last image in flash; 0 for none"),
            ("flows", u64::from(outcome.flows), "in it"),
            ("flows_cut", u64::from(outcome.cut), "that it had no room for"),
            ("expectations", u64::from(outcome.expectations), "in it"),
            ("bytes", outcome.bytes, "of it"),
            ("age_s", age.unwrap_or(0), "since it was saved, in seconds"),
            ("took_ms", image.took.as_millis_ceil(), "the last save, in milliseconds"),
            ("next_s", next.unwrap_or(0), "until the next save by the interval"),
            ("failing", u64::from(outcome.step != Step::None), "1 if the last save failed"),
            ("failures", written.failures, "saves that failed"),
            ("flash_saves", written.flash_saves, "images written to flash"),
            ("flash_bytes", written.flash_bytes, "bytes of them"),
            ("flash_erase_blocks", written.flash_blocks, "erase blocks of them"),
            (
                "flash_blocks_left",
                u64::from(plan.allowance_blocks()),
                "erase blocks left of the day's",
            ),
            ("live_saves", written.live_saves, "images written to memory"),
            ("unchanged", written.unchanged, "saves not written: nothing had changed"),
            ("put_off", written.put_off, "saves that the flash budget put off"),
        ])
    }

    /// Numbers of what was made again after a reboot.
    pub(super) fn restored(&self) -> [(&'static str, u64, &'static str); 13] {
        let of = |word: Word| self.word(word);
        [
            ("restored", of(Word::Restored), "flows made again after the reboot"),
            ("restored_expectations", of(Word::RestoredExpects), "expectations made again"),
            ("refused_exists", of(Word::RefusedExists), "not made: a live flow was there"),
            ("refused_helper", of(Word::RefusedHelper), "made without their helper: not loaded"),
            ("refused_master", of(Word::RefusedMaster), "not made: their master was not there"),
            ("refused_full", of(Word::RefusedFull), "not made: the kernel's table was full"),
            ("refused_other", of(Word::RefusedOther), "not made, for another reason"),
            ("refused_expectations", of(Word::RefusedExpects), "expectations not made"),
            ("address_checks", of(Word::AddressChecks), "looks at this router's addresses"),
            (
                "deleted_address",
                of(Word::DeletedAddress),
                "deleted: their address was ours no more",
            ),
            (
                "clock_corrected",
                of(Word::ClockCorrected),
                "timeouts corrected by the stepped clock",
            ),
            ("clock_dropped", of(Word::ClockDropped), "deleted: too old by the stepped clock"),
            ("images_refused", of(Word::ImagesRefused), "images that were not whole"),
        ]
    }

    /// Checkpoints in words; nothing without them.
    pub(super) fn text_checkpoints(&self, out: &mut Text<'_>) {
        self.text_saves(out);
        let of = |word: Word| self.word(word);
        let refused = self.restored()[2..7].iter().map(|(_, count, _)| count).sum::<u64>();
        if of(Word::Restored) + refused > 0 {
            out.str("restored ");
            out.number(of(Word::Restored));
            out.str(" flows after the reboot, ");
            out.number(refused);
            out.str(" refused\n");
            super::nonzero(out, &self.restored()[2..]);
        }
    }

    fn text_saves(&self, out: &mut Text<'_>) {
        use core::fmt::Write as _;
        let Some(checkpoints) = self.checkpoints else { return };
        let image = checkpoints.image(Place::Flash);
        out.str("saved    ");
        match image.saved {
            None if image.generation == 0 => out.str("no image yet"),
            None => {
                out.str("generation ");
                out.number(image.generation);
                out.str(", before this daemon");
            }
            Some(at) => {
                out.str("generation ");
                out.number(image.generation);
                out.str(", ");
                out.number(u64::from(image.outcome.flows));
                out.str(" flows in ");
                bytes(out, image.outcome.bytes);
                out.str(", ");
                span(out, self.now.boot.since(at).as_secs());
                out.str(" ago");
            }
        }
        if let Some(at) = checkpoints.plan().flash_at() {
            out.str("; next in ");
            span(out, at.since(self.now.boot).as_secs());
        }
        let written = checkpoints.plan().written();
        out.str("\n         flash: ");
        out.number(written.flash_blocks);
        out.str(" erase blocks written, ");
        out.number(u64::from(checkpoints.plan().allowance_blocks()));
        out.str(" left of ");
        out.number(checkpoints.plan().policy().blocks_per_day());
        out.str(" a day\n");
        if image.outcome.step != Step::None {
            let error = std::io::Error::from_raw_os_error(image.outcome.errno);
            let step = image.outcome.step.name();
            // It fits: a step and an error are a few words.
            let _ = writeln!(out, "WARNING  the last save failed: {step}: {}", InWords(&error));
        }
    }
}
