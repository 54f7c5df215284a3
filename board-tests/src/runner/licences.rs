//! Licences, sources and doubled packages of everything that is built, against `deny.toml`.
//!
//! By cargo-deny where it is installed; otherwise by the few rules of the file that matter, read
//! from what cargo knows: every licence is allowed, every package is from crates.io, and a package
//! in several versions is listed with its reason.
//!
//! Does not look for known vulnerabilities: their list cannot be had everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::job::Job;
use super::{Failure, spdx};

/// Workspaces to check: their directories.
const WORKSPACES: [&str; 2] = ["", "firmware-ctd/fuzz"];

/// The step.
pub(super) fn work(job: &mut Job<'_>) -> Result<(), Failure> {
    let tool = Command::new("cargo-deny").arg("--version").output();
    if tool.is_ok_and(|done| done.status.success()) {
        return WORKSPACES.into_iter().try_for_each(|place| by_tool(job, place));
    }
    job.say("cargo-deny is not installed: deny.toml is read by this program")?;
    let text = std::fs::read_to_string(job.path("deny.toml"))
        .map_err(|error| format!("deny.toml: {error}"))?;
    let rules = Rules::read(&text)?;
    for place in WORKSPACES {
        let packages = packages(job, place)?;
        let faults = rules.faults(&packages);
        let result = if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) };
        let place = if place.is_empty() { "workspace" } else { place };
        job.check(&format!("{place}: {} packages", packages.len()), &result)?;
    }
    Ok(())
}

fn by_tool(job: &mut Job<'_>, place: &str) -> Result<(), Failure> {
    let config = job.path("deny.toml").display().to_string();
    let arguments = ["deny", "check", "--config", &config, "licenses", "bans", "sources"];
    let mut command = job.cargo_in(Path::new(place), &job.target(""), &arguments);
    job.run(&mut command)
}

/// A package as cargo knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// `None` for those in this repository.
    source: Option<String>,
}

fn packages(job: &Job<'_>, place: &str) -> Result<Vec<Package>, Failure> {
    let arguments = ["metadata", "--format-version", "1", "--locked"];
    let mut command = job.cargo_in(Path::new(place), &job.target(""), &arguments);
    let done = command.output().map_err(|error| format!("cargo metadata: {error}"))?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    let all: Value = serde_json::from_slice(&done.stdout).map_err(|error| error.to_string())?;
    let list =
        all.get("packages").and_then(Value::as_array).ok_or("cargo metadata: no packages")?;
    list.iter().map(|it| package(it).ok_or_else(|| format!("cargo metadata: {it}"))).collect()
}

fn package(value: &Value) -> Option<Package> {
    let text = |name| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let (name, version) = (text("name")?, text("version")?);
    Some(Package { name, version, licence: text("license"), source: text("source") })
}

/// What `deny.toml` allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    licences: BTreeSet<String>,
    /// Registries, as web addresses.
    registries: BTreeSet<String>,
    /// Packages that may be there beside another version: name and beginning of the version.
    doubled: BTreeSet<(String, String)>,
}

impl Rules {
    fn read(text: &str) -> Result<Self, Failure> {
        let document = DeTable::parse(text).map_err(|error| format!("deny.toml: {error}"))?;
        let list = |section: &str, key: &str| {
            let table = document.get_ref().get(section).and_then(|it| it.get_ref().as_table());
            let array = table.and_then(|it| it.get(key)).and_then(|it| it.get_ref().as_array());
            array.ok_or_else(|| format!("deny.toml: {section}.{key} is missing or no list"))
        };
        let texts = |section, key| -> Result<BTreeSet<String>, Failure> {
            list(section, key)?.iter().map(|it| text_of(it.get_ref())).collect()
        };
        let skip = list("bans", "skip")?.iter().map(|it| doubled(it.get_ref()));
        Ok(Self {
            licences: texts("licenses", "allow")?,
            registries: texts("sources", "allow-registry")?,
            doubled: skip.collect::<Result<_, _>>()?,
        })
    }

    /// Everything that is not allowed, a line each.
    fn faults(&self, packages: &[Package]) -> Vec<String> {
        let single = packages.iter().filter_map(|it| self.fault(it));
        single.chain(self.several_versions(packages)).collect()
    }

