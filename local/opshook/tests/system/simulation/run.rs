//! One run: a seed's plan from its beginning to its end, then calm, then the reckoning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::{Duration, sleep, sleep_until};

use super::engine::Engine;
use super::operator::Operator;
use super::ops::Ops;
use super::plan::{DAY, HOUR, MINUTE, Plan, Step};
use super::portal::Portal;
use super::process::{Order, Process};
use super::row::{Row, number, text};
use super::wire::Peer;
use super::world::{Counts, World};

/// When the faults are over, everything is delivered within this time: the longest wait with its jitter, and some.
const SETTLED_WITHIN: u64 = 36 * HOUR;
/// And after that, what was replayed.
const REPLAYED_WITHIN: u64 = 2 * HOUR;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    /// Simulated until the faults were over.
    pub days: u64,
    pub accepted: u64,
    pub delivered: u64,
    pub tickets: u64,
    pub lost: u64,
    pub double: u64,
    pub counts: Counts,
    pub trace_hash: u64,
    /// The promises that broke, with what happened to their messages.
    pub broken: Vec<String>,
}

/// Runs a seed on a runtime of its own, whose time is paused: it passes when all wait.
pub fn run(seed: u64) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    fastrand::seed(seed);
    runtime.block_on(async {
        let run = Run::begin(seed).await;
        run.until_the_end().await
    })
}

struct Run {
    world: Arc<World>,
    outbox: Engine,
    ops: Arc<Ops>,
    processes: Vec<Arc<Process>>,
    portal: Arc<Portal>,
    operator: Operator,
}

impl Run {
    async fn begin(seed: u64) -> Self {
        let world = World::new(Plan::of(seed));
        let outbox = Engine::new(&world).await;
        let ops = Arc::new(Ops::new(&world).await);
        let peer: Arc<dyn Peer> = ops.clone();
        let process = |index| Process::start(&world, &outbox, &peer, index);
        let processes: Vec<_> = (0..world.plan.clocks.len()).map(process).collect();
        let portal = Portal::new(&world, &processes);
        let operator = Operator::new(&world, &processes);
        Self { world, outbox, ops, processes, portal, operator }
    }

    async fn until_the_end(self) -> Report {
        for (at, step) in &self.world.plan.steps {
            sleep_until(self.world.instant(*at)).await;
            self.step(*step).await;
            self.world.judge().check_attempts(&self.world);
        }
        sleep_until(self.world.instant(self.world.plan.length)).await;
        self.world.calm_down();
        self.operator.done().await;
        self.settle(SETTLED_WITHIN).await;
        self.expect_all("pending", 0);
        self.operator.replay_all_that_rests().await;
        self.operator.replay_remembered().await;
        self.settle(REPLAYED_WITHIN).await;
        sleep(Duration::from_millis(2 * MINUTE)).await;
        self.world.judge().check_attempts(&self.world);
        self.reckon()
    }

    async fn step(&self, step: Step) {
        self.world.note(None, format!("{step:?}"));
        match step {
            Step::Burst { events, within } => self.portal.burst(events, within),
            Step::Kill(process) => self.processes[process].order(Order::Kill),
            Step::Stop(process) => self.processes[process].order(Order::Stop),
            Step::ReplaySome => self.operator.replay_some(),
            Step::ReplayAll(state) => self.operator.replay_all(state),
            Step::LoseOps => {
                self.operator.remember(self.world.judge().unrecorded());
                self.ops.lose_everything().await;
                self.world.count("ops lost its database");
                self.operator.replay_delivered();
            }
            Step::Expire => self.expire(),
        }
    }

    /// Deletes what has expired, as an engine does at some time.
    fn expire(&self) {
        let now = self.world.true_ms();
        for row in self.outbox.rows("outbox") {
            if number(&row, "expires_at").is_some_and(|seconds| seconds <= now / 1_000) {
                let pk = text(&row, "pk").unwrap();
                self.outbox.delete("outbox", &pk);
                self.world.judge().expired(&pk);
                self.world.count("rows that expired");
            }
        }
    }

