//! What every test program of the running daemon begins with.
//!
//! A harness of its own, since the user namespace must be entered before any thread runs.

use std::process::ExitCode;

use board_tests::lab::enter;
use libtest_mimic::{Arguments, Failed, Trial};

/// How a test ends.
pub(crate) type Outcome = Result<(), Failed>;

/// Enters the namespace and runs the tests, or fails with what the machine must allow.
pub(crate) fn run(tests: Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match enter() {
        Ok(()) => tests,
        Err(error) => {
            let refused = error.to_string();
            vec![Trial::test("namespaces_are_allowed", move || Err(refused.into()))]
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}
