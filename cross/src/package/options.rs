//! The command line of `cargo cross package`.

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::arch::{self, ARCHES, Arch};
use crate::error::CrossError;

/// What to pack, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(super) arches: Vec<&'static Arch>,
    /// The program, when it is not where `cargo cross build` puts it.
    pub(super) binary: Option<PathBuf>,
    /// The board's profile, when it is not that of the architecture.
    pub(super) profile: Option<String>,
    /// Signs the feeds.
    pub(super) key: Option<PathBuf>,
    /// The directory of the feeds.
    pub(super) feed: Option<PathBuf>,
}

impl Options {
    /// Reads what follows the command's name.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Self, CrossError> {
        let mut options = Self::default();
        let usage = |error: lexopt::Error| CrossError::Usage(error.to_string());
        while let Some(argument) = parser.next().map_err(usage)? {
            let path =
                |parser: &mut lexopt::Parser| Some(parser.value().map_err(usage)).transpose();
            match argument {
                Long("binary") => options.binary = path(parser)?.map(PathBuf::from),
                Long("key") => options.key = path(parser)?.map(PathBuf::from),
                Long("feed") => options.feed = path(parser)?.map(PathBuf::from),
                Long("profile") => {
                    options.profile = path(parser)?.map(|it| it.to_string_lossy().into_owned());
                }
                Value(name) if name == "all" => options.arches.extend(&ARCHES),
                Value(name) => options.arches.push(arch::find(&name.to_string_lossy())?),
                other => return Err(usage(other.unexpected())),
            }
        }
        match (options.arches.as_slice(), &options.binary) {
            ([], _) => Err(CrossError::Usage("package what? Name a target, or all".to_owned())),
            ([_, _, ..], Some(_)) => {
                Err(CrossError::Usage("--binary is for one target".to_owned()))
            }
            _ => Ok(options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ARCHES, Options};
    use std::path::Path;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let mut parser = lexopt::Parser::from_args(arguments.iter().copied());
        Options::parse(&mut parser).map_err(|error| error.to_string())
    }

    #[test]
    fn one_target_some_or_all() {
        let names = |arguments: &[&str]| -> Vec<&str> {
            parse(arguments).unwrap().arches.iter().map(|it| it.name).collect()
        };
        assert_eq!(names(&["mips_24kc"]), ["mips_24kc"]);
        assert_eq!(names(&["x86_64", "mips_24kc"]), ["x86_64", "mips_24kc"]);
        assert_eq!(names(&["all"]).len(), ARCHES.len());
    }

    #[test]
    fn options_take_values() {
        let line = ["x86_64", "--binary", "b", "--key=k", "--feed", "f", "--profile", "p"];
        let options = parse(&line).unwrap();
        assert_eq!(options.binary.as_deref(), Some(Path::new("b")));
        assert_eq!(options.key.as_deref(), Some(Path::new("k")));
        assert_eq!(options.feed.as_deref(), Some(Path::new("f")));
        assert_eq!(options.profile.as_deref(), Some("p"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong: [(&[&str], &str); 5] = [
            (&[], "Name a target"),
            (&["mips"], "mips_24kc, mipsel_24kc"),
            (&["all", "--binary", "b"], "--binary"),
            (&["x86_64", "--key"], "--key"),
            (&["x86_64", "--colour"], "--colour"),
        ];
        for (arguments, named) in wrong {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
