//! The daemon's view against that of Debian's conntrack(8) in the same namespace: flow by flow and
//! field by field, the table and the events.
//!
//! Flows of every protocol that this kernel makes, by conntrack(8) and by requests of our own, and
//! real packets through a NAT router.

mod harness;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use board_tests::daemon::tool::{self, Line};
use board_tests::daemon::{Settings, Tested, client, requests::Requests};
use board_tests::lab::{Lab, Netns, Options, Plan};
use board_tests::measure;
use board_tests::peers::bench;
use firmware_ctd::wire::{
    Conntrack, Helper, L4, Labels, NatRange, ProtoInfo, Protocol, Sctp, SeqAdj, Status, SynProxy,
    Tcp, TcpFlags, TcpState, Tuple,
};
use harness::Outcome;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        Trial::test("made_flows_as_events_tell_them", made_flows_by_events),
        Trial::test("made_flows_as_dumps_tell_them", made_flows_by_dumps),
        Trial::test("real_flows_by_events_and_refresh", || real_flows(true)),
        Trial::test("real_flows_as_dumps_tell_them", || real_flows(false)),
        Trial::test("events_come_in_the_same_order", events_in_order),
        Trial::test("fields_that_differ_are_found", fields_that_differ_are_found),
    ])
}

// --- flows of every kind -------------------------------------------------------------------------

const V4: [&str; 4] = ["-s", "192.0.2.1", "-d", "198.51.100.1"];
const V6: [&str; 4] = ["-s", "2001:db8::1", "-d", "2001:db8::ffff:2"];

/// Arguments of `conntrack -I` beside addresses and timeout, one flow a line.
const MADE: &str = "\
-p udp --sport 1 --dport 53
-p udp --sport 2 --dport 53 -u SEEN_REPLY
-p udp --sport 3 --dport 53 -u SEEN_REPLY,ASSURED -m 4294967295
-p udp --sport 4 --dport 53 -u FIXED_TIMEOUT -m 7
-p udp --sport 5 --dport 53 -w 65535
-p udp --sport 6 --dport 53 --orig-zone 4
-p udp --sport 65535 --dport 65535
-p tcp --sport 1 --dport 80 --state NONE
-p tcp --sport 2 --dport 80 --state SYN_SENT
-p tcp --sport 3 --dport 80 --state SYN_RECV -u SEEN_REPLY
-p tcp --sport 4 --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -w 3 -m 1
-p tcp --sport 5 --dport 80 --state FIN_WAIT
-p tcp --sport 6 --dport 80 --state CLOSE_WAIT
-p tcp --sport 7 --dport 80 --state LAST_ACK
-p tcp --sport 8 --dport 80 --state TIME_WAIT
-p tcp --sport 9 --dport 80 --state CLOSE
-p tcp --sport 10 --dport 80 --state LISTEN
-p udplite --sport 1 --dport 53
-p sctp --sport 1 --dport 80 --state CLOSED --orig-vtag 1 --reply-vtag 2
-p sctp --sport 2 --dport 80 --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2
-p sctp --sport 3 --dport 80 --state COOKIE_ECHOED --orig-vtag 1 --reply-vtag 2
-p sctp --sport 4 --dport 80 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -m 9
-p sctp --sport 5 --dport 80 --state SHUTDOWN_SENT --orig-vtag 1 --reply-vtag 2
-p sctp --sport 6 --dport 80 --state SHUTDOWN_RECD --orig-vtag 1 --reply-vtag 2
-p sctp --sport 7 --dport 80 --state SHUTDOWN_ACK_SENT --orig-vtag 1 --reply-vtag 2
-p gre --srckey 0x111 --dstkey 0xfffe
-p 99
-p 254 -m 3";

const MADE_V4: &str = "\
-p icmp --icmp-type 8 --icmp-code 0 --icmp-id 77
-p icmp --icmp-type 13 --icmp-code 0 --icmp-id 65535
-p udp --sport 20 --dport 53 -n 203.0.113.1:4444
-p udp --sport 21 --dport 53 -n 203.0.113.2
-p tcp --sport 22 --dport 80 --state ESTABLISHED -g 10.1.1.1:8080
-p udp --sport 23 --dport 53 -g 10.1.1.2";

