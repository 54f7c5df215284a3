//! The command line of `cargo cross build`, and of the commands that build first.

use lexopt::prelude::*;

use crate::arch::{self, ARCHES, Arch};
use crate::error::CrossError;

/// How a program is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As it is shipped: the workspace's release profile, static.
    #[default]
    Release,
    /// As OpenWrt's feed builds it: its own profile, with the board's C library.
    Feed,
    /// For tests: panics unwind, arithmetic is checked.
    Test,
}

/// What to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) arches: Vec<&'static Arch>,
    /// The package of the workspace, whose program has the same name.
    pub(crate) package: String,
    pub(crate) profile: Profile,
    /// Whether what is missing may be installed.
    pub(crate) install: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            arches: Vec::new(),
            package: "firmware-ctd".to_owned(),
            profile: Profile::Release,
            install: false,
        }
    }
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
            match argument {
                Long("package") => {
                    options.package = parser.value().and_then(ValueExt::string).map_err(usage)?;
                }
                Long("profile") => {
                    options.profile = profile(&parser.value().map_err(usage)?.to_string_lossy())?;
                }
                Long("install") => options.install = true,
                Value(name) if name == "all" => options.arches.extend(&ARCHES),
                Value(name) => options.arches.push(arch::find(&name.to_string_lossy())?),
                other => return Err(usage(other.unexpected())),
            }
        }
        Ok(options)
    }

    /// For at least one target.
    pub(crate) fn named(self) -> Result<Self, CrossError> {
        if self.arches.is_empty() {
            return Err(CrossError::Usage("build for what? Name a target, or all".to_owned()));
        }
        Ok(self)
    }

    /// The daemon as it is shipped, and nothing else.
    pub(crate) fn shipped(self) -> Result<Self, CrossError> {
        let usual = Self::default();
        if (&self.package, self.profile) != (&usual.package, usual.profile) {
            return Err(CrossError::Usage(
                "this is about firmware-ctd as it is shipped: no --package, no --profile"
                    .to_owned(),
            ));
        }
        Ok(self)
    }

    /// For the smallest boards, when no target was named.
    pub(crate) fn or_smallest(mut self) -> Self {
        if self.arches.is_empty() {
            self.arches.push(&ARCHES[0]);
        }
        self
    }
}

fn profile(name: &str) -> Result<Profile, CrossError> {
    match name {
        "release" => Ok(Profile::Release),
        "feed" => Ok(Profile::Feed),
        _ => Err(CrossError::Usage(format!("no such profile: {name}; there are release, feed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{ARCHES, Options, Profile};

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let mut parser = lexopt::Parser::from_args(arguments.iter().copied());
        Options::parse(&mut parser).and_then(Options::named).map_err(|error| error.to_string())
    }

    #[test]
    fn the_daemon_as_it_is_shipped_unless_said_otherwise() {
        let options = parse(&["mips_24kc"]).unwrap();
        assert_eq!((options.arches.len(), options.package.as_str()), (1, "firmware-ctd"));
        assert_eq!((options.profile, options.install), (Profile::Release, false));
        let options = parse(&["all", "--package", "p", "--profile=feed", "--install"]).unwrap();
        assert_eq!((options.arches.len(), options.package.as_str()), (ARCHES.len(), "p"));
        assert_eq!((options.profile, options.install), (Profile::Feed, true));
    }

    #[test]
    fn limits_are_of_what_is_shipped() {
        assert!(parse(&["all", "--install"]).unwrap().shipped().is_ok());
        assert!(parse(&["all", "--package", "p"]).unwrap().shipped().is_err());
        assert!(parse(&["all", "--profile", "feed"]).unwrap().shipped().is_err());
        assert_eq!(Options::default().or_smallest().arches, [&ARCHES[0]]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong: [(&[&str], &str); 4] = [
            (&[], "Name a target"),
            (&["mips"], "mips_24kc, mipsel_24kc"),
            (&["all", "--profile", "fast"], "release, feed"),
            (&["all", "--colour"], "--colour"),
        ];
        for (arguments, named) in wrong {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
