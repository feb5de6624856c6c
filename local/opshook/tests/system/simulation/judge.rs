//! The judge: watches each write to the outbox and each request that reaches ops, and says which promise broke.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::endpoint::Endpoint;
use super::life::Life;
use super::plan::{MINUTE, RIGHT_WITHIN, SECOND};
use super::row::{Row, text};
use super::world::World;

/// Within this time an attempt that has ended is recorded, where the store can be reached.
const RECORDED_WITHIN: u64 = 30 * SECOND;

/// What was sent before the endpoint went down is recorded within its lease, and some.
const LEASED: u64 = 20 * SECOND;

/// An answer within this time is seen by the process that waits for it.
const SEEN_WITHIN: u64 = 4_900;

/// What the judge knows.
#[derive(Default)]
pub struct Judge {
    rows: BTreeMap<String, Watched>,
    flights: Vec<Flight>,
    pub endpoint: Endpoint,
}

/// A message's row, and what the judge knows of it.
struct Watched {
    row: Row,
    /// Whose claim it has.
    owner: Option<Arc<Life>>,
    /// A process whose clock is wrong may claim what is leased: then for a while nothing is said about leases.
    wrong_clock_at: Option<u64>,
    /// Requests that reached ops.
    requests: u64,
}

/// A request from its arrival at ops on.
struct Flight {
    id: String,
    life: Arc<Life>,
    begun: u64,
    ended: Option<u64>,
    /// Ops said 2xx, to a process that lives.
    success: bool,
    replay: i64,
    recorded: bool,
}

impl Judge {
    /// A call of `life` wrote these rows.
    pub fn wrote(&mut self, world: &World, life: &Arc<Life>, written: &[(String, Option<Value>)]) {
        let told: Vec<String> = written
            .iter()
            .filter(|(pk, _)| pk.starts_with("act_"))
            .filter_map(|(_, item)| text(item.as_ref()?, "webhook_id"))
            .collect();
        for (_, item) in written.iter().filter(|(pk, _)| pk == "endpoint") {
            let pending = self.rows.values().filter(|watched| watched.row.is("pending")).count();
            self.endpoint.wrote(world, life, item.as_ref(), pending);
        }
        for (pk, item) in written.iter().filter(|(pk, _)| pk.starts_with("msg_")) {
            let Some(item) = item else {
                world.broke(Some(pk), format!("{} deleted the message", life.name));
                continue;
            };
            let row = Row::of(item);
            self.wrote_message(world, life, pk, row, told.contains(pk));
        }
    }

    fn wrote_message(&mut self, world: &World, life: &Arc<Life>, pk: &str, row: Row, told: bool) {
        let now = world.now();
        if let Some(fault) = row.fault() {
            world.broke(Some(pk), format!("{} wrote: {fault}: {row:?}", life.name));
        }
        let old = self.rows.remove(pk).filter(|old| !old.row.has_expired(world.true_ms()));
        let Some(mut old) = old else {
            world.note(Some(pk), format!("{} wrote {}", life.name, brief(world, &row)));
            world.promise(row.is("pending") && row.attempts_total == 0, Some(pk), || format!("begins as {row:?}"));
            let owner = row.claim_id.is_some().then(|| Arc::clone(life));
            let wrong_clock_at = (!life.right_clock).then_some(now);
            self.rows.insert(pk.to_owned(), Watched { row, owner, wrong_clock_at, requests: 0 });
            return;
        };
        if row == old.row {
            self.rows.insert(pk.to_owned(), old);
            return;
        }
        world.note(Some(pk), format!("{} wrote {} → {}", life.name, brief(world, &old.row), brief(world, &row)));
        if let Some(fault) = old.row.fault_in_becoming(&row, told) {
            world.broke(Some(pk), format!("{}: {fault}: {:?} → {row:?}", life.name, old.row));
        }
        if row.claim_id.is_some() && row.claim_id != old.row.claim_id {
            let held = old.holds(world) && life.right_clock && old.row.replay == row.replay;
            world.promise(!held, Some(pk), || format!("{} took a lease that holds: {:?}", life.name, old.row));
            old.owner = Some(Arc::clone(life));
        }
        if !life.right_clock {
            old.wrong_clock_at = Some(now);
        }
        if row.step > old.row.step && row.is("pending") && self.endpoint.is_known_down(world, life, LEASED) {
            world.broke(Some(pk), format!("{} used up the schedule while the endpoint was down", life.name));
        }
        if row.attempts_total > old.row.attempts_total {
            let flights = self.flights.iter_mut().filter(|flight| flight.id == pk && flight.life.name == life.name);
            flights.for_each(|flight| flight.recorded = true);
        }
        old.row = row;
        self.rows.insert(pk.to_owned(), old);
    }

    /// The portal has a 202.
    pub fn accepted(&self, world: &World, id: &str) {
        world.promise(self.rows.contains_key(id), Some(id), || "accepted, and not in the outbox".to_owned());
    }

