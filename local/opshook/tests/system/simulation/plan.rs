//! What will happen in a run: all of it follows from the seed.

use std::ops::Range;

use super::chance::Chance;

pub const SECOND: u64 = 1_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// A run's plan. Times are milliseconds since its beginning.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub length: u64,
    /// How far each process's clock is ahead, in milliseconds.
    pub clocks: Vec<i64>,
    /// How long a sweep may pause.
    pub longest_pause: u64,
    pub retention_days: u32,
    pub rates: Rates,
    pub store_away: Vec<Away>,
    /// How ops is, for a while; the first that fits counts.
    pub moods: Vec<(Range<u64>, Mood)>,
    /// How far ops's clock is ahead, for a while.
    pub ops_clock: Vec<(Range<u64>, i64)>,
    pub steps: Vec<(u64, Step)>,
}

/// How often a single exchange goes wrong, from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// A call of the outbox's store fails, before or after it took effect.
    pub store: f64,
    /// A query of an index answers what it answered before.
    pub stale: f64,
    /// Ops does not do as it should.
    pub ops: f64,
    /// A call of ops's own store fails.
    pub ops_store: f64,
    /// The process that makes the exchange dies, before or after it took effect.
    pub death: f64,
}

/// The store can't be reached for a while.
#[derive(Debug)]
pub struct Away {
    pub span: Range<u64>,
    /// By this process only; none means by all.
    pub who: Option<usize>,
    /// Calls hang instead of being refused.
    pub hangs: bool,
}

/// How ops is for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Its connections are refused.
    Refuses,
    /// Nothing answers, not even to a connection.
    Gone,
    /// It takes requests and never answers.
    Stalls,
    /// It answers everything with this status.
    Says(u16),
    /// It does anything.
    Mad,
}

/// What someone does at a time.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The portal emits so many events within so many milliseconds.
    Burst { events: u64, within: u64 },
    /// A process is killed.
    Kill(usize),
    /// A process is stopped, and started again.
    Stop(usize),
    /// Someone replays a few messages one by one.
    ReplaySome,
    /// Someone replays all of a state.
    ReplayAll(&'static str),
    /// The ops side loses its database, and someone replays what was delivered.
    LoseOps,
    /// The store deletes what has expired.
    Expire,
}

