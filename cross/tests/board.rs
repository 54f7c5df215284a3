//! The package where it is installed: a root of busybox, in namespaces of its own, with the files
//! of the package and with scripts that stand for OpenWrt's. Init script, upgrade hook and daemon
//! are the real ones, and so is the kernel.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod made;

use std::process::Command;
use std::sync::OnceLock;

use made::{Feed, Unpacked, run, said, top};

fn package() -> &'static Unpacked {
    static UNPACKED: OnceLock<Unpacked> = OnceLock::new();
    UNPACKED.get_or_init(|| Feed::make(&["--profile", "small-64mb"]).unpack())
}

/// What `script` prints on a board; it ends at the first command that fails.
fn board(script: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.args(["60", "unshare", "--user", "--map-root-user", "--mount", "--net", "--pid"]);
    command.args(["--fork", "--kill-child", "sh"]).arg(top("cross/tests/openwrt/enter.sh"));
    command.arg(top("cross/tests/openwrt/board")).arg(package().files()).arg(root.path());
    said(&command.arg(script).output().unwrap())
}

/// Begins a script that needs the daemon: waits until it serves, or ends with it. A file
/// `/tmp/place` names another directory for its images.
const RUNNING: &str = "
    place=$(cat /tmp/place 2>/dev/null || echo /etc/firmware-ctd)
    sed -i \"s,^directory = .*,directory = '$place'  # there,\" /etc/firmware-ctd.toml
    firmware-ctd run -c /etc/firmware-ctd.toml 2>/tmp/log & daemon=$!
    until firmware-ctd status -c /etc/firmware-ctd.toml >/dev/null 2>&1; do kill -0 $daemon; done
";

/// The same with a daemon that runs, and what comes before it.
fn running(before: &str, script: &str) -> String {
    board(&format!("{before}\n{RUNNING}{script}"))
}

const INSTANCE: &str = "\
open_instance
set_param command /usr/sbin/firmware-ctd run -c /etc/firmware-ctd.toml
set_param file /etc/firmware-ctd.toml
set_param reload_signal HUP
set_param respawn 3600 5 0
set_param term_timeout 15
set_param stderr 1
close_instance
";

#[test]
fn shells_and_shellcheck_take_the_scripts() {
    let scripts =
        ["config/openwrt/firmware-ctd.init", "config/openwrt/upgrade.sh"].map(top).to_vec();
    let test = top("cross/openwrt/firmware-ctd/test.sh");
    for script in scripts.iter().chain([&test]) {
        let script = script.to_str().unwrap();
        run(&top(""), "sh", &["-n", script]);
        run(&top(""), "busybox", &["ash", "-n", script]);
        run(&top(""), "shellcheck", &[script]);
    }
}

#[test]
fn the_boards_tar_reads_the_archives_of_the_package() {
    for (archive, file) in
        [("data.tar.gz", "./usr/sbin/firmware-ctd"), ("control.tar.gz", "./control")]
    {
        let list = run(&package().outer(), "busybox", &["tar", "-tzf", archive]);
        assert!(list.lines().any(|line| line == file), "{list}");
    }
}

#[test]
fn it_starts_between_firewall_and_network_and_stops_before_the_network() {
    assert_eq!(board("/etc/init.d/firmware-ctd enable; cat $ASKED"), "enable S19 K85 procd=1\n");
}

#[test]
fn procd_is_asked_for_one_instance_that_a_signal_reloads() {
    let asked = board("/etc/init.d/firmware-ctd start; cat $ASKED");
    assert_eq!(asked, format!("open_service\n{INSTANCE}close_service\n"));
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let asked = board(
        "echo 'wrong =' >>/etc/firmware-ctd.toml
         /etc/init.d/firmware-ctd start 2>/tmp/said || true
         grep -q '^/etc/firmware-ctd.toml:' /tmp/said
         cat $ASKED",
    );
    assert_eq!(asked, "open_service\nclose_service\n");
}

#[test]
fn a_wrong_configuration_ends_no_daemon_that_runs() {
    let asked = running(
        "",
        "echo 'wrong =' >>/etc/firmware-ctd.toml
         /etc/init.d/firmware-ctd reload 2>/dev/null
         kill -HUP $daemon
         until grep -q 'firmware-ctd.toml:[0-9]' /tmp/log; do kill -0 $daemon; done
         firmware-ctd status >/dev/null
         cat $ASKED",
    );
    assert_eq!(asked, format!("open_service\n{INSTANCE}close_service\n"));
}

#[test]
fn a_stop_has_saved_before_procd_is_asked_to_kill() {
    let said = running(
        "",
        "test ! -e /etc/firmware-ctd
         /etc/init.d/firmware-ctd stop >/tmp/said
         grep -q '^saved generation 1:' /tmp/said
         cat $ASKED
         kill -0 $daemon
         firmware-ctd checkpoint verify /etc/firmware-ctd/?.ckpt",
    );
    assert!(said.starts_with("kill\ngood: generation 1,"), "{said}");
}

/// The configuration names another socket than the usual one.
const ELSEWHERE: &str =
    r#"sed -i 's,^\[control\],&\nsocket = "/tmp/there.sock",' /etc/firmware-ctd.toml"#;

#[test]
fn a_stop_and_an_upgrade_ask_at_the_configured_socket() {
    let said = running(
        ELSEWHERE,
        &format!(
            "if firmware-ctd status 2>/dev/null; then exit 1; fi
             /etc/init.d/firmware-ctd stop >/tmp/said
             grep -q '^saved generation 1:' /tmp/said
             {HOOKS}
             NEED_IMAGE= CONF_BACKUP_LIST=0
             hooks >/dev/null
             cat /tmp/list"
        ),
    );
    assert!(said.contains("/etc/firmware-ctd/") && said.contains(".ckpt"), "{said}");
}

