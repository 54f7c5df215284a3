//! `cargo board-tests`: see [`board_tests::runner`].

use std::process::ExitCode;

fn main() -> ExitCode {
    board_tests::runner::main()
}
