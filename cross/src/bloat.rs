//! `cargo cross bloat`: what the bytes of the binary are.
//!
//! Builds the program with its symbols and reads them: bytes by section, by crate, and the largest
//! functions. A function that was compiled for types of another crate counts for the crate that it
//! is written in; what was inlined counts for where it ended up. Constants have no symbols in Rust,
//! so most of `.rodata` is nobody's. Has no limits: `cargo cross size` has.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;

use object::read::{Object, ObjectSection, ObjectSymbol};
use object::{File, SectionIndex, SymbolKind};

use crate::build;
use crate::error::CrossError;
use crate::workspace::Workspace;

/// How many functions are shown.
const LARGEST: usize = 40;

/// Crates that have less than this many bytes are shown as one.
const SMALL: u64 = 256;

/// Builds and prints for each target.
pub(crate) fn run(
    workspace: &Workspace,
    options: &build::Options,
    out: &mut impl Write,
) -> Result<(), CrossError> {
    let programs = build::with_symbols(workspace, options, out)?;
    for (arch, program) in options.arches.iter().zip(programs) {
        let bytes = fs::read(&program)?;
        let contents = Contents::read(&bytes)
            .map_err(|error| CrossError::Failed(format!("{}: {error}", program.display())))?;
        writeln!(out, "{}: {}", arch.name, program.display())?;
        out.write_all(contents.text().as_bytes())?;
    }
    Ok(())
}

/// What a program is made of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    /// Sections that are loaded, or zeroed, by size.
    sections: Vec<(String, u64)>,
    /// Symbols by size, with their crates.
    symbols: Vec<Symbol>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    name: String,
    owner: String,
    bytes: u64,
}

impl Contents {
    fn read(program: &[u8]) -> object::Result<Self> {
        let file = File::parse(program)?;
        let mut loaded = BTreeMap::new();
        let mut sections = Vec::new();
        for section in file.sections().filter(|it| it.address() != 0 && it.size() > 0) {
            loaded.insert(section.index().0, section.address());
            sections.push((section.name()?.to_owned(), section.size()));
        }
        // Several names may stand for one address: the largest one counts.
        let mut by_address: BTreeMap<u64, Symbol> = BTreeMap::new();
        for symbol in file.symbols() {
            let kind = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data);
            let inside = |it: SectionIndex| loaded.contains_key(&it.0);
            if !kind || symbol.size() == 0 || !symbol.section_index().is_some_and(inside) {
                continue;
            }
            let found = Symbol::of(symbol.name()?, symbol.size());
            let entry = by_address.entry(symbol.address()).or_insert_with(|| found.clone());
            if entry.bytes < found.bytes {
                *entry = found;
            }
        }
        let mut symbols: Vec<Symbol> = by_address.into_values().collect();
        symbols.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        sections.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Ok(Self { sections, symbols })
    }

    /// Bytes by crate, largest first; small ones as one.
    fn crates(&self) -> Vec<(&str, u64)> {
        let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
        for symbol in &self.symbols {
            *by_name.entry(&symbol.owner).or_default() += symbol.bytes;
        }
        let mut large: Vec<(&str, u64)> = by_name.into_iter().collect();
        large.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let small = large.split_off(large.partition_point(|(_, bytes)| *bytes >= SMALL));
        let rest = small.iter().map(|(_, bytes)| bytes).sum();
        if rest > 0 {
            large.push(("(smaller ones)", rest));
        }
        large
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut list = |title: &str, rows: &mut dyn Iterator<Item = (&str, u64)>| {
            let _ = writeln!(text, "\n   bytes  {title}");
            for (name, bytes) in rows {
                let _ = writeln!(text, "{bytes:>8}  {name}");
            }
        };
        list("section", &mut self.sections.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
        list("crate", &mut self.crates().into_iter());
        let largest = self.symbols.iter().take(LARGEST);
        list("largest functions and data", &mut largest.map(|it| (it.name.as_str(), it.bytes)));
        text
    }
}

impl Symbol {
    fn of(mangled: &str, bytes: u64) -> Self {
        let name = format!("{:#}", rustc_demangle::demangle(mangled));
        let rust = rustc_demangle::try_demangle(mangled).is_ok();
        let owner = if rust { owner(&name) } else { "(C library, compiler)" };
        Self { owner: owner.to_owned(), name, bytes }
    }
}

/// The crate in a path, also in `<&mut a::B as c::D>::e`.
fn owner(path: &str) -> &str {
    let inner = path.trim_start_matches(|it: char| !it.is_alphanumeric() && it != '_');
    let inner = inner.strip_prefix("mut ").or(inner.strip_prefix("dyn ")).unwrap_or(inner);
    let end = inner.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(inner.len());
    match inner.split_at(end) {
        (name, rest) if rest.starts_with("::") => name,
        // A type without a path is of the language: what is implemented for it tells.
        (_, rest) => rest.split_once(" as ").map_or("core", |(_, of)| owner(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Contents, owner};

    #[test]
    fn the_crate_of_a_path_is_its_first_word() {
        for (path, name) in [
            ("firmware_ctd::wire::nla::next", "firmware_ctd"),
            ("<toml::de::Error as core::fmt::Display>::fmt", "toml"),
            ("<&mut nix::Fd as core::fmt::Debug>::fmt", "nix"),
            ("<u32 as core::fmt::Display>::fmt", "core"),
            ("<[u8] as heapless::Storage>::len", "heapless"),
            ("main", "core"),
        ] {
            assert_eq!(owner(path), name, "{path}");
        }
    }

    #[test]
    fn this_program_is_made_of_this_crate_and_std() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let contents = Contents::read(&program).unwrap();
        let crates = contents.crates();
        for name in ["cross", "std", "core"] {
            assert!(crates.iter().any(|(it, bytes)| *it == name && *bytes > 1000), "{name}");
        }
        let text_section = contents.sections.iter().find(|(name, _)| name == ".text").unwrap().1;
        let symbols: u64 = contents.symbols.iter().map(|it| it.bytes).sum();
        assert!(symbols > text_section / 2, "{symbols} of {text_section}");
        assert!(contents.text().contains("largest functions"));
        assert!(Contents::read(b"#!/bin/sh\n").is_err());
    }
}