#[test]
fn a_stop_with_a_configuration_that_was_made_wrong_since_has_saved_too() {
    running(
        "",
        &format!(
            "echo 'wrong =' >>/etc/firmware-ctd.toml
             /etc/init.d/firmware-ctd stop >/tmp/said
             grep -q '^saved generation 1:' /tmp/said
             {HOOKS}
             NEED_IMAGE= CONF_BACKUP_LIST=0
             hooks >/dev/null
             grep -q ckpt /tmp/list"
        ),
    );
}

#[test]
fn a_stop_without_a_daemon_goes_on() {
    assert_eq!(board("/etc/init.d/firmware-ctd stop 2>/dev/null; cat $ASKED"), "kill\n");
}

/// What sysupgrade does with its hooks.
const HOOKS: &str = "
    sysupgrade_init_conffiles=other
    echo other >/etc/other
    other() { echo /etc/other >>$1; }
    . /lib/upgrade/firmware-ctd.sh
    hooks() { for hook in $sysupgrade_init_conffiles; do $hook /tmp/list; done; }
";

#[test]
fn an_upgrade_takes_the_fresh_image_along_wherever_it_is() {
    let said = running(
        "echo /overlay/flows >/tmp/place",
        &format!(
            "{HOOKS}
             NEED_IMAGE= CONF_BACKUP_LIST=0
             hooks >/dev/null
             cat /tmp/list
             xargs tar -czf /tmp/conf.tgz </tmp/list 2>/dev/null
             kill $daemon
             wait $daemon
             rm -r /overlay/flows
             tar -xzf /tmp/conf.tgz -C /
             firmware-ctd checkpoint verify $(grep ckpt /tmp/list) >/dev/null"
        ),
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("/overlay/flows/") && said.contains(".ckpt"), "{said}");
}

#[test]
fn an_image_that_is_listed_already_is_listed_once() {
    let said = running(
        "",
        &format!(
            "{HOOKS}
             NEED_IMAGE= CONF_BACKUP_LIST=0
             other() {{ echo /etc/firmware-ctd/a.ckpt >>$1; echo /etc/firmware-ctd/b.ckpt >>$1; }}
             hooks >/dev/null
             cat /tmp/list"
        ),
    );
    assert_eq!(said, "/etc/firmware-ctd/a.ckpt\n/etc/firmware-ctd/b.ckpt\n");
}

#[test]
fn neither_backups_nor_lists_of_them_hold_flows() {
    let said = running(
        "",
        &format!(
            "{HOOKS}
         NEED_IMAGE=1 CONF_BACKUP_LIST=0 hooks
         NEED_IMAGE= CONF_BACKUP_LIST=1 hooks
         test ! -e /etc/firmware-ctd
         cat /tmp/list"
        ),
    );
    assert_eq!(said, "/etc/other\n/etc/other\n");
}

#[test]
fn an_upgrade_keeps_no_old_image_and_is_never_held_up() {
    let hooks = format!(
        "{HOOKS}
         NEED_IMAGE= CONF_BACKUP_LIST=0
         hooks 2>/tmp/said
         cat /tmp/said /tmp/list"
    );
    let old = "mkdir /etc/firmware-ctd; echo old >/etc/firmware-ctd/a.ckpt";
    let said = board(&format!("{old}\n{hooks}"));
    assert!(said.starts_with("firmware-ctd: no daemon answers"), "{said}");
    assert!(said.ends_with("/etc/other\n") && said.lines().count() == 2, "{said}");
    let said = running("sed -i '/^directory/d' /etc/firmware-ctd.toml", &hooks);
    assert!(said.starts_with("firmware-ctd: checkpoints are off"), "{said}");
    assert!(said.ends_with("/etc/other\n") && said.lines().count() == 2, "{said}");
}

#[test]
fn opkgs_scripts_call_openwrts_functions() {
    let control = package().control();
    let run = |script: &str, environment: &str| {
        let text = std::fs::read_to_string(control.join(script)).unwrap();
        board(&format!(
            "cat >/tmp/{script} <<'END'\n{text}END\n\
             chmod +x /tmp/{script}; {environment} /tmp/{script} one two; cat $ASKED"
        ))
    };
    assert_eq!(run("postinst", ""), "default_postinst /tmp/postinst one two\n");
    assert_eq!(run("prerm", ""), "default_prerm /tmp/prerm one two\n");
    assert_eq!(run("postinst", "IPKG_NO_SCRIPT=1"), "");
    assert_eq!(run("postinst", "IPKG_INSTROOT=/elsewhere"), "");
}

#[test]
fn the_feeds_own_test_passes_and_can_fail() {
    let text = std::fs::read_to_string(top("cross/openwrt/firmware-ctd/test.sh")).unwrap();
    let script = format!("cat >/tmp/test.sh <<'END'\n{text}END\n");
    let version = env!("CARGO_PKG_VERSION");
    board(&format!("{script} sh /tmp/test.sh firmware-ctd {version}"));
    board(&format!("{script} sh /tmp/test.sh another-package 9"));
    for wrong in ["true", "rm /etc/firmware-ctd.toml", "echo 'if' >>/etc/init.d/firmware-ctd"] {
        let version = if wrong == "true" { "9.9.9" } else { version };
        board(&format!("{script} {wrong}; ! sh /tmp/test.sh firmware-ctd {version}"));
    }
}