const MADE_V6: &str = "\
-p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78
-p udp --sport 20 --dport 53 -n [2001:db8:7::1]:4444
-p tcp --sport 22 --dport 80 --state ESTABLISHED -g [2001:db8:8::1]:8080";

/// Makes all of the above; how many.
fn by_tool(netns: &Netns) -> io::Result<usize> {
    Ok(by_tool_of(netns, false)? + by_tool_of(netns, true)?)
}

/// Those of one family.
fn by_tool_of(netns: &Netns, ipv6: bool) -> io::Result<usize> {
    let (addresses, list) = if ipv6 { (V6, MADE_V6) } else { (V4, MADE_V4) };
    let mut count = 0;
    for line in MADE.lines().chain(list.lines()) {
        let mut arguments = vec!["-I", "-t", "3000"];
        arguments.extend(addresses);
        arguments.extend(line.split(' '));
        tool::conntrack(netns, &arguments)?;
        count += 1;
    }
    Ok(count)
}

const RULES: &str = "table inet test {
    ct helper ftp { type \"ftp\" protocol tcp; }
    chain output { type filter hook output priority 0
        tcp dport 21 ct helper set \"ftp\"
        udp dport 5353 ct label set 5
    }
}";

fn tuple(ipv6: bool, proto: Protocol, l4: L4) -> Tuple {
    let pair: [IpAddr; 2] = if ipv6 {
        [[0x2001, 0xdb8, 0, 0, 0, 0, 1, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 2, 2].into()]
    } else {
        [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]
    };
    Tuple { src: pair[0], dst: pair[1], proto, l4 }
}

/// A flow with nothing special.
fn plain(orig: Tuple) -> Conntrack<'static> {
    let state = TcpState::ESTABLISHED;
    Conntrack {
        orig: Some(orig),
        reply: Some(orig.inverse()),
        timeout_s: Some(3000),
        status: Some(Status(Status::CONFIRMED | Status::SEEN_REPLY)),
        protoinfo: match orig.proto {
            Protocol::TCP => ProtoInfo::Tcp(Tcp { state: Some(state), ..Tcp::default() }),
            _ => ProtoInfo::None,
        },
        ..Conntrack::default()
    }
}

/// What conntrack(8) cannot make, with the words that the daemon must tell beside it.
fn rare() -> Vec<(Conntrack<'static>, Vec<(&'static str, Value)>)> {
    let ports = |src, dst| L4::Ports { src, dst };
    let udp = |src| plain(tuple(false, Protocol::UDP, ports(src, 53)));
    let tcp = |src, dst| plain(tuple(true, Protocol::TCP, ports(src, dst)));
    let adjusted = |n| Some(SeqAdj { correction_pos: n, offset_before: 1, offset_after: 2 });
    let scaled = TcpFlags { flags: 1, mask: 1 };
    let address = |a: [u8; 4]| Some(IpAddr::from(a));
    let mut labels = Labels::default();
    labels.0[0] = 0x20;
    vec![
        (Conntrack { zone_orig: Some(8), ..udp(1) }, vec![("zone", 8.into())]),
        (Conntrack { zone_reply: Some(9), ..udp(2) }, vec![("zone", 0.into())]),
        (
            Conntrack {
                seqadj_orig: adjusted(77),
                seqadj_reply: adjusted(78),
                synproxy: Some(SynProxy { isn: 1, its: 2, tsoff: 3 }),
                ..tcp(3, 80)
            },
            vec![("status", "seq-adjust".into())],
        ),
        (Conntrack { labels: Some(labels), ..udp(4) }, vec![("labels", hex(&labels))]),
        (
            Conntrack { helper: Some(Helper { name: b"ftp", info: None }), ..tcp(5, 21) },
            vec![("helper", "ftp".into()), ("status", "helper".into())],
        ),
        (
            Conntrack { master: tcp(5, 21).orig, ..tcp(6, 2000) },
            vec![("status", "expected".into())],
        ),
        (
            Conntrack {
                protoinfo: ProtoInfo::Tcp(Tcp {
                    state: Some(TcpState::ESTABLISHED),
                    wscale_orig: Some(7),
                    wscale_reply: Some(14),
                    flags_orig: Some(scaled),
                    flags_reply: Some(scaled),
                }),
                ..tcp(7, 80)
            },
            vec![],
        ),
        (
            Conntrack {
                nat_src: Some(NatRange {
                    min: address([203, 0, 113, 9]),
                    max: address([203, 0, 113, 9]),
                    ports: Some((999, 999)),
                }),
                nat_dst: Some(NatRange {
                    min: address([10, 9, 9, 9]),
                    max: address([10, 9, 9, 9]),
                    ports: None,
                }),
                ..udp(8)
            },
            vec![],
        ),
        (
            Conntrack {
                protoinfo: ProtoInfo::Sctp(Sctp {
                    state: Some(3),
                    vtag_orig: Some(0xffff_0001),
                    vtag_reply: Some(2),
                }),
                ..plain(tuple(true, Protocol::SCTP, ports(9, 9)))
            },
            vec![],
        ),
    ]
}

