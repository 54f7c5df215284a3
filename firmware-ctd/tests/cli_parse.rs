//! The command line as users type it, and what they are told when it is wrong.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use firmware_ctd::cli::{self, Action, At, Format, Topic};
use proptest::prelude::*;

const SOCKET: &str = "/var/run/firmware-ctd.sock";

fn parse(line: &str) -> Result<Action, String> {
    let words = std::iter::once("firmware-ctd").chain(line.split_whitespace());
    cli::parse(words.map(OsString::from)).map_err(|error| error.to_string())
}

fn files(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

#[test]
fn every_command_is_understood() {
    let at = At::Socket(PathBuf::from(SOCKET));
    let s = At::Socket(PathBuf::from("/s"));
    let c = At::Configured(files(&["a", "b"]));
    for (line, action) in [
        ("run", Action::Run { files: vec![] }),
        ("run -c a --config b -cd --config=e", Action::Run { files: files(&["a", "b", "d", "e"]) }),
        ("validate -c a", Action::Validate { files: files(&["a"]) }),
        ("status", Action::Status { at: at.clone(), format: Format::Text }),
        ("status --json -s /s", Action::Status { at: s.clone(), format: Format::Json }),
        ("status --prometheus", Action::Status { at: at.clone(), format: Format::Prometheus }),
        (
            "flows --json --all proto=tcp -s /s assured",
            Action::Flows {
                at: s.clone(),
                json: true,
                all: true,
                filter: vec!["proto=tcp".into(), "assured".into()],
            },
        ),
        ("flows", Action::Flows { at: at.clone(), json: false, all: false, filter: vec![] }),
        ("events --socket /s", Action::Events { at: s, json: false }),
        ("events --json", Action::Events { at, json: true }),
        ("status -c a -c b", Action::Status { at: c.clone(), format: Format::Text }),
        ("events --config a -c b --json", Action::Events { at: c.clone(), json: true }),
        ("checkpoint save -c a -c b", Action::CheckpointSave { at: c, wait_s: 0 }),
        ("selftest --json", Action::Selftest { json: true }),
        ("checkpoint show f", Action::CheckpointShow { file: "f".into(), json: false }),
        ("checkpoint --json show f", Action::CheckpointShow { file: "f".into(), json: true }),
        ("checkpoint verify f", Action::CheckpointVerify { file: "f".into() }),
        ("checkpoint show -h", Action::Help(Topic::Checkpoint)),
        ("--version", Action::Version),
        ("-V", Action::Version),
        ("--help", Action::Help(Topic::Program)),
        ("-h", Action::Help(Topic::Program)),
        ("help", Action::Help(Topic::Program)),
        ("help flows", Action::Help(Topic::Flows)),
        ("run --help", Action::Help(Topic::Run)),
        ("flows proto=tcp -h", Action::Help(Topic::Flows)),
        ("selftest --version", Action::Version),
    ] {
        assert_eq!(parse(line), Ok(action), "{line}");
    }
}

#[test]
fn what_is_wrong_is_told_on_one_line_with_what_to_do() {
    for (line, message) in [
        ("", "no command; see firmware-ctd --help"),
        ("statsu", "unknown command \"statsu\"; did you mean \"status\"?"),
        ("flow", "unknown command \"flow\"; did you mean \"flows\"?"),
        ("checkpoint", "checkpoint: do what?; see firmware-ctd checkpoint --help"),
        ("checkpoint shwo f", "checkpoint cannot \"shwo\"; did you mean \"show\"?"),
        ("checkpoint eat f", "checkpoint cannot \"eat\"; see firmware-ctd checkpoint --help"),
        ("checkpoint show", "checkpoint show needs a file; see firmware-ctd checkpoint --help"),
        ("checkpoint sav", "checkpoint cannot \"sav\"; did you mean \"save\"?"),
        ("checkpoint save f", "checkpoint save takes no file; see firmware-ctd checkpoint --help"),
        (
            "checkpoint save --wait soon",
            "--wait needs a number of seconds, 0 to 65535; see firmware-ctd checkpoint --help",
        ),
        (
            "checkpoint show -s /s f",
            "checkpoint show has no option --socket; see firmware-ctd checkpoint --help",
        ),
        (
            "status -c a -s /s",
            "choose one of --socket and --config; see firmware-ctd status --help",
        ),
        (
            "checkpoint save -s /s -c a",
            "choose one of --socket and --config; see firmware-ctd checkpoint --help",
        ),
        ("checkpoint show a b", "checkpoint takes no \"b\"; see firmware-ctd checkpoint --help"),
        (
            "checkpoint verify --json a",
            "checkpoint verify has no option --json; see firmware-ctd checkpoint --help",
        ),
        ("help flwos", "unknown command \"flwos\"; did you mean \"flows\"?"),
        ("-c a run", "-c stands before the command; see firmware-ctd --help"),
        ("run -c", "-c needs a path; see firmware-ctd run --help"),
        ("run --config=", "--config needs a path; see firmware-ctd run --help"),
        ("run --conf a", "run has no option --conf; did you mean --config?"),
        ("run -x", "run has no option -x; see firmware-ctd run --help"),
        (
            "validate a.toml",
            "validate takes no \"a.toml\"; name a configuration file with -c FILE; see \
             firmware-ctd validate --help",
        ),
        ("status now", "status takes no \"now\"; see firmware-ctd status --help"),
        ("status --all", "status has no option --all; see firmware-ctd status --help"),
        ("status --jsn", "status has no option --jsn; did you mean --json?"),
        (
            "status --json --prometheus",
            "choose one of --json and --prometheus; see firmware-ctd status --help",
        ),
        ("selftest -s /s", "selftest has no option -s; see firmware-ctd selftest --help"),
        (
            "flows port=x",
            "filter \"port=x\": not a value; allowed: 0 to 65535, or a range as 1000-2000",
        ),
        ("flows asured", "filter \"asured\": unknown; did you mean \"assured\"?"),
        (
            "flows tcp",
            "filter \"tcp\": unknown; known: family= proto= src= dst= addr= sport= \
                       dport= port= zone= mark= label= state= assured snat dnat offload",
        ),
        ("status --json=yes", "--json takes no value; see firmware-ctd status --help"),
    ] {
        assert_eq!(parse(line), Err(message.to_owned()), "{line}");
    }
}

#[test]
fn paths_need_not_be_utf8_but_filters_must() {
    let strange = OsString::from_vec(b"/tmp/\xff".to_vec());
    let words = ["x", "run", "-c"].map(OsString::from);
    let action = cli::parse(words.into_iter().chain([strange.clone()]));
    assert_eq!(action, Ok(Action::Run { files: vec![strange.clone().into()] }));
    let words = ["x", "flows"].map(OsString::from);
    let error = cli::parse(words.into_iter().chain([strange])).unwrap_err();
    assert!(error.to_string().starts_with("a filter is not UTF-8 text"), "{error}");
}

#[test]
fn help_fits_a_terminal_and_names_every_command_and_option() {
    let topics = [
        Topic::Program,
        Topic::Run,
        Topic::Validate,
        Topic::Status,
        Topic::Flows,
        Topic::Events,
        Topic::Selftest,
    ];
    for topic in topics {
        let help = topic.help();
        assert!(help.ends_with('\n'));
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        assert!(help.lines().count() <= 24, "{} lines: {help}", help.lines().count());
        assert!(Topic::Program.help().contains(topic.name()));
        assert!(help.contains(topic.name()));
        for option in ["--config", "--socket", "--json", "--prometheus", "--all"] {
            let value = if matches!(option, "--config" | "--socket") { " /x" } else { "" };
            let takes = parse(&format!("{} {option}{value}", topic.name())).is_ok();
            assert_eq!(takes, help.contains(option), "{} {option}", topic.name());
        }
    }
    assert!(Topic::Status.help().contains(SOCKET));
}

proptest! {
    #[test]
    fn any_words_give_an_action_or_one_line(
        words in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(1u8.., 0..60).prop_map(OsString::from_vec),
                prop::sample::select(vec![
                    "run", "flows", "status", "-c", "-s", "--json", "--config=x", "--", "-", "-cs",
                    "proto=tcp", "help",
                ]).prop_map(OsString::from),
            ],
            0..6,
        )
    ) {
        if let Err(error) = cli::parse(std::iter::once("x".into()).chain(words)) {
            let text = error.to_string();
            prop_assert!(!text.contains(char::is_control), "{:?}", text);
            prop_assert!(text.chars().count() < 300, "{}", text);
        }
    }
}