    /// A request has reached ops.
    pub fn begins(&mut self, world: &World, life: &Arc<Life>, id: &str) {
        let now = world.now();
        world.note(Some(id), format!("{} sends it", life.name));
        self.endpoint.passed(world, life);
        let Some(watched) = self.rows.get_mut(id) else {
            world.broke(Some(id), "sent, and not in the outbox");
            return;
        };
        watched.requests += 1;
        let replay = watched.row.replay;
        if life.right_clock && !watched.wrong_clock_lately(now) {
            let under_way = |flight: &&Flight| flight.id == id && flight.ended.is_none() && !flight.life.is_over();
            if let Some(other) = self.flights.iter().find(under_way) {
                world.broke(Some(id), format!("in flight twice: by {} and {}", other.life.name, life.name));
            }
            let forgotten =
                |flight: &&Flight| flight.id == id && flight.replay == replay && flight.is_forgotten(world, life);
            if let Some(first) = self.flights.iter().find(forgotten) {
                world.broke(
                    Some(id),
                    format!("sent again by {}: {} has forgotten a success", life.name, first.life.name),
                );
            }
            let owner = watched.owner.as_ref().filter(|owner| owner.name != life.name);
            if let Some(owner) = owner.filter(|_| watched.holds(world)) {
                world.broke(Some(id), format!("{} sends under the lease of {}", life.name, owner.name));
            }
        }
        let (id, life) = (id.to_owned(), Arc::clone(life));
        self.flights.push(Flight { id, life, begun: now, ended: None, success: false, replay, recorded: false });
    }

    /// Ops has answered, or nobody waits for the answer any more.
    pub fn ends(&mut self, world: &World, life: &Life, id: &str, success: bool) {
        let flight = |flight: &&mut Flight| flight.id == id && flight.life.name == life.name && flight.ended.is_none();
        if let Some(flight) = self.flights.iter_mut().find(flight) {
            flight.ended = Some(world.now());
            // At the end of the time for an attempt it is open whether the answer was seen.
            flight.success = success && world.now() < flight.begun + SEEN_WITHIN;
        }
    }

    /// What was sent, or is, and is not recorded yet.
    pub fn unrecorded(&self) -> Vec<String> {
        self.flights.iter().filter(|flight| !flight.recorded).map(|flight| flight.id.clone()).collect()
    }

    /// The store deleted a message that had expired.
    pub fn expired(&mut self, id: &str) {
        self.rows.remove(id);
    }

    /// Messages as they are.
    pub fn rows(&self) -> impl Iterator<Item = (&String, &Row)> {
        self.rows.iter().map(|(id, watched)| (id, &watched.row))
    }

    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.get(id).map(|watched| &watched.row)
    }

    /// Looks at attempts that have ended a while ago: each has left its trace, and a success is not forgotten.
    pub fn check_attempts(&mut self, world: &World) {
        let now = world.now();
        let is_old = |flight: &Flight| flight.recorded_by(world).is_some_and(|by| by < now);
        let (old, recent) = std::mem::take(&mut self.flights).into_iter().partition::<Vec<_>, _>(is_old);
        self.flights = recent;
        for flight in old.iter().filter(|flight| !flight.recorded) {
            let Some(watched) = self.rows.get(&flight.id) else { continue };
            let overtaken = !flight.success && (!flight.life.right_clock || watched.wrong_clock_since(flight.begun));
            if flight.is_excused(world) || overtaken || watched.row.replay != flight.replay {
                world.count("attempts cut off before they were recorded");
            } else if !watched.row.is("delivered") {
                let what = if flight.success { "a success is forgotten" } else { "an attempt has left no trace" };
                let begun = super::world::shown(flight.begun);
                world.broke(Some(&flight.id), format!("{what}: {} at {begun}", flight.life.name));
            }
        }
    }
}

impl Flight {
    /// By when it has to be recorded: a success however long the store is away.
    fn recorded_by(&self, world: &World) -> Option<u64> {
        let ended = self.ended?;
        let settled = if self.success { world.plan.reachable_from(ended, self.life.process) } else { ended };
        Some(settled + RECORDED_WITHIN)
    }

    /// Whether ops said 2xx to a process that lives and could have recorded it since, or that sends it again itself.
    fn is_forgotten(&self, world: &World, sender: &Life) -> bool {
        let since = self.ended.filter(|_| self.success && !self.recorded && !self.life.is_over());
        let could_record = |ended| world.plan.reaches(ended, world.now(), self.life.process);
        since.is_some_and(|ended| sender.name == self.life.name || could_record(ended))
    }

    /// Whether its process died, or could not reach the store while it had the lease.
    fn is_excused(&self, world: &World) -> bool {
        let Some(by) = self.recorded_by(world) else { return true };
        let away = !world.plan.reaches(self.begun, by, self.life.process);
        self.life.over_at() <= by || (away && !self.success)
    }
}

impl Watched {
    fn wrong_clock_lately(&self, now: u64) -> bool {
        self.wrong_clock_at.is_some_and(|at| now < at + 2 * MINUTE)
    }

    /// A wrong clock takes over what is leased, or has its own taken over: then a failure is not recorded.
    fn wrong_clock_since(&self, then: u64) -> bool {
        self.wrong_clock_at.is_some_and(|at| at + 2 * MINUTE > then)
    }

    /// Whether someone whose clock is right has it, beyond doubt.
    fn holds(&self, world: &World) -> bool {
        let right = self.owner.as_ref().is_some_and(|owner| owner.right_clock);
        let left = self.row.lease_until.map_or(0, |until| until - world.true_ms());
        self.row.claim_id.is_some() && right && !self.wrong_clock_lately(world.now()) && left > 2 * RIGHT_WITHIN
    }
}

fn brief(world: &World, row: &Row) -> String {
    let from_now = |at: Option<i64>| at.map_or("-".to_owned(), |at| format!("{} ms", at - world.true_ms()));
    let lease = if row.claim_id.is_some() { "leased" } else { "free" };
    format!(
        "{} step {} replay {} attempts {} {lease}, due in {}",
        row.state,
        row.step,
        row.replay,
        row.attempts_total,
        from_now(row.due_at)
    )
}
