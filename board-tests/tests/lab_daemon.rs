//! The real daemon in the lab's router: what its sink says is what the hosts sent and received.
//!
//! Harness of its own, since the user namespace must be entered before any thread runs.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use board_tests::lab::daemon::{self, Daemon};
use board_tests::lab::records::{self, Record};
use board_tests::lab::{Difference, Lab, LabError, Ledger, Options, Plan, enter};
use libtest_mimic::{Arguments, Failed, Trial};

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let ready = daemon::binary().and_then(|binary| enter().map(|()| binary));
    let tests = match ready {
        Ok(binary) => vec![
            Trial::test("demo_finds_all_equal", {
                let binary = binary.clone();
                move || demo_finds_all_equal(&binary)
            }),
            Trial::test("twenty_thousand_flows_are_accounted_as_they_were", move || {
                flows_are_accounted(&binary)
            }),
            Trial::test("demo_fails_without_a_daemon", demo_fails_without_a_daemon),
        ],
        Err(error) => vec![Trial::test("the_lab_can_be_made", move || refused(&error))],
    };
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Every test fails, with the reason, where the daemon or the lab cannot be made.
fn refused(error: &LabError) -> Outcome {
    Err(error.to_string().into())
}

/// 20,000 NATed and forwarded flows of random size: lines = distinct keys = flows, and packets and
/// bytes of each equal the hosts'. Some end by timeout, some by the flush.
fn flows_are_accounted(binary: &Path) -> Outcome {
    const FLOWS: u32 = 20_000;
    let mut lab = Lab::new(&Options::default())?;
    lab.router.short_timeouts(3)?;
    let daemon = Daemon::start(&lab.router, binary, daemon::configuration)?;
    let ledger = lab.hosts.run(&Plan::of(FLOWS, 11), |_| {})?;
    lab.router.dump()?;
    lab.router.flush()?;
    let records = daemon.records(ledger.flows.len(), Duration::from_secs(30))?;
    let status = String::from_utf8(daemon.client(&["status"]).output()?.stdout)?;
    assert_eq!(lab.router.invalid()?, 0);
    let (exit, log) = daemon.stop()?;
    assert!(exit.success(), "{exit}, log: {log:?}");
    compare(&ledger, &records).map_err(|difference| format!("{difference}\n{status}").into())
}

fn compare(ledger: &Ledger, records: &[Record]) -> Result<(), String> {
    let distinct = records::distinct(records);
    let strange = records.iter().filter(|r| r.kind != "destroy" || r.key.is_none() || r.weak_key);
    let counts = [ledger.flows.len(), records.len(), distinct.len(), strange.count()];
    let differences: Vec<Difference> = ledger.check(distinct);
    let few: Vec<String> = differences.iter().take(5).map(ToString::to_string).collect();
    if differences.is_empty() && counts == [counts[0], counts[0], counts[0], 0] {
        return Ok(());
    }
    let [flows, lines, keys, strange] = counts;
    Err(format!(
        "{flows} flows, {lines} lines, {keys} distinct keys, {strange} lines that are no destroy or \
         have no key of their own; {} differences, among them:\n{}",
        differences.len(),
        few.join("\n")
    ))
}

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(["--flows", "300", "--seconds", "1"]).stdin(Stdio::null());
    command
}

fn demo_finds_all_equal(binary: &Path) -> Outcome {
    let output = demo().arg("--daemon").arg(binary).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\nEQUAL: every flow"), "{text}");
    // The progress is there without a terminal too, without its control characters.
    assert!(text.contains(" of 300 transfers") && !text.contains('\r'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    Ok(())
}

fn demo_fails_without_a_daemon() -> Outcome {
    for (daemon, why) in [("/bin/false", "did not get ready"), ("/no/such/file", "/no/such/file")] {
        let output = demo().args(["--daemon", daemon]).output()?;
        let error = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(70), "{error}");
        assert!(error.starts_with("demo: ") && error.contains(why), "{error}");
    }
    Ok(())
}