fn hex(labels: &Labels) -> Value {
    labels.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Makes the rare ones; what must be told of each by its original source port.
fn by_request(netns: &Netns) -> io::Result<HashMap<u64, Vec<(&'static str, Value)>>> {
    tool::output(netns, "nft".as_ref(), &[RULES])?;
    let requests = Requests::open(netns)?;
    let mut told = HashMap::new();
    for (ct, words) in rare() {
        requests.create(&ct).map_err(|error| io::Error::other(format!("{error}: {ct:?}")))?;
        if let Some(L4::Ports { src, .. }) = ct.orig.map(|tuple| tuple.l4) {
            told.insert(src.into(), words);
        }
    }
    Ok(told)
}

// --- the comparison ------------------------------------------------------------------------------

/// What of a flow is not told by every source.
#[derive(Clone, Copy)]
struct Wanted {
    counters: bool,
    timeout: bool,
}

/// Every field of `flow` that is not what conntrack(8) shows.
fn differences(line: &Line, flow: &Value, wanted: Wanted) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, told: &Value, expected: Value| {
        if *told != expected {
            found.push(format!("{what}: told {told}, the kernel has {expected}"));
        }
    };
    compare("family", &flow["family"], if line.ipv6 { "ipv6" } else { "ipv4" }.into());
    compare("proto", &flow["proto"], protocol(line.proto));
    for (name, direction) in [("orig", &line.orig), ("reply", &line.reply)] {
        for (ours, theirs) in FIELDS {
            let counter = ["packets", "bytes"].contains(&ours);
            let expected = if counter && !wanted.counters {
                Value::Null
            } else if ["src", "dst"].contains(&ours) {
                direction.get(theirs).map_or(Value::Null, |text| text.clone().into())
            } else {
                Line::number(direction, theirs).map_or(Value::Null, Value::from)
            };
            let told = if counter && !wanted.counters { &Value::Null } else { &flow[name][ours] };
            compare(&format!("{name}.{ours}"), told, expected);
        }
    }
    let zone = Line::number(&line.other, "zone").or(Line::number(&line.orig, "zone-orig"));
    compare("zone", &flow["zone"], zone.unwrap_or(0).into());
    compare("mark", &flow["mark"], Line::number(&line.other, "mark").unwrap_or(0).into());
    compare("id", &flow["id"], line.id().into());
    compare("state", &flow["state"], state(line));
    let helper = line.other.get("helper").map_or(Value::Null, |name| name.clone().into());
    compare("helper", &flow["helper"], helper);
    for (word, expected) in words(line) {
        let list = flow["status"].as_array();
        let told = list.is_some_and(|list| list.iter().any(|told| told == word));
        compare(word, &told.into(), expected.into());
    }
    if wanted.timeout {
        let (told, expected) = (flow["timeout"].as_u64(), line.timeout_s.map(u64::from));
        let close = told.zip(expected).is_some_and(|(a, b)| a.abs_diff(b) <= 2);
        compare("timeout within 2 s", &close.into(), true.into());
    }
    found
}

/// Fields of a direction: in records, and in the words of conntrack(8).
const FIELDS: [(&str, &str); 11] = [
    ("src", "src"),
    ("dst", "dst"),
    ("sport", "sport"),
    ("dport", "dport"),
    ("srckey", "srckey"),
    ("dstkey", "dstkey"),
    ("icmp_type", "type"),
    ("icmp_code", "code"),
    ("icmp_id", "id"),
    ("packets", "packets"),
    ("bytes", "bytes"),
];

