//! `cargo cross size`: what is shipped against its limits.
//!
//! Measures the stripped binary, which is what a board must store before any compression; its
//! package for opkg, which is what a board must download and nearly what it stores in squashfs; and
//! its writable segments, which is the memory that it is loaded into beside its code. What it takes
//! from the kernel once it runs is not in them. Limits are in `cross/limits.toml`; a figure without
//! a limit is only shown, a target without a limit for its binary fails.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::arch::Arch;
use crate::build;
use crate::elf;
use crate::error::CrossError;
use crate::package;
use crate::workspace::{Workspace, integer, output};

/// A measured figure and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figure {
    bytes: u64,
    limit: Option<u64>,
}

/// The figures of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    target: String,
    binary: Figure,
    package: Option<Figure>,
    writable: Figure,
}

/// Builds, prints a table, and fails when a figure is larger than its limit.
///
/// Without targets it is about the binary of this machine.
pub(crate) fn run(
    workspace: &Workspace,
    options: &build::Options,
    out: &mut impl Write,
) -> Result<(), CrossError> {
    let mut rows = Vec::new();
    if options.arches.is_empty() {
        rows.push(own(workspace)?);
    }
    build::run(workspace, options, out)?;
    for arch in &options.arches {
        rows.push(of_board(workspace, arch)?);
    }
    out.write_all(table(&rows).as_bytes())?;
    let broken: Vec<String> = rows.iter().flat_map(broken).collect();
    if broken.is_empty() { Ok(()) } else { Err(CrossError::Limit(broken.join("; "))) }
}

/// The binary of this machine.
fn own(workspace: &Workspace) -> Result<Row, CrossError> {
    let target = host(workspace)?;
    row(workspace, &target, &build::own(workspace)?, None)
}

/// The built binary of a board.
fn of_board(workspace: &Workspace, arch: &'static Arch) -> Result<Row, CrossError> {
    let program = build::place(workspace, arch, build::Profile::Release).join("firmware-ctd");
    let package = package::bytes(workspace, arch, &program)?.len();
    row(workspace, arch.name, &program, Some(package as u64))
}

fn row(
    workspace: &Workspace,
    target: &str,
    program: &Path,
    package: Option<u64>,
) -> Result<Row, CrossError> {
    let limit = |table| workspace.toml("cross/limits.toml", &[table, target], integer);
    let binary = fs::read(program)?;
    let failed = |fault| CrossError::Failed(format!("{}: {fault}", program.display()));
    let writable = elf::writable(&binary).map_err(failed)?;
    Ok(Row {
        target: target.to_owned(),
        binary: Figure { bytes: binary.len() as u64, limit: Some(limit("size")?) },
        package: package.map(|bytes| Figure { bytes, limit: limit("package").ok() }),
        writable: Figure { bytes: writable, limit: limit("writable").ok() },
    })
}

/// The Rust target of this machine.
fn host(workspace: &Workspace) -> Result<String, CrossError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = output(Command::new(rustc).current_dir(workspace.path("")).arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| CrossError::Failed("rustc -vV does not name its host".to_owned()))
}

/// What is said of each limit that is not kept.
fn broken(row: &Row) -> Vec<String> {
    let figures = [
        ("the binary", Some(row.binary)),
        ("the package", row.package),
        ("what is writable", Some(row.writable)),
    ];
    let mut faults = Vec::new();
    for (what, figure) in figures {
        let Some(Figure { bytes, limit: Some(limit) }) = figure else { continue };
        if bytes > limit {
            faults.push(format!(
                "{what} for {} is {} bytes above its limit",
                row.target,
                bytes - limit
            ));
        }
    }
    faults
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.target.len()).max().unwrap_or(0).max("target".len());
    let line = |cells: [&str; 7]| {
        let [target, binary, limit, package, package_limit, writable, writable_limit] = cells;
        let text = format!(
            "{target:<width$} {binary:>8} {limit:>7} {package:>8} {package_limit:>7} \
             {writable:>8} {writable_limit:>7}"
        );
        format!("{}\n", text.trim_end())
    };
    let mut text = line(["target", "stripped", "limit", ".ipk", "limit", "writable", "limit"]);
    for row in rows {
        let cells = [Some(row.binary), row.package, Some(row.writable)].map(|figure| {
            let bytes = figure.map_or("-".to_owned(), |it| it.bytes.to_string());
            let limit = figure.and_then(|it| it.limit);
            [bytes, limit.map_or("-".to_owned(), |it| it.to_string())]
        });
        let [[a, b], [c, d], [e, f]] = &cells;
        text += &line([&row.target, a, b, c, d, e, f]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Figure, Row, broken, table};

    fn row() -> Row {
        let figure = |bytes, limit| Figure { bytes, limit };
        Row {
            target: "x86_64-unknown-linux-gnu".to_owned(),
            binary: figure(600_000, Some(655_360)),
            package: Some(figure(200_000, None)),
            writable: figure(30_000, Some(30_000)),
        }
    }

    #[test]
    fn the_table_has_every_figure_with_its_limit() {
        let text = table(&[row()]);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let wanted =
            ["x86_64-unknown-linux-gnu", "600000", "655360", "200000", "-", "30000", "30000"];
        assert_eq!(cells, wanted);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn a_limit_is_broken_by_one_byte() {
        assert!(broken(&row()).is_empty());
        let mut larger = row();
        larger.writable.bytes += 1;
        larger.binary.bytes = 655_361;
        let faults = broken(&larger);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults.iter().all(|it| it.contains("is 1 bytes above")), "{faults:?}");
    }
}
