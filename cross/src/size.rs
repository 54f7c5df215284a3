//! `cargo cross size`: the release binary against its limit.
//!
//! The release profile strips the binary, so its length is what a board must store, before any
//! compression. Limits are in `cross/limits.toml`, by Rust target; a target without a limit fails.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::error::CrossError;
use crate::workspace::{Workspace, carry_out, integer, output};

/// The binary of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    target: String,
    bytes: u64,
    limit: u64,
}

/// Builds, prints a table, and fails when a binary is larger than its limit.
pub(crate) fn run(workspace: &Workspace, out: &mut impl Write) -> Result<(), CrossError> {
    let target = host(workspace)?;
    let limit = workspace.toml("cross/limits.toml", &["size", &target], integer)?;
    let mut cargo = workspace.cargo(&workspace.target(""));
    cargo.args(["build", "--release", "--locked", "--quiet", "-p", "firmware-ctd"]);
    carry_out(cargo.args(["--bin", "firmware-ctd"]))?;
    let bytes = fs::metadata(workspace.target("release/firmware-ctd"))?.len();
    let rows = [Row { target, bytes, limit }];
    out.write_all(table(&rows).as_bytes())?;
    match rows.iter().find(|row| row.bytes > row.limit) {
        Some(row) => Err(CrossError::Limit(format!(
            "firmware-ctd for {} is {} bytes above its limit",
            row.target,
            row.bytes - row.limit
        ))),
        None => Ok(()),
    }
}

/// The Rust target of this machine.
fn host(workspace: &Workspace) -> Result<String, CrossError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = output(Command::new(rustc).current_dir(workspace.path("")).arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| CrossError::Failed("rustc -vV does not name its host".to_owned()))
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.target.len()).max().unwrap_or(0).max("target".len());
    let line = |target: &str, bytes: &str, limit: &str, of: &str| {
        format!("{target:<width$}  {bytes:>14}  {limit:>9}  {of:>8}\n")
    };
    let mut text = line("target", "stripped bytes", "limit", "of limit");
    for row in rows {
        let percent = row.bytes.saturating_mul(1000) / row.limit.max(1);
        let of = format!("{}.{} %", percent / 10, percent % 10);
        text += &line(&row.target, &row.bytes.to_string(), &row.limit.to_string(), &of);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Row, table};

    #[test]
    fn the_table_tells_the_share_of_the_limit() {
        let target = "x86_64-unknown-linux-gnu".to_owned();
        let text = table(&[Row { target, bytes: 600_000, limit: 655_360 }]);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["x86_64-unknown-linux-gnu", "600000", "655360", "91.5", "%"]);
        assert!(text.lines().all(|line| line.len() <= 80));
    }
}
