//! Weeks of faults in seconds: the real emit-retry and the real receive under paused time, on the engine's database in
//! memory, with no sockets. Chance decides by a seed what fails, when, and who dies; a judge watches every write and
//! every request, and the same seed gives the same run.
//!
//! `OPSHOOK_TEST_SEEDS=100` runs so many seeds, `OPSHOOK_TEST_SEED=7` exactly that one.

mod chance;
mod engine;
mod judge;
mod life;
mod operator;
mod ops;
mod plan;
mod portal;
mod process;
mod row;
mod run;
mod wire;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use run::{Report, run};
use world::Counts;

/// Seeds of a normal run of the tests.
const SEEDS: u64 = 1;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Runs seeds, on two threads.
fn run_all(seeds: std::ops::Range<u64>) -> Vec<Report> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return reports;
            }
            let started = std::time::Instant::now();
            let report = run(seed);
            println!(
                "seed {seed}: {} accepted, {} broken, {:?}",
                report.accepted,
                report.broken.len(),
                started.elapsed()
            );
            reports.push(report);
        }
    };
    let mut reports: Vec<Report> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    reports.sort_by_key(|report| report.seed);
    reports
}

/// The counts of all runs, and the line that sums them up.
fn tell(reports: &[Report]) {
    let mut counts = Counts::new();
    for (what, count) in reports.iter().flat_map(|report| &report.counts) {
        *counts.entry(what).or_default() += count;
    }
    counts.iter().for_each(|(what, count)| println!("{count:>9}  {what}"));
    let sum = |part: fn(&Report) -> u64| reports.iter().map(part).sum::<u64>();
    println!(
        "seeds {} accepted {} delivered {} tickets {} lost {} double {} broken {}",
        reports.len(),
        sum(|report| report.accepted),
        sum(|report| report.delivered),
        sum(|report| report.tickets),
        sum(|report| report.lost),
        sum(|report| report.double),
        sum(|report| report.broken.len() as u64),
    );
}

#[test]
fn whatever_fails_nothing_is_lost_and_no_ticket_is_double() {
    let seeds = match setting("OPSHOOK_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + setting("OPSHOOK_TEST_SEEDS").unwrap_or(SEEDS),
    };
    let reports = run_all(seeds);
    tell(&reports);
    let broken: Vec<&String> =
        reports.iter().find(|report| !report.broken.is_empty()).into_iter().flat_map(|report| &report.broken).collect();
    assert!(broken.is_empty(), "{}", broken.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, second) = (run(1), run(1));
    assert_eq!((first.trace_hash, first.counts), (second.trace_hash, second.counts));
}
