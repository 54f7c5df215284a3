//! The command `checkpoint` and its verbs.

use std::path::PathBuf;

use super::{Action, Topic, UsageError, Words, wrong};
use crate::config::value::Quoted;
use crate::nearest::nearest;

/// Whether a verb takes a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    None,
    One,
    AtMostOne,
}

/// Verbs: their names, whether they take a file, and their options.
const VERBS: [(&str, Takes, &[&str]); 4] = [
    ("save", Takes::None, &["socket", "config", "wait"]),
    ("show", Takes::One, &["json"]),
    ("verify", Takes::One, &[]),
    ("restore", Takes::AtMostOne, &["config"]),
];

impl Words {
    /// What `checkpoint` is to do.
    pub(super) fn checkpoint(mut self) -> Result<Action, UsageError> {
        let topic = Topic::Checkpoint;
        let mut plain = self.plain.iter();
        let Some(verb) = plain.next() else { return Err(wrong("checkpoint: do what?", topic)) };
        let verb = verb.to_string_lossy();
        let Some(&(name, takes, options)) = VERBS.iter().find(|(name, ..)| *name == verb) else {
            let message = format!("checkpoint cannot {}", Quoted(&verb));
            return Err(match nearest(&verb, &mut VERBS.iter().map(|(name, ..)| *name)) {
                Some(near) => UsageError(format!("{message}; did you mean \"{near}\"?")),
                None => wrong(&message, topic),
            });
        };
        self.check_options(name, options)?;
        let file = plain.next().filter(|file| !file.is_empty()).map(PathBuf::from);
        match (takes, &file) {
            (Takes::One, None) => {
                return Err(wrong(&format!("checkpoint {name} needs a file"), topic));
            }
            (Takes::None, Some(_)) => {
                return Err(wrong(&format!("checkpoint {name} takes no file"), topic));
            }
            _ => {}
        }
        let file_or_none = file.clone().unwrap_or_default();
        Ok(match name {
            "save" => {
                Action::CheckpointSave { at: self.at(topic)?, wait_s: self.wait_s.unwrap_or(0) }
            }
            "show" => Action::CheckpointShow { file: file_or_none, json: self.json },
            "verify" => Action::CheckpointVerify { file: file_or_none },
            _ => Action::CheckpointRestore { files: self.files, image: file },
        })
    }

    /// Refuses options of other verbs.
    fn check_options(&self, verb: &str, allowed: &[&str]) -> Result<(), UsageError> {
        let given = [
            ("config", !self.files.is_empty()),
            ("socket", self.socket.is_some()),
            ("json", self.json),
            ("wait", self.wait_s.is_some()),
        ];
        match given.iter().find(|(name, given)| *given && !allowed.contains(name)) {
            Some((name, _)) => {
                let message = format!("checkpoint {verb} has no option --{name}");
                Err(wrong(&message, Topic::Checkpoint))
            }
            None => Ok(()),
        }
    }
}