    /// Waits until nothing is pending, and not longer than this.
    async fn settle(&self, limit: u64) {
        let end = self.world.now() + limit;
        while self.world.now() < end && self.count("pending") > 0 {
            sleep(Duration::from_millis(MINUTE)).await;
        }
    }

    fn count(&self, state: &str) -> usize {
        self.world.judge().rows().filter(|(_, row)| row.is(state)).count()
    }

    fn expect_all(&self, state: &str, expected: usize) {
        let judge = self.world.judge();
        let rows: Vec<_> = judge.rows().filter(|(_, row)| row.is(state)).collect();
        if rows.len() != expected {
            rows.iter().take(3).for_each(|(id, row)| self.world.broke(Some(id), format!("still {state}: {row:?}")));
        }
    }

    /// The accounts at the end, by what is in the two databases.
    fn reckon(&self) -> Report {
        let rows: BTreeMap<String, Row> = self.messages();
        let accepted = self.portal.accepted();
        let records = self.ops.engine().rows("webhook_events");
        let ids = |row| text(row, "webhook_id");
        let recorded: BTreeSet<String> = records.iter().filter_map(ids).collect();
        let Plan { seed, length, .. } = self.world.plan;
        let (days, accepted_count) = (length / DAY, accepted.len() as u64);
        let mut report = Report { seed, days, accepted: accepted_count, ..Report::default() };
        for (id, row) in &rows {
            self.world.promise(row.is("delivered"), Some(id), || format!("at the end: {row:?}"));
        }
        for id in accepted.keys() {
            let delivered = rows.get(id).is_none_or(|row| row.is("delivered")) && recorded.contains(id);
            report.delivered += u64::from(delivered);
            report.lost += u64::from(!delivered);
            self.world.promise(delivered, Some(id), || "accepted, and not at ops".to_owned());
        }
        self.reckon_tickets(&mut report, &records);
        report.counts = self.world.counts();
        report.trace_hash = self.world.trace_hash();
        report.broken = self.broken();
        report
    }

    fn reckon_tickets(&self, report: &mut Report, records: &[serde_json::Value]) {
        let mut tickets = BTreeMap::<_, u64>::new();
        for row in records.iter().filter(|row| text(row, "status").is_some()) {
            let part = |name| text(row, name).unwrap_or_default();
            *tickets.entry((part("event"), part("session_id"), part("domain"))).or_default() += 1;
        }
        report.tickets = tickets.values().sum();
        report.double = tickets.values().map(|count| count - 1).sum();
        self.world.promise(report.double == 0, None, || format!("{} tickets are double", report.double));
        for (id, accepted) in self.portal.accepted().iter().filter(|(_, accepted)| accepted.makes_ticket()) {
            self.world.promise(tickets.contains_key(&accepted.triple()), Some(id), || "there is no ticket".to_owned());
        }
    }

    /// The messages as the store has them, which is as the judge has seen them written.
    fn messages(&self) -> BTreeMap<String, Row> {
        let rows = self.outbox.rows("outbox");
        let message = |row| Some((text(row, "pk").filter(|pk| pk.starts_with("msg_"))?, Row::of(row)));
        let rows: BTreeMap<String, Row> = rows.iter().filter_map(message).collect();
        for (id, row) in &rows {
            let same = self.world.judge().row(id) == Some(row);
            self.world.promise(same, Some(id), || "the store has another row than was written".to_owned());
        }
        rows
    }

    fn broken(&self) -> Vec<String> {
        let broken = self.world.broken();
        let mut told: Vec<String> = broken
            .iter()
            .map(|(id, promise)| {
                format!("seed {}: {} {promise}", self.world.plan.seed, id.as_deref().unwrap_or("the world"))
            })
            .collect();
        if let Some((id, _)) = broken.first() {
            told.push(format!("what happened to it:\n{}", self.world.told(id.as_deref())));
            told.push(format!("what happened around it:\n{}", self.world.told(None)));
            told.push(format!("the plan: {:?}", self.world.plan));
        }
        told
    }
}
