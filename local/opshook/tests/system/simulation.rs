//! Weeks of faults in seconds: the real emit-retry and the real receive under paused time, on the engine's database in
//! memory, with no sockets. Chance decides by a seed what fails, when, and who dies; a judge watches every write and
//! every request, and the same seed gives the same run.
//!
//! `scripts/simulate` runs many seeds, by `OPSHOOK_TEST_SEEDS`; the first is `OPSHOOK_TEST_SEED`.

pub mod chance;
mod endpoint;
pub mod engine;
mod judge;
pub mod life;
mod operator;
pub mod ops;
pub mod plan;
mod portal;
pub mod process;
mod report;
pub mod row;
mod run;
pub mod wire;
pub mod world;

use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use report::Summary;
use run::{Report, run};

/// Seeds of a normal run of the tests.
const SEEDS: u64 = 2;

/// A setting of a run, from the environment.
pub fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: not {text}")))
}

/// Runs seeds, on as many threads as there are cores.
fn run_all(seeds: Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return reports;
            }
            let started = Instant::now();
            let report = run(seed);
            let (accepted, broken, seconds) = (report.accepted, report.broken.len(), started.elapsed().as_secs_f64());
            let days = report.days;
            let line = format!("seed {seed:5}  {days} days  accepted {accepted:5}  broken {broken}  {seconds:5.1} s");
            let _ = writeln!(std::io::stderr(), "{line}");
            reports.push(report);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    Summary::of(reports)
}

#[test]
fn whatever_fails_nothing_is_lost_and_no_ticket_is_double() {
    let first = setting("OPSHOOK_TEST_SEED").unwrap_or(1);
    let summary = run_all(first..first + setting("OPSHOOK_TEST_SEEDS").unwrap_or(SEEDS));
    match setting::<PathBuf>("OPSHOOK_SIMULATION_REPORT") {
        Some(file) if setting("OPSHOOK_SIMULATION_JSON").unwrap_or(false) => {
            std::fs::write(file, format!("{}\n", summary.json())).unwrap();
        }
        Some(file) => std::fs::write(file, summary.text()).unwrap(),
        None => println!("{}", summary.text()),
    }
    assert!(summary.holds(), "a promise broke: see above");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (first, second) = (run(1), run(1));
    assert_eq!((first.trace_hash, first.counts), (second.trace_hash, second.counts));
}
