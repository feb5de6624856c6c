//! What everything in a run shares: the plan, the time, chance, counts, the trace, and the judge.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use contract::time;
use jiff::Timestamp;
use service::clock::Clock;
use tokio::time::{Duration, Instant};

use super::chance::Chance;
use super::judge::Judge;
use super::plan::Plan;

/// 2026-03-01T00:00:00Z: when every run begins.
const BEGINNING_MS: i64 = 1_772_323_200_000;

/// So many of the latest lines of a trace are told.
const MOST_TOLD: usize = 300;

/// Faults and events by kind.
pub type Counts = BTreeMap<&'static str, u64>;

/// What is shared.
pub struct World {
    pub plan: Plan,
    start: Instant,
    pub store_chance: Chance,
    pub ops_chance: Chance,
    pub portal_chance: Chance,
    pub operator_chance: Chance,
    counts: Mutex<Counts>,
    trace: Mutex<Trace>,
    judge: Mutex<Judge>,
    /// The promises that broke, each with the message that it was about.
    broken: Mutex<Vec<(Option<String>, String)>>,
    calm: AtomicBool,
}

impl World {
    pub fn new(plan: Plan) -> Arc<Self> {
        let seed = plan.seed;
        Arc::new(Self {
            plan,
            start: Instant::now(),
            store_chance: Chance::of(seed, "store"),
            ops_chance: Chance::of(seed, "ops"),
            portal_chance: Chance::of(seed, "portal"),
            operator_chance: Chance::of(seed, "operator"),
            counts: Mutex::default(),
            trace: Mutex::default(),
            judge: Mutex::default(),
            broken: Mutex::default(),
            calm: AtomicBool::new(false),
        })
    }

    /// Milliseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// When that was, in milliseconds since the run began, by a right clock.
    pub fn since_beginning(&self, unix_ms: i64) -> u64 {
        u64::try_from(unix_ms - BEGINNING_MS).unwrap()
    }

    /// The instant at that many milliseconds.
    pub fn instant(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// The true time of day in milliseconds since 1970.
    pub fn true_ms(&self) -> i64 {
        BEGINNING_MS + i64::try_from(self.now()).unwrap()
    }

    /// What a clock shows that is this much ahead.
    pub fn shown(&self, ahead_ms: i64) -> Timestamp {
        time::from_unix_ms(self.true_ms() + ahead_ms)
    }

    /// A clock that is as much ahead as `ahead` says at each moment.
    pub fn clock(self: &Arc<Self>, ahead: impl Fn(&World) -> i64 + Send + Sync + 'static) -> Clock {
        let world = Arc::clone(self);
        Clock::from_fn(move || world.shown(ahead(&world)))
    }

    /// Whether the faults are over.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// No more faults from now on.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.note(None, "the faults are over");
    }

    /// Counts it; answers how often it was by now.
    pub fn count(&self, what: &'static str) -> u64 {
        self.count_more(what, 1)
    }

    pub fn count_more(&self, what: &'static str, more: u64) -> u64 {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(what).or_default();
        *count += more;
        *count
    }

    /// Whether the store can't be reached by a process.
    pub fn is_away(&self, process: usize) -> bool {
        !self.is_calm() && self.plan.is_away(self.now(), process).is_some()
    }

    pub fn is_anyone_away(&self) -> bool {
        (0..self.plan.clocks.len()).any(|process| self.is_away(process))
    }

    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    /// Adds a line to the trace, of a message or of the world.
    pub fn note(&self, message: Option<&str>, line: impl Into<String>) {
        self.trace.lock().unwrap().note(self.now(), message, line.into());
    }

    /// A promise is broken.
    pub fn broke(&self, message: Option<&str>, promise: impl Into<String>) {
        let promise = promise.into();
        self.note(message, format!("BROKEN: {promise}"));
        self.broken.lock().unwrap().push((message.map(str::to_owned), promise));
    }

    pub fn broken(&self) -> Vec<(Option<String>, String)> {
        self.broken.lock().unwrap().clone()
    }

    /// Asks for `held`, which must hold.
    pub fn promise(&self, held: bool, message: Option<&str>, promise: impl FnOnce() -> String) {
        if !held {
            self.broke(message, promise());
        }
    }

    pub fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap()
    }

    pub fn trace_hash(&self) -> u64 {
        self.trace.lock().unwrap().hash.finish()
    }

    /// What happened to a message, or to the world.
    pub fn told(&self, message: Option<&str>) -> String {
        let trace = self.trace.lock().unwrap();
        let lines: Vec<_> = trace.lines.get(message.unwrap_or_default()).into_iter().flatten().collect();
        let latest = lines.len().saturating_sub(MOST_TOLD);
        lines[latest..].iter().map(|(at, line)| format!("  {} {line}\n", shown(*at))).collect()
    }
}

/// What happened, by message; the hash is over all of it in its order.
#[derive(Default)]
struct Trace {
    hash: DefaultHasher,
    lines: BTreeMap<String, Vec<(u64, String)>>,
}

impl Trace {
    fn note(&mut self, at: u64, message: Option<&str>, line: String) {
        (at, message, &line).hash(&mut self.hash);
        self.lines.entry(message.unwrap_or_default().to_owned()).or_default().push((at, line));
    }
}

/// A time since the beginning, such as `12d 03:04:05.678`.
pub fn shown(ms: u64) -> String {
    let (days, ms) = (ms / 86_400_000, ms % 86_400_000);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{days}d {hours:02}:{minutes:02}:{seconds:02}.{:03}", ms % 1_000)
}
