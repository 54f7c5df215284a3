//! Every kind of flow through a reboot.

use std::sync::Arc;

use board_tests::daemon::{binary, client, tool};
use board_tests::lab::Netns;
use board_tests::lab::daemon::Daemon;
use board_tests::lab::reboot::BootId;
use board_tests::measure;
use board_tests::peers::bench;
use libtest_mimic::Failed;

use crate::harness::Outcome;
use crate::{kinds, verify};

/// The daemon runs, ends, and runs in the next boot with a new kernel table: conntrack(8) shows the
/// flows as they were, and the daemon tells them too.
pub(crate) fn every_kind() -> Outcome {
    let flash = tempfile::tempdir()?;
    let run = |boot, netns: &Netns| -> Result<Daemon, Failed> {
        let memory = Arc::new(tempfile::tempdir()?);
        let lines = "keep = [\"all\"]\ntimeout_cap_s = 432000";
        let text = format!(
            "[control]\nsocket = {:?}\n[kernel]\nmanage_sysctls = true\n\
             [checkpoint]\ndirectory = {:?}\n{lines}\n",
            memory.path().join("ctd.sock"),
            flash.path().join("images"),
        );
        let boot = BootId::new(flash.path(), boot)?;
        Ok(Daemon::start_booted(netns, &binary()?, memory, &text, Some(&boot), &[])?)
    };
    let (netns, _) = bench::place()?;
    let count = kinds::all_kinds(&netns)?;
    let daemon = run(1, &netns)?;
    measure::wait_for("the first dump", 30, || {
        let flows = client::status(&daemon.socket())?.flows();
        Ok((flows == count as u64).then_some(()))
    })?;
    let before = kinds::shown(&netns)?;
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), count);
    let (status, log) = daemon.stop()?;
    assert!(status.success(), "{status}: {log:?}");
    verify(&flash.path().join("images"), 1, count)?;

    let (netns, _) = bench::place()?;
    tool::output(&netns, "nft".as_ref(), &[kinds::RULES])?;
    let daemon = run(2, &netns)?;
    let status = client::status(&daemon.socket())?;
    let restored = &status.0["restore"];
    assert_eq!(restored["restored"].as_u64(), Some(count as u64), "{restored}");
    kinds::same_shown(&before, &kinds::shown(&netns)?);
    let told = client::ask(&daemon.socket(), "flows json all")?;
    assert_eq!(told.lines().count(), count);
    assert!(told.lines().all(|line| line.contains("\"account\":")), "{told}");
    Ok(())
}
