//! The table, at most 100 columns wide.

use super::Peer;
use super::bench::{Options, Results, Sample};
use super::loads::{self, Column, Load};
use crate::measure;
use std::io::{self, Write};

const NAME: usize = 26;
const CELL: usize = 18;

pub(super) fn print(results: &Results, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let who = if first_user_namespace() { "" } else { ", not root: receive buffers stay small" };
    writeln!(out, "{}, {}{who}", measure::processor(), measure::kernel())?;
    writeln!(
        out,
        "{} paired rounds; least/median/greatest; receive buffer {} KiB asked by every listener",
        options.rounds,
        options.buffer / 1024,
    )?;
    if options.quick {
        writeln!(out, "QUICK: small loads, the figures say nothing")?;
    }
    for load in loads::ALL {
        if results.samples.keys().any(|(name, _)| *name == load.name) {
            one_load(results, load, options, out)?;
        }
    }
    writeln!(
        out,
        "\nCPU: user + system time of all processes, by their CPU clocks, until at rest."
    )?;
    writeln!(out, "ulogd2 is told of destroys only: compare it by flow, not by event.")
}

/// Whether user ids are what they are on the machine: in a user namespace only some are mapped.
fn first_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn one_load(
    results: &Results,
    load: &Load,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "\n{}: {}", load.name, load.title)?;
    let titles: String = load.columns.iter().map(|it| format!("{:>CELL$}", it.title)).collect();
    writeln!(out, "{:<NAME$}{titles}", "")?;
    let peers: Vec<Peer> = load.of(&options.peers).collect();
    for peer in &peers {
        if let Some(samples) = results.samples.get(&(load.name, *peer)) {
            let cells = load.columns.iter().map(|column| cell(column, samples));
            writeln!(out, "{:<NAME$}{}", peer.name(), row(cells))?;
        }
    }
    for peer in &peers {
        missed(results, load, *peer, out)?;
    }
    if load.columns.iter().any(|column| column.compared) {
        for other in peers.iter().filter(|peer| **peer != Peer::Ctd) {
            ratios(results, load, *other, out)?;
        }
    }
    Ok(())
}

/// A listener that missed events did less work: said where it was so.
fn missed(results: &Results, load: &Load, peer: Peer, out: &mut dyn Write) -> io::Result<()> {
    let samples = results.samples.get(&(load.name, peer)).map_or(&[][..], Vec::as_slice);
    let missing = samples
        .iter()
        .filter_map(|it| Some(it.get(loads::EVENTS)? - it.get(loads::RECEIVED)?))
        .fold(0.0, f64::max);
    if missing > 0.0 {
        writeln!(out, "  {} missed {missing} events in its worst round", peer.name())?;
    }
    Ok(())
}

fn ratios(results: &Results, load: &Load, other: Peer, out: &mut dyn Write) -> io::Result<()> {
    let of = |peer| results.samples.get(&(load.name, peer));
    let (Some(own), Some(others)) = (of(Peer::Ctd), of(other)) else { return Ok(()) };
    let cells = load.columns.iter().map(|column| {
        let pairs = own
            .iter()
            .zip(others)
            .filter_map(|(own, other)| Some(own.get(column.figure)? / other.get(column.figure)?));
        let ratios: Vec<f64> = pairs.filter(|it| it.is_finite()).collect();
        let alike = other.sees_all_events() || column.figure != loads::CPU_EVENT;
        let shown = column.compared && alike && !ratios.is_empty();
        if shown { spread(&ratios, 2) } else { String::new() }
    });
    let row = row(cells);
    if row.is_empty() {
        return Ok(());
    }
    writeln!(out, "{:<NAME$}{row}", format!("firmware-ctd / {}", other.name()))
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>CELL$}")).collect::<String>().trim_end().to_owned()
}

fn cell(column: &Column, samples: &[Sample]) -> String {
    if column.figure == loads::ACCOUNTED {
        return accounted(samples);
    }
    let values: Vec<f64> = samples
        .iter()
        .filter_map(|sample| sample.get(column.figure))
        .map(|value| value / column.unit)
        .collect();
    if values.is_empty() { "-".to_owned() } else { spread(&values, column.decimals) }
}

/// `all 200000`, or how many of how many in the worst round.
fn accounted(samples: &[Sample]) -> String {
    let pairs =
        samples.iter().filter_map(|it| Some((it.get(loads::ACCOUNTED)?, it.get(loads::MADE)?)));
    match pairs.min_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1))) {
        None => "-".to_owned(),
        Some((accounted, made)) if accounted == made => format!("all {made}"),
        Some((accounted, made)) => format!("{accounted}/{made}"),
    }
}

/// Least, median and greatest.
fn spread(values: &[f64], decimals: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| format!("{:.decimals$}", sorted[index]);
    let (least, greatest) = (at(0), at(sorted.len() - 1));
    if least == greatest {
        return least;
    }
    format!("{least}/{}/{greatest}", median(&sorted, decimals))
}

/// Of an even number of values, the mean of the middle two.
fn median(sorted: &[f64], decimals: usize) -> String {
    let middle = sorted.len() / 2;
    let value = match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(spread(&[3.0, 1.0, 2.0], 1), "1.0/2.0/3.0");
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0], 1), "1.0/2.5/4.0");
        assert_eq!(spread(&[2.0, 2.0], 0), "2");
    }

    #[test]
    fn the_worst_round_is_shown() {
        let sample = |accounted| Sample::from([(loads::ACCOUNTED, accounted), (loads::MADE, 10.0)]);
        assert_eq!(accounted(&[sample(10.0), sample(9.0)]), "9/10");
        assert_eq!(accounted(&[sample(10.0)]), "all 10");
    }

    #[test]
    fn every_load_fits_into_100_columns() {
        for load in loads::ALL {
            assert!(NAME + CELL * load.columns.len() <= 100, "{}", load.name);
            assert!(load.name.len() + 2 + load.title.len() <= 100, "{}", load.name);
        }
    }
}
