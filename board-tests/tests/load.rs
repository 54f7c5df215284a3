//! The load generator does what it says: held against the kernel's own table and events.
//!
//! Harness of its own, since the user namespace must be entered before any thread runs.

use board_tests::lab::{Netns, enter};
use board_tests::load::{Families, Flows, Refusal, Transport, sys};
use board_tests::peers::bench;
use firmware_ctd::wire::{Event, Family, Message, Messages, Tuple, Writer, request};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::HashMap;
use std::net::Ipv4Addr;

type Outcome = Result<(), Failed>;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let trials = match enter() {
        Ok(()) => tests(),
        Err(error) => {
            let refused = error.to_string();
            vec![Trial::test("namespaces_are_allowed", move || Err(refused.into()))]
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn tests() -> Vec<Trial> {
    vec![
        Trial::test("every_kind_of_flow_is_in_the_table_as_described", every_kind_of_flow),
        Trial::test("translated_flows_have_the_described_reply", translated_flows),
        Trial::test("refusals_name_their_flows", refusals_name_their_flows),
        Trial::test("churn_makes_each_event_once", churn_makes_each_event_once),
        Trial::test("same_tuples_come_again", same_tuples_come_again),
        Trial::test("flush_empties_the_table", flush_empties_the_table),
    ]
}

const COUNT: u32 = 2_500;
const BATCH: u32 = 700;

/// What the kernel's table says of a flow.
#[derive(Debug, PartialEq)]
struct Entry {
    reply: Tuple,
    zone: u16,
    mark: u32,
}

fn dump(netns: &Netns) -> Result<HashMap<Tuple, Entry>, Failed> {
    let socket = netns.run(|| {
        use board_tests::lab::Context;
        sys::netfilter_socket().context("opening a netlink socket")
    })?;
    sys::receive_timeout(&socket, 10)?;
    let mut buffer = vec![0; 1 << 16];
    let mut writer = Writer::new(&mut buffer);
    request::dump(&mut writer, 1, Family::Unspec).map_err(|full| full.to_string())?;
    sys::send(&socket, writer.as_bytes())?;
    let mut table = HashMap::new();
    loop {
        let length = sys::receive(&socket, &mut buffer)?;
        for raw in Messages::new(&buffer[..length]) {
            match Message::parse(&raw?)? {
                Message::Done(_) => return Ok(table),
                Message::Conntrack { ct, .. } => {
                    let (zone, mark) = (ct.zone.unwrap_or(0), ct.mark.unwrap_or(0));
                    let entry = Entry { reply: ct.reply.ok_or("no reply")?, zone, mark };
                    table.insert(ct.orig.ok_or("no original")?, entry);
                }
                other => return Err(format!("unexpected {other:?}").into()),
            }
        }
    }
}

fn expect_table(netns: &Netns, flows: &Flows) -> Outcome {
    let table = dump(netns)?;
    assert_eq!(table.len(), COUNT as usize);
    for n in 0..COUNT {
        let expected = Entry { reply: flows.reply(n), zone: flows.zone, mark: flows.mark };
        assert_eq!(table.get(&flows.orig(n)), Some(&expected), "flow {n}");
    }
    Ok(())
}

fn every_kind_of_flow() -> Outcome {
    for families in [Families::Ipv4, Families::Ipv6, Families::Half] {
        for transport in [Transport::Udp, Transport::Tcp, Transport::Mixed] {
            let (netns, mut loader) = bench::place()?;
            let flows = Flows { families, transport, zone: 9, mark: 0x77, ..Flows::default() };
            let tally = loader.create(&flows, 0..COUNT, BATCH)?;
            assert_eq!((tally.created, tally.complete()), (COUNT.into(), true));
            assert_eq!(loader.entries()?, COUNT);
            expect_table(&netns, &flows)?;
            let tally = loader.delete(&flows, 0..COUNT, BATCH)?;
            assert_eq!((tally.deleted, tally.complete()), (COUNT.into(), true));
            assert_eq!(loader.entries()?, 0);
        }
    }
    Ok(())
}

fn translated_flows() -> Outcome {
    let (netns, mut loader) = bench::place()?;
    let snat = Some(Ipv4Addr::new(198, 51, 100, 1));
    let flows = Flows { snat, transport: Transport::Mixed, ..Flows::default() };
    assert!(loader.create(&flows, 0..COUNT, BATCH)?.complete());
    assert_ne!(flows.reply(0), flows.inverse(0));
    expect_table(&netns, &flows)
}

fn refusals_name_their_flows() -> Outcome {
    let (_netns, mut loader) = bench::place()?;
    let flows = Flows::default();
    let there = [0, 699, 700, 1999];
    for n in there {
        loader.create(&flows, n..n + 1, 1)?;
    }
    let tally = loader.create(&flows, 0..2_000, BATCH)?;
    let expected = there.map(|flow| Refusal { flow, errno: libc::EEXIST });
    assert_eq!(tally.create_refused, expected);
    assert_eq!(tally.created, 2_000 - 4);
    let tally = loader.delete(&flows, 1_990..2_010, BATCH)?;
    let expected: Vec<_> =
        (2_000..2_010).map(|flow| Refusal { flow, errno: libc::ENOENT }).collect();
    assert_eq!((tally.deleted, tally.delete_refused), (10, expected));
    Ok(())
}

/// Counts the events of each tuple, until no more come.
fn heard(socket: &std::os::fd::OwnedFd) -> Result<HashMap<(Event, Tuple), u32>, Failed> {
    let mut batch = sys::Batch::new(64, 4096);
    let mut counts = HashMap::new();
    loop {
        let got = batch.receive(socket)?;
        if got == 0 {
            return Ok(counts);
        }
        for at in 0..got {
            for raw in Messages::new(batch.datagram(at)) {
                if let Message::Conntrack { event, ct } = Message::parse(&raw?)? {
                    *counts.entry((event, ct.orig.ok_or("no original")?)).or_insert(0) += 1;
                }
            }
        }
    }
}

fn listener(netns: &Netns) -> Result<std::os::fd::OwnedFd, Failed> {
    let socket = netns.run(|| {
        use board_tests::lab::Context;
        let open = || {
            let socket = sys::netfilter_socket()?;
            sys::force_receive_buffer(&socket, 64 << 20)?;
            sys::bind(&socket, 0)?;
            sys::join(&socket, sys::GROUP_NEW)?;
            sys::join(&socket, sys::GROUP_UPDATE)?;
            sys::join(&socket, sys::GROUP_DESTROY)?;
            Ok::<_, std::io::Error>(socket)
        };
        open().context("listening")
    })?;
    Ok(socket)
}

/// Few enough for the receive buffer that somebody without privileges gets.
const HEARD: u32 = 60;

fn churn_makes_each_event_once() -> Outcome {
    let (netns, mut loader) = bench::place()?;
    let socket = listener(&netns)?;
    let flows = Flows { transport: Transport::Mixed, ..Flows::default() };
    let tally = loader.churn(&flows, 0..HEARD, 20)?;
    assert_eq!((tally.created, tally.deleted), (HEARD.into(), HEARD.into()));
    let heard = heard(&socket)?;
    assert_eq!(heard.len(), 2 * HEARD as usize);
    for n in 0..HEARD {
        assert_eq!(heard.get(&(Event::New, flows.orig(n))), Some(&1));
        assert_eq!(heard.get(&(Event::Destroy, flows.orig(n))), Some(&1));
    }
    Ok(())
}

fn same_tuples_come_again() -> Outcome {
    let (netns, mut loader) = bench::place()?;
    let socket = listener(&netns)?;
    let flows = Flows { distinct: 10, ..Flows::default() };
    assert!(loader.churn(&flows, 0..HEARD, 10)?.complete());
    let heard = heard(&socket)?;
    assert_eq!(heard.len(), 20);
    assert!(heard.values().all(|times| *times == HEARD / 10));
    Ok(())
}

fn flush_empties_the_table() -> Outcome {
    let (_netns, mut loader) = bench::place()?;
    loader.create(&Flows { families: Families::Half, ..Flows::default() }, 0..COUNT, BATCH)?;
    loader.flush()?;
    assert_eq!(loader.entries()?, 0);
    Ok(())
}