fn protocol(number: u8) -> Value {
    let names = [
        (1, "icmp"),
        (6, "tcp"),
        (17, "udp"),
        (33, "dccp"),
        (47, "gre"),
        (58, "icmpv6"),
        (132, "sctp"),
        (136, "udplite"),
    ];
    let name = names.iter().find(|(known, _)| *known == number);
    name.map_or(number.to_string(), |(_, name)| (*name).to_owned()).into()
}

fn state(line: &Line) -> Value {
    let state = line.state.as_ref();
    state.map_or(Value::Null, |state| state.to_lowercase().replace('_', "-").into())
}

/// Words of the status that conntrack(8) shows, one way or the other.
fn words(line: &Line) -> [(&'static str, bool); 4] {
    let flag = |name: &str| line.flags.iter().any(|flag| flag == name);
    let end = |direction: &BTreeMap<String, String>, address: &str, port: &str| {
        (direction.get(address).cloned(), direction.get(port).cloned())
    };
    let (orig, reply) = (&line.orig, &line.reply);
    [
        ("seen-reply", !flag("UNREPLIED")),
        ("assured", flag("ASSURED")),
        ("snat", end(orig, "src", "sport") != end(reply, "dst", "dport")),
        ("dnat", end(orig, "dst", "dport") != end(reply, "src", "sport")),
    ]
}

/// Compares two tables, by the kernel's id.
fn compare_tables(netns: &Netns, tested: &Tested, wanted: Wanted) -> Result<usize, Failed> {
    let lines = tool::list(netns)?;
    let flows = tested.flows()?;
    let told: HashMap<u64, &Value> =
        flows.iter().filter_map(|flow| Some((flow["id"].as_u64()?, flow))).collect();
    assert_eq!((flows.len(), told.len()), (lines.len(), lines.len()), "flows and distinct ids");
    let mut wrong = Vec::new();
    for line in &lines {
        let Some(flow) = told.get(&line.id().into()) else {
            wrong.push(format!("not told: {line:?}"));
            continue;
        };
        let found = differences(line, flow, wanted);
        if !found.is_empty() {
            wrong.push(format!("{}\n  in {flow}", found.join("\n  ")));
        }
    }
    fixed_timeouts(netns, &told, &mut wrong)?;
    nothing_wrong(&wrong)?;
    Ok(lines.len())
}

/// Which flows keep their timeout is shown by asking for them alone.
fn fixed_timeouts(
    netns: &Netns,
    told: &HashMap<u64, &Value>,
    wrong: &mut Vec<String>,
) -> io::Result<()> {
    let text = tool::conntrack(netns, &["-L", "-o", "id,extended", "-u", "FIXED_TIMEOUT"])?;
    let lines: io::Result<Vec<Line>> = text.lines().map(tool::understood).collect();
    let fixed: Vec<u64> = lines?.iter().map(|line| line.id().into()).collect();
    for (id, flow) in told {
        let word = flow["status"]
            .as_array()
            .is_some_and(|words| words.iter().any(|word| word == "fixed-timeout"));
        if word != fixed.contains(id) {
            wrong.push(format!("fixed-timeout told {word}: {flow}"));
        }
    }
    Ok(())
}

fn nothing_wrong(wrong: &[String]) -> Outcome {
    let few = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    match wrong.len() {
        0 => Ok(()),
        n => Err(format!("{n} differ, among them:\n{few}").into()),
    }
}

// --- the table -----------------------------------------------------------------------------------

fn made_flows_by_events() -> Outcome {
    let (netns, _) = bench::place()?;
    let tested = Tested::start(&netns, &settings(86_400))?;
    tested.wait("the first dump", 20, |status| status.stat("dumps") == 1)?;
    let told = by_request(&netns)?;
    let made = by_tool(&netns)? + told.len();
    let all = |status: &client::Status| status.flows() == made as u64;
    tested.wait("the events", 20, all)?;
    let wanted = Wanted { counters: false, timeout: true };
    assert_eq!(compare_tables(&netns, &tested, wanted)?, made);
    rare_words(&tested, &told)
}

fn made_flows_by_dumps() -> Outcome {
    let (netns, _) = bench::place()?;
    let told = by_request(&netns)?;
    let made = by_tool(&netns)? + told.len();
    let tested = Tested::start(&netns, &settings(86_400))?;
    tested.wait("the first dump", 20, |status| status.stat("dumps") == 1)?;
    let wanted = Wanted { counters: true, timeout: true };
    assert_eq!(compare_tables(&netns, &tested, wanted)?, made);
    rare_words(&tested, &told)?;
    starts(&netns, &tested)
}

/// What was asked for and conntrack(8) does not show is told.
fn rare_words(tested: &Tested, told: &HashMap<u64, Vec<(&'static str, Value)>>) -> Outcome {
    let of_ours = |flow: &&Value| {
        let src = flow["orig"]["src"].as_str().unwrap_or_default();
        src == "10.0.0.1" || src == "2001:db8::1:1"
    };
    let flows = tested.flows()?;
    let ours: Vec<&Value> = flows.iter().filter(of_ours).collect();
    assert_eq!(ours.len(), told.len());
    for flow in ours {
        let port = flow["orig"]["sport"].as_u64().ok_or("no port")?;
        for (name, value) in told.get(&port).ok_or("not one of ours")? {
            match flow[*name].as_array() {
                Some(words) => assert!(words.contains(value), "{name} of {flow}"),
                None => assert_eq!(&flow[*name], value, "{name} of {flow}"),
            }
        }
    }
    Ok(())
}

/// Starts are the kernel's, to the millisecond.
fn starts(netns: &Netns, tested: &Tested) -> Outcome {
    let text = tool::conntrack(netns, &["-L", "-o", "xml,id,ktimestamp"])?;
    let between = |part: &str, begin: &str, end: &str| -> Option<u64> {
        part.rsplit_once(begin)?.1.split_once(end)?.0.parse().ok()
    };
    let starts: HashMap<u64, u64> = text
        .lines()
        .filter_map(|line| Some((between(line, "<id>", "</id>")?, between(line, "<start>", "<")?)))
        .collect();
    for flow in tested.flows()? {
        let id = flow["id"].as_u64().ok_or("no id")?;
        let ns = starts.get(&id).ok_or("the kernel has no start")?;
        let expected = format!("{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1000);
        assert_eq!(flow["start"].as_f64(), expected.parse().ok(), "{flow}");
    }
    Ok(())
}

fn settings(refresh_s: u32) -> Settings {
    Settings { refresh_s, ..Settings::default() }
}

/// Thousands of flows of real packets, through the NAT: with their counters.
fn real_flows(by_events: bool) -> Outcome {
    let mut lab = Lab::new(&Options::default())?;
    lab.router.account()?;
    for key in ["udp_timeout", "udp_timeout_stream", "icmp_timeout", "icmpv6_timeout"] {
        lab.router.set_sysctl(&format!("net.netfilter.nf_conntrack_{key}"), "600")?;
    }
    let plan = Plan { tcp_flows: 500, udp_flows: 400, icmp_flows: 100, ..Plan::seeded(5) };
    let before =
        if by_events { Some(Tested::start(lab.router.netns(), &settings(1))?) } else { None };
    let ledger = lab.hosts.run(&plan, |_| {})?;
    let after = || Tested::start(lab.router.netns(), &settings(1));
    let tested = before.map_or_else(after, Ok)?;
    let dumps = tested.status()?.stat("dumps");
    tested.wait("two dumps", 30, |status| status.stat("dumps") >= dumps + 2)?;
    let wanted = Wanted { counters: true, timeout: true };
    assert_eq!(compare_tables(lab.router.netns(), &tested, wanted)?, ledger.flows.len());
    let account = tested.account()?;
    assert_eq!(account.lines.len(), 0, "nothing has ended");
    Ok(())
}

// --- events --------------------------------------------------------------------------------------

/// A program whose lines gather as they come; killed when dropped.
struct Stream {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Stream {
    fn of(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        if let Some(out) = child.stdout.take() {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            });
        }
        Ok(Self { child, lines })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It has ended already, or does now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both streams tell of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    event: String,
    proto: String,
    state: Value,
    mark: u64,
    assured: bool,
    seen_reply: bool,
}

/// The sequence of events of each flow, by the kernel's id and original tuple.
type Sequences = BTreeMap<(u64, String), Vec<Told>>;

fn tool_sequences(lines: &[String]) -> io::Result<Sequences> {
    let mut sequences = Sequences::new();
    for line in lines {
        let line = tool::understood(line)?;
        if Line::number(&line.other, "zone") == Some(WARM_UP.into()) {
            continue;
        }
        let [(_, seen_reply), (_, assured), ..] = words(&line);
        let told = Told {
            event: line.event.to_lowercase(),
            proto: protocol(line.proto).to_string(),
            state: state(&line),
            mark: Line::number(&line.other, "mark").unwrap_or(0),
            assured,
            seen_reply,
        };
        let tuple = format!("{:?} {:?}", line.orig.get("src"), Line::number(&line.orig, "sport"));
        sequences.entry((line.id().into(), tuple)).or_default().push(told);
    }
    Ok(sequences)
}

fn daemon_sequences(lines: &[String]) -> Result<Sequences, Failed> {
    let mut sequences = Sequences::new();
    for line in lines {
        let event: Value = serde_json::from_str(line)?;
        if event["zone"] == WARM_UP {
            continue;
        }
        let has = |word: &str| {
            event["status"].as_array().is_some_and(|words| words.iter().any(|told| told == word))
        };
        let told = Told {
            event: event["type"].as_str().unwrap_or_default().to_owned(),
            proto: event["proto"].to_string(),
            state: event["state"].clone(),
            mark: event["mark"].as_u64().unwrap_or_default(),
            assured: has("assured"),
            seen_reply: has("seen-reply"),
        };
        let src = event["orig"]["src"].as_str().map(str::to_owned);
        let tuple = format!("{src:?} {:?}", event["orig"]["sport"].as_u64());
        let id = event["id"].as_u64().ok_or_else(|| format!("no id: {line}"))?;
        sequences.entry((id, tuple)).or_default().push(told);
    }
    Ok(sequences)
}

/// Zone of a flow that only shows that both streams are read.
const WARM_UP: u16 = 77;

/// Both listen before anything happens, and have told the end of a flow.
fn streams(netns: &Netns, tested: &Tested) -> Result<(Stream, Stream), Failed> {
    let ours = Stream::of(tested.daemon.client(&["events", "--json"]))?;
    tested.wait("our stream", 20, |status| status.number("clients") == 2)?;
    let theirs = Stream::of(tool::command(netns, "conntrack".as_ref(), TOOL_EVENTS))?;
    let pid = i32::try_from(theirs.child.id())?;
    measure::wait_for("conntrack -E to listen", 20, || {
        let sockets = measure::netlink_sockets(&[pid]);
        Ok(sockets.iter().any(|socket| socket.groups == 7).then_some(()))
    })?;
    let zone = WARM_UP.to_string();
    let flow = ["-p", "udp", "--sport", "1", "--dport", "2", "-w", &zone];
    let arguments = ["-I", "-t", "9"].iter().chain(&V4).chain(&flow).copied();
    tool::conntrack(netns, &arguments.collect::<Vec<_>>())?;
    tool::conntrack(netns, &["-F"])?;
    measure::wait_for("both streams to be read", 20, || {
        Ok((ended(&ours) > 0 && ended(&theirs) > 0).then_some(()))
    })?;
    Ok((ours, theirs))
}

fn ended(stream: &Stream) -> usize {
    stream.lines().iter().filter(|line| line.to_lowercase().contains("destroy")).count()
}

const TOOL_EVENTS: &[&str] = &["-E", "-o", "id,extended"];

/// Changes some of the flows of [`by_request`].
fn updates(netns: &Netns) -> Outcome {
    let requests = Requests::open(netns)?;
    for (mark, src) in (100..).zip([1, 8]) {
        let orig = tuple(false, Protocol::UDP, L4::Ports { src, dst: 53 });
        let ct = Conntrack {
            orig: Some(orig),
            zone_orig: (src == 1).then_some(8),
            mark: Some(mark),
            status: Some(Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED)),
            ..Conntrack::default()
        };
        requests.update(&ct).map_err(|error| format!("{error}: {ct:?}"))?;
    }
    Ok(())
}

/// Flows come and go a few dozen events at a time, since conntrack(8) has room for a hundred: 1.4.7
/// enlarges the buffer of another socket than the one that it hears events on.
fn events_in_order() -> Outcome {
    let mut lab = Lab::new(&Options::default())?;
    let tested = Tested::start(lab.router.netns(), &settings(86_400))?;
    // The kernel still repeats the ends of the self-test's probes.
    measure::wait_for("the probes to be gone", 20, || {
        let left = lab.router.count().map_err(io::Error::other)?;
        Ok((left == 0).then_some(()))
    })?;
    let (netns, hosts) = (lab.router.netns(), &mut lab.hosts);
    let (ours, theirs) = streams(netns, &tested)?;
    let mut made = 1; // by `streams`
    let mut end = |flows: usize| -> Outcome {
        tool::conntrack(netns, &["-F"])?;
        made += flows;
        let told = || Ok((ended(&ours) >= made && ended(&theirs) >= made).then_some(()));
        let all = measure::wait_for("both streams to tell all ends", 20, told);
        let lost = measure::netlink_sockets(&[i32::try_from(theirs.child.id())?]);
        let heard = (ended(&ours), ended(&theirs));
        all.map_err(|error| format!("{error}: {heard:?} of {made}; {lost:?}"))?;
        assert!(lost.iter().all(|socket| socket.drops == 0), "conntrack -E lost events: {lost:?}");
        Ok(())
    };
    let flows = by_request(netns)?.len();
    updates(netns)?;
    end(flows)?;
    for ipv6 in [false, true] {
        end(by_tool_of(netns, ipv6)?)?;
    }
    for seed in 1..=16 {
        let small = Plan { tcp_flows: 3, udp_flows: 2, icmp_flows: 1, ..Plan::seeded(seed) };
        end(hosts.run(&small, |_| {})?.flows.len())?;
    }
    let (ours, theirs) = (daemon_sequences(&ours.lines())?, tool_sequences(&theirs.lines())?);
    assert_eq!(theirs.len(), made - 1);
    let mut wrong = Vec::new();
    for (flow, sequence) in &theirs {
        match ours.get(flow) {
            Some(told) if told == sequence => {}
            told => wrong.push(format!("{flow:?}:\n  told {told:?}\n  kernel {sequence:?}")),
        }
    }
    nothing_wrong(&wrong)?;
    assert_eq!(ours.len(), theirs.len());
    let updates = theirs.values().flatten().filter(|told| told.event == "update").count();
    assert!(updates > 200, "there was something to compare: {updates} updates");
    Ok(())
}

/// The comparison itself: each field changed makes one difference.
fn fields_that_differ_are_found() -> Outcome {
    let line = tool::understood(
        "ipv4 2 icmp 1 299 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=77 packets=1 bytes=84 \
         src=10.0.0.2 dst=203.0.113.1 type=0 code=0 id=77 packets=2 bytes=168 [ASSURED] mark=5 \
         zone=7 use=1 id=99",
    )?;
    let flow: Value = serde_json::from_str(
        r#"{"family":"ipv4","proto":"icmp","orig":{"src":"10.0.0.1","dst":"10.0.0.2","icmp_type":8,
        "icmp_code":0,"icmp_id":77,"packets":1,"bytes":84},"reply":{"src":"10.0.0.2",
        "dst":"203.0.113.1","icmp_type":0,"icmp_code":0,"icmp_id":77,"packets":2,"bytes":168},
        "zone":7,"mark":5,"id":99,"timeout":298,"status":["snat","seen-reply","assured"]}"#,
    )?;
    let wanted = Wanted { counters: true, timeout: true };
    assert_eq!(differences(&line, &flow, wanted), Vec::<String>::new());
    let top = ["family", "proto", "zone", "mark", "id", "timeout", "state", "helper"];
    for name in top {
        let mut other = flow.clone();
        other[name] = 254.into();
        assert_eq!(differences(&line, &other, wanted).len(), 1, "{name}");
    }
    for (name, direction) in FIELDS.iter().flat_map(|(n, _)| [(n, "orig"), (n, "reply")]) {
        let mut other = flow.clone();
        other[direction][*name] = 254.into();
        assert_eq!(differences(&line, &other, wanted).len(), 1, "{direction}.{name}");
    }
    let mut other = flow;
    other["status"] = serde_json::json!(["dnat"]);
    assert_eq!(differences(&line, &other, wanted).len(), 4);
    Ok(())
}
