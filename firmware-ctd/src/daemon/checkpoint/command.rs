//! The command `checkpoint restore`: the flows of an image into the kernel, without the daemon.

use std::path::{Path, PathBuf};

use super::load::{self, Make, Source};
use crate::config;
use crate::daemon::command::{code_of, explain, fail};
use crate::daemon::print;
use crate::exit;
use crate::restore::Tally;

/// Makes the flows of `image` again, or of the best one in the configured directory; returns the
/// exit code.
#[must_use]
pub fn restore(files: &[PathBuf], image: Option<&Path>) -> u8 {
    let config = match config::load(files) {
        Ok(config) => config.checkpoint,
        Err(faults) => return fail(exit::CONFIG, &faults.to_string()),
    };
    let (path, reader) = match image {
        Some(path) => match super::files::open(path) {
            Ok(reader) => (path.to_owned(), reader),
            Err(fault) => return super::show::refuse(path, fault),
        },
        None if !config.is_on() => {
            return fail(
                exit::USAGE,
                "name an image, or a configuration with checkpoint.directory",
            );
        }
        None => match load::best(&config.directory).image {
            Some(found) => found,
            None => {
                let directory = config.directory.display();
                return fail(exit::DATA, &format!("{directory}: no good image there"));
            }
        },
    };
    let source = Source { reader, keep: &config.keep, ended: &[] };
    let outcome = match load::make(source, config.timeout_cap_s, &mut Vec::new()) {
        Ok(outcome) => outcome,
        Err(Make::Kernel(error)) => return fail(code_of(&error), &explain(&error)),
        Err(Make::Image(fault)) => return super::show::refuse(&path, fault),
    };
    let mut text = format!("{}:", path.display());
    let Tally { created, .. } = outcome.expectations;
    let refused = outcome.expectations.refusals();
    let all = outcome.flows.all();
    let all = all.chain([("expectations", created), ("refused_expectations", refused)]);
    for (name, count) in all.filter(|(name, count)| *count > 0 || *name == "created") {
        text += &format!(" {name} {count}");
    }
    text.push('\n');
    print(&text)
}
