//! The row of the endpoint as the judge watches it: while it is down, one request a probe interval reaches ops, each of
//! another message.

use std::collections::BTreeMap;

use serde_json::Value;

use super::life::Life;
use super::plan::{RIGHT_WITHIN, SECOND};
use super::row::{number, text};
use super::world::World;

/// What a process has begun when it reads that the endpoint is down reaches ops within this time.
const UNDER_WAY: u64 = 10 * SECOND;
/// Between the time that a change is made with and its taking effect may be as much as a call may take.
const CALL: i64 = 2_000;
/// The waits before the first probe and after each that failed, in milliseconds; the last counts for all after it.
const WAITS: [i64; 6] = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000];
/// The longest that an endpoint may ask for.
const LONGEST_WAIT: i64 = 60_000;
/// Whoever probes has it for this long; what puts a probe back sets a second.
const PROBING: i64 = 5_000;

/// The row, and who has read it.
#[derive(Default)]
pub struct Endpoint {
    row: Option<Row>,
    /// Since when each life knows that it is down.
    known: BTreeMap<String, u64>,
    /// Probes that were begun and have not reached ops.
    begun: u32,
}

#[derive(PartialEq, Eq)]
struct Row {
    is_down: bool,
    since: i64,
    /// Who probed last.
    prober: Option<String>,
    failed: i64,
    next_probe_at: i64,
    /// Who wrote it has the right time.
    is_right: bool,
}

impl Row {
    fn of(item: &Value, life: &Life) -> Self {
        let at = |name| number(item, name).unwrap_or_default();
        Self {
            is_down: is_down(Some(item)),
            since: at("since"),
            prober: text(item, "probed").and_then(|ids| ids.split(' ').next_back().map(str::to_owned)),
            failed: at("failed_probes"),
            next_probe_at: at("next_probe_at"),
            is_right: life.right_clock,
        }
    }
}

fn is_down(item: Option<&Value>) -> bool {
    item.and_then(|item| text(item, "state")).is_some_and(|state| state == "down")
}

impl Endpoint {
    /// A call of `life` wrote it, while so many messages were pending.
    pub fn wrote(&mut self, world: &World, life: &Life, item: Option<&Value>, pending: usize) {
        let Some(item) = item else {
            world.broke(None, format!("{} deleted the row of the endpoint", life.name));
            return;
        };
        let new = Row::of(item, life);
        let now = world.true_ms();
        let wait = new.next_probe_at - now;
        // A call that the SDK repeated.
        if self.row.as_ref() == Some(&new) {
            return;
        }
        let old = self.row.take().filter(|old| old.is_down);
        match &old {
            None if new.is_down => {
                world.count("endpoint went down");
                self.begun = 0;
                self.keeps_interval(world, &new, wait);
            }
            Some(old) if new.is_down && new.since == old.since => {
                if new.failed > old.failed {
                    self.keeps_interval(world, &new, wait);
                } else if wait > PROBING || !new.is_right {
                    self.begun = (self.begun + 1).min(2);
                    let early = old.next_probe_at - now;
                    let is_early = old.is_right && new.is_right && early > 2 * RIGHT_WITHIN;
                    world.promise(!is_early, None, || format!("{} probes {early} ms too early", life.name));
                    let is_another = new.prober != old.prober || pending < 2;
                    world.promise(is_another, None, || format!("{:?} probes twice in a row", new.prober));
                } else {
                    self.begun = self.begun.saturating_sub(1);
                }
            }
            _ => {}
        }
        if new.is_down || old.is_some() {
            let state = text(item, "state").unwrap_or_default();
            let failed = new.failed;
            let told = format!("{} says: {state}, {failed} probes failed, the next in {wait} ms", life.name);
            world.note(None, told);
        }
        if !new.is_down {
            self.known.clear();
        }
        self.row = Some(new);
    }

    fn keeps_interval(&self, world: &World, new: &Row, wait: i64) {
        let shortest = WAITS[usize::try_from(new.failed).unwrap().min(WAITS.len() - 1)];
        let kept = wait >= shortest - CALL - RIGHT_WITHIN && wait <= LONGEST_WAIT + RIGHT_WITHIN;
        world.promise(kept || !new.is_right, None, || {
            format!("after {} failed probes the next is made in {wait} ms, not in {shortest}", new.failed)
        });
    }

    /// A life has read it.
    pub fn was_read(&mut self, world: &World, life: &Life, item: Option<&Value>) {
        if is_down(item) && self.row.as_ref().is_some_and(|row| row.is_down) {
            self.known.entry(life.name.clone()).or_insert(world.now());
        }
    }

    /// Whether it is down, and a life has known that for so long.
    pub fn is_known_down(&self, world: &World, life: &Life, ms: u64) -> bool {
        let is_known = self.known.get(&life.name).is_some_and(|since| since + ms < world.now());
        is_known && self.row.as_ref().is_some_and(|row| row.is_down)
    }

    /// A request of `life` has reached ops.
    pub fn passed(&mut self, world: &World, life: &Life) {
        let is_probe = self.begun > 0;
        self.begun = self.begun.saturating_sub(1);
        if self.is_known_down(world, life, UNDER_WAY) && life.right_clock {
            world.count("requests while the endpoint was down");
            world.promise(is_probe, None, || {
                format!("{} sends while the endpoint is down, and does not probe", life.name)
            });
        }
    }
}
