//! To come.

mod harness;

fn main() -> std::process::ExitCode {
    harness::run(Vec::new())
}