    fn fault(&self, package: &Package) -> Option<String> {
        let Package { name, version, licence, source } = package;
        let licence = licence.as_deref().unwrap_or("");
        let fault = match spdx::satisfied(licence, &|it| self.licences.contains(it)) {
            Err(error) => format!("its licence \"{licence}\" is not understood: {error}"),
            Ok(false) => format!("its licence {licence} is not allowed"),
            Ok(true) => match source.as_deref() {
                None => return None,
                Some(source) if self.knows(source) => return None,
                Some(source) => format!("its source {source} is not allowed"),
            },
        };
        Some(format!("{name} {version}: {fault}"))
    }

    fn knows(&self, source: &str) -> bool {
        source.strip_prefix("registry+").is_some_and(|it| self.registries.contains(it))
    }

    fn several_versions(&self, packages: &[Package]) -> Vec<String> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Package { name, version, .. } in packages {
            if !self.doubled.iter().any(|(skip, begin)| skip == name && begins(version, begin)) {
                versions.entry(name).or_default().push(version);
            }
        }
        let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
        several.map(|(name, all)| format!("{name}: several versions, {}", all.join(", "))).collect()
    }
}

fn text_of(value: &DeValue<'_>) -> Result<String, Failure> {
    value.as_str().map(str::to_owned).ok_or_else(|| "deny.toml: not a text".to_owned())
}

/// `{ crate = "name@1.2", reason = "..." }`
fn doubled(value: &DeValue<'_>) -> Result<(String, String), Failure> {
    let part = |key| value.as_table()?.get(key)?.get_ref().as_str();
    let reason = part("reason").filter(|reason| !reason.is_empty());
    let both = part("crate").and_then(|it| it.split_once('@'));
    match (both, reason) {
        (Some((name, version)), Some(_)) => Ok((name.to_owned(), version.to_owned())),
        _ => Err("deny.toml: bans.skip takes { crate = \"name@version\", reason }".to_owned()),
    }
}

/// Whether `version` is `begin` or goes on with another part.
fn begins(version: &str, begin: &str) -> bool {
    version.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn rules() -> Rules {
        Rules::read(
            "[licenses]\nallow = [\"MIT\"]\n[bans]\nskip = [{ crate = \"b@1\", reason = \"x\" }]\n\
             [sources]\nallow-registry = [\"https://github.com/rust-lang/crates.io-index\"]\n",
        )
        .unwrap()
    }

    fn package(name: &str, version: &str, licence: &str, source: &str) -> Package {
        let (licence, source) = (Some(licence.to_owned()), Some(source.to_owned()));
        Package { name: name.to_owned(), version: version.to_owned(), licence, source }
    }

    fn faults(packages: &[Package]) -> String {
        rules().faults(packages).join("\n")
    }

    #[test]
    fn licence_and_source_must_be_allowed() {
        assert_eq!(faults(&[package("a", "1.0.0", "MIT OR GPL-3.0", CRATES)]), "");
        assert!(faults(&[package("a", "1.0.0", "GPL-3.0", CRATES)]).contains("GPL-3.0"));
        let git = "git+https://example.org/a";
        assert!(faults(&[package("a", "1.0.0", "MIT", git)]).contains(git));
        let unknown = Package { licence: None, ..package("a", "1.0.0", "", CRATES) };
        assert!(faults(&[unknown]).contains("a 1.0.0"));
    }

    #[test]
    fn several_versions_need_a_reason() {
        let two =
            |name| [package(name, "1.2.3", "MIT", CRATES), package(name, "2.0.0", "MIT", CRATES)];
        assert!(faults(&two("a")).contains("1.2.3, 2.0.0"));
        assert_eq!(faults(&two("b")), "");
        let other = [package("b", "10.0.0", "MIT", CRATES), package("b", "2.0.0", "MIT", CRATES)];
        assert!(faults(&other).contains("10.0.0"), "1 is not the beginning of 10.0.0");
        assert!(
            doubled(DeTable::parse("a = { crate = \"b@1\" }").unwrap().get_ref()["a"].get_ref())
                .is_err()
        );
    }

    #[test]
    fn the_file_of_this_project_is_read() {
        let text = include_str!("../../../deny.toml");
        let rules = Rules::read(text).unwrap();
        assert!(
            rules.licences.contains("MIT") && !rules.licences.iter().any(|it| it.contains("GPL"))
        );
    }
}
