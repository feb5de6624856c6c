//! Plays the cases of a scenario, prints a line of figures for each, and says which bounds did not hold.

use std::fmt::{Debug, Display, Write as _};
use std::time::Instant;

use super::stage::{Stage, Take};
use crate::simulation::plan::SECOND;
use crate::simulation::setting;

/// How long a sweep pauses at most where nothing else is said, as in production.
pub const PAUSE: u64 = SECOND;

/// What came of one run.
#[derive(Debug, Default)]
pub struct Line {
    figures: String,
    faults: Vec<String>,
}

impl Line {
    /// Tells a figure.
    pub fn figure(&mut self, what: &str, value: impl Display) {
        let _ = write!(self.figures, "  {what} {value}");
    }

    /// Tells a time.
    pub fn seconds(&mut self, what: &str, ms: u64) {
        self.figure(what, format_args!("{:.1} s", ms as f64 / 1_000.0));
    }

    /// Tells a time, which is to be at most `bound`.
    pub fn within(&mut self, what: &str, ms: u64, bound: u64) {
        self.seconds(what, ms);
        let shown = |ms: u64| ms as f64 / 1_000.0;
        self.expect(ms <= bound, || format!("{what}: {:.1} s, and not {:.1} s", shown(ms), shown(bound)));
    }

    /// Tells a count or a share, which is to be at most `bound`.
    pub fn at_most<T: PartialOrd + Display>(&mut self, what: &str, value: T, bound: T) {
        self.figure(what, format_args!("{value:.2}"));
        self.expect(value <= bound, || format!("{what}: {value:.2}, and not {bound:.2}"));
    }

    /// What has to hold.
    pub fn expect(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    /// What the judge saw break.
    pub fn judged(&mut self, stage: &Stage) {
        self.figure("store calls", stage.world.count_more("store calls", 0));
        for (id, promise) in stage.world.broken() {
            self.faults.push(format!("{} {promise}", id.as_deref().unwrap_or("the world")));
        }
    }
}

/// The cases and on how many processes each is played: all on all, or, in a quick run, those that are named.
pub fn cells<C: Copy>(all: &[C], processes: &[usize], quick: &[(C, usize)]) -> Vec<(C, usize)> {
    if setting::<u64>("OPSHOOK_TEST_SEEDS").is_none() {
        return quick.to_vec();
    }
    all.iter().flat_map(|case| processes.iter().map(|count| (*case, *count))).collect()
}

/// Plays each case on so many processes, with each seed.
pub fn play<C: Debug + Copy>(
    scenario: &str,
    cells: Vec<(C, usize)>,
    pause: u64,
    run: impl AsyncFn(Take, C, &mut Line),
) {
    let first = setting("OPSHOOK_TEST_SEED").unwrap_or(1);
    let seeds = first..first + setting("OPSHOOK_TEST_SEEDS").unwrap_or(1);
    let mut faults = String::new();
    for (case, count) in cells {
        for seed in seeds.clone() {
            let mut line = Line::default();
            let begun = Instant::now();
            play_one(seed, run(Take { seed, processes: count, pause }, case, &mut line));
            let took = begun.elapsed().as_secs_f64();
            let title = format!("{scenario}  {case:?}  processes {count}  seed {seed}");
            let verdict = if line.faults.is_empty() { "ok  " } else { "FAIL" };
            eprintln!("{verdict}  {title}{}  ({took:.1} s)", line.figures);
            for fault in line.faults.iter().take(5) {
                let _ = writeln!(faults, "{title}: {fault}");
            }
        }
    }
    assert!(faults.is_empty(), "bounds that did not hold:\n{faults}");
}

/// Plays one on a runtime of its own, whose time is paused: it passes when all wait.
fn play_one(seed: u64, run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    fastrand::seed(seed);
    runtime.block_on(run);
}
