//! Makes and destroys conntrack flows by hand: the load generator on the command line.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use board_tests::load::{Families, Flows, Loader, Tally, Transport};
use lexopt::{Arg, Parser, ValueExt};
use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: ct-load churn|create|delete|flush [OPTIONS]
Makes or destroys conntrack flows in this network namespace through ctnetlink.
  churn   creates a batch, deletes it, and again      create  fills the table
  delete  deletes by tuple what create made           flush   deletes every flow
Options:
  --flows N        how many (1000)           --first N       number of the first one (0)
  --batch N        requests in one sendmsg (1000)
  --family F       4, 6 or half (4)          --proto P       udp, tcp or mixed (udp)
  --distinct N     tuples before they come again (all distinct)
  --zone N   --mark N   --timeout SECONDS (600)
  --snat ADDRESS   source NAT of the IPv4 flows
  --list           only print the original tuples";

struct Options {
    verb: Option<String>,
    flows: Flows,
    first: u32,
    count: u32,
    batch: u32,
    list: bool,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = options()?;
    let (flows, batch) = (&options.flows, options.batch);
    let range = options.first..options.first + options.count;
    if options.list {
        range.for_each(|n| println!("{:?}", flows.orig(n)));
        return Ok(ExitCode::SUCCESS);
    }
    let tally = match options.verb.as_deref() {
        Some("churn") => Loader::open()?.churn(flows, range, batch)?,
        Some("create") => Loader::open()?.create(flows, range, batch)?,
        Some("delete") => Loader::open()?.delete(flows, range, batch)?,
        Some("flush") => {
            Loader::open()?.flush()?;
            Tally::default()
        }
        _ => {
            println!("{USAGE}");
            return Ok(ExitCode::from(64));
        }
    };
    println!("created {} deleted {}", tally.created, tally.deleted);
    for (errno, times) in tally.errors() {
        println!("refused {times}: {}", std::io::Error::from_raw_os_error(errno));
    }
    Ok(if tally.complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        verb: None,
        flows: Flows::default(),
        first: 0,
        count: 1000,
        batch: 1000,
        list: false,
    };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(verb) if options.verb.is_none() => options.verb = Some(verb.string()?),
            Arg::Long("flows") => options.count = parser.value()?.parse()?,
            Arg::Long("first") => options.first = parser.value()?.parse()?,
            Arg::Long("batch") => options.batch = parser.value()?.parse()?,
            Arg::Long("list") => options.list = true,
            Arg::Long("distinct") => {
                options.flows.distinct = parser.value()?.parse::<u32>()?.max(1);
            }
            Arg::Long("zone") => options.flows.zone = parser.value()?.parse()?,
            Arg::Long("mark") => options.flows.mark = parser.value()?.parse()?,
            Arg::Long("timeout") => options.flows.timeout_s = parser.value()?.parse()?,
            Arg::Long("snat") => options.flows.snat = Some(parser.value()?.parse()?),
            Arg::Long("family") => {
                options.flows.families = parser.value()?.parse_with(|it| match it {
                    "4" => Ok(Families::Ipv4),
                    "6" => Ok(Families::Ipv6),
                    "half" => Ok(Families::Half),
                    _ => Err("4, 6 or half"),
                })?;
            }
            Arg::Long("proto") => {
                options.flows.transport = parser.value()?.parse_with(|it| match it {
                    "udp" => Ok(Transport::Udp),
                    "tcp" => Ok(Transport::Tcp),
                    "mixed" => Ok(Transport::Mixed),
                    _ => Err("udp, tcp or mixed"),
                })?;
            }
            Arg::Long("help") | Arg::Short('h') => options.verb = None,
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}