impl Plan {
    /// A plan in which nothing fails, for so many processes whose sweeps pause for so long.
    pub fn quiet(seed: u64, processes: usize, longest_pause: u64) -> Self {
        Self {
            seed,
            length: 0,
            clocks: vec![0; processes],
            longest_pause,
            retention_days: 30,
            rates: Rates { store: 0.0, stale: 0.0, ops: 0.0, ops_store: 0.0, death: 0.0 },
            store_away: Vec::new(),
            moods: Vec::new(),
            ops_clock: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let chance = Chance::of(seed, "plan");
        let length = chance.between(8..=18) * DAY;
        let clocks = clocks(&chance);
        // What was delivered and has expired can't be replayed: either the one or the other.
        let expires = chance.happens(0.4);
        let steps = steps(&chance, length, clocks.len(), expires);
        Self {
            seed,
            length,
            longest_pause: chance.spread(5 * MINUTE..=6 * HOUR),
            retention_days: if expires { 8 } else { 60 },
            rates: Rates {
                store: chance.pick(&[0.0, 0.004, 0.02, 0.08]),
                stale: chance.pick(&[0.0, 0.0, 0.1]),
                ops: chance.pick(&[0.0, 0.02, 0.1, 0.4]),
                ops_store: chance.pick(&[0.0, 0.01]),
                death: chance.pick(&[0.0, 0.001, 0.005, 0.02]),
            },
            store_away: (0..chance.between(0..=5)).map(|_| away(&chance, length, clocks.len())).collect(),
            moods: (0..chance.between(1..=8)).map(|_| mood(&chance, length)).collect(),
            ops_clock: (0..chance.between(0..=3)).map(|_| drift(&chance, length)).collect(),
            clocks,
            steps,
        }
    }

    pub fn mood(&self, now: u64) -> Option<Mood> {
        self.moods.iter().find(|(span, _)| span.contains(&now)).map(|(_, mood)| *mood)
    }

    pub fn ops_ahead(&self, now: u64) -> i64 {
        self.ops_clock.iter().find(|(span, _)| span.contains(&now)).map_or(0, |(_, ahead)| *ahead)
    }

    /// From when on, at or after `at`, a process can reach the store for a while.
    pub fn reachable_from(&self, at: u64, process: usize) -> u64 {
        let soon = |away: &&Away| away.who.is_none_or(|who| who == process) && away.span.start < at + MINUTE;
        match self.store_away.iter().filter(soon).map(|away| away.span.end).max() {
            Some(end) if end > at => self.reachable_from(end, process),
            _ => at,
        }
    }

    /// Whether a process can reach the store all the time from `from` to `to`.
    pub fn reaches(&self, from: u64, to: u64, process: usize) -> bool {
        let overlaps = |away: &Away| away.span.start <= to && from < away.span.end;
        !self.store_away.iter().any(|away| away.who.is_none_or(|who| who == process) && overlaps(away))
    }

    pub fn is_away(&self, now: u64, process: usize) -> Option<&Away> {
        self.store_away.iter().find(|away| away.span.contains(&now) && away.who.is_none_or(|who| who == process))
    }
}

/// Clocks that NTP keeps differ by less.
pub const RIGHT_WITHIN: i64 = 100;

pub fn is_right(ahead: i64) -> bool {
    ahead.abs() <= RIGHT_WITHIN
}

fn clocks(chance: &Chance) -> Vec<i64> {
    let count = chance.between(1..=3);
    let wrong = chance.happens(0.3);
    let signed = |ms: u64| i64::try_from(ms).unwrap() * if chance.happens(0.5) { 1 } else { -1 };
    let right = |_| signed(chance.between(0..=RIGHT_WITHIN.unsigned_abs()));
    let mut clocks: Vec<i64> = (0..count).map(right).collect();
    if wrong && count > 1 {
        clocks[0] = signed(chance.spread(SECOND..=HOUR));
    }
    clocks
}

fn span(chance: &Chance, length: u64, lengths: std::ops::RangeInclusive<u64>) -> Range<u64> {
    let start = chance.between(0..=length);
    start..length.min(start + chance.spread(lengths))
}

fn away(chance: &Chance, length: u64, processes: usize) -> Away {
    let who = chance.happens(0.3).then(|| chance.between(0..=processes as u64 - 1) as usize);
    let longest = if chance.happens(0.1) { HOUR } else { 10 * MINUTE };
    Away { span: span(chance, length, SECOND..=longest), who, hangs: chance.happens(0.3) }
}

fn mood(chance: &Chance, length: u64) -> (Range<u64>, Mood) {
    let statuses = [301, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504];
    let mood = match chance.between(0..=9) {
        0..=1 => Mood::Refuses,
        2 => Mood::Gone,
        3 => Mood::Stalls,
        4 => Mood::Mad,
        5 if chance.happens(0.3) => Mood::Says(410),
        _ => Mood::Says(chance.pick(&statuses)),
    };
    let longest = if chance.happens(0.03) { 3 * DAY } else { 3 * HOUR };
    (span(chance, length, 2 * SECOND..=longest), mood)
}

fn drift(chance: &Chance, length: u64) -> (Range<u64>, i64) {
    let ahead = i64::try_from(chance.spread(SECOND..=2 * HOUR)).unwrap();
    (span(chance, length, MINUTE..=DAY), if chance.happens(0.5) { ahead } else { -ahead })
}

fn steps(chance: &Chance, length: u64, processes: usize, expires: bool) -> Vec<(u64, Step)> {
    let mut steps = Vec::new();
    let mut add = |count: u64, step: &dyn Fn() -> Step| {
        steps.extend((0..count).map(|_| (chance.between(0..=length), step())));
    };
    let process = || chance.between(0..=processes as u64 - 1) as usize;
    let burst = || Step::Burst { events: chance.spread(1..=150), within: chance.spread(10..=10 * MINUTE) };
    add(chance.between(12..=25), &burst);
    add(chance.between(0..=4), &|| Step::Kill(process()));
    add(chance.between(0..=4), &|| Step::Stop(process()));
    add(chance.between(0..=4), &|| Step::ReplaySome);
    add(chance.between(0..=3), &|| Step::ReplayAll(chance.pick(&["dead", "parked"])));
    if expires {
        add(5, &|| Step::Expire);
    } else {
        add(chance.between(0..=2), &|| Step::LoseOps);
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}
