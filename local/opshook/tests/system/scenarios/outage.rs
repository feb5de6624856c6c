//! Ops is down for a minute while much waits, and is back.

use std::collections::BTreeMap;

use super::endpoint::{Endpoint, Full, Mood, PLENTY};
use super::stage::{Stage, Take};
use super::table::{Line, PAUSE, cells, play};
use crate::simulation::plan::{MINUTE, SECOND};

const ANSWER_MS: u64 = 20;
const BACKLOG: usize = 2_000;
/// What another process or attempt has begun before the announcement reaches it comes within this.
const UNDER_WAY: u64 = 1_500;
const MOST_PROBES: usize = 8;
/// The longest wait between probes, and the probe itself.
const UP_WITHIN: u64 = 38 * SECOND;
/// And then all is delivered within this.
const DRAINED_WITHIN: u64 = 15 * SECOND;
/// So many may be under way at once, on one process.
const WIDEST: usize = 32;

#[test]
fn while_ops_is_down_few_probes_go_and_when_it_is_back_all_goes_at_once() {
    let statuses = [401, 403, 404, 429, 500, 503].map(Mood::Says);
    let all = [[Mood::Refuses, Mood::Hangs].as_slice(), &statuses].concat();
    let quick = [(Mood::Says(503), 1), (Mood::Hangs, 1), (Mood::Refuses, 3)];
    play("outage", cells(&all, &[1, 3], &quick), PAUSE, run);
}

async fn run(take: Take, mood: Mood, line: &mut Line) {
    let mut stage = Stage::new(take, |world| Endpoint::new(world, ANSWER_MS, PLENTY, Full::Says503)).await;
    stage.fill(BACKLOG).await;
    stage.endpoint.set_mood(mood);
    let since = stage.world.now();
    stage.start();
    let mut told = stage.told();
    while told.is_empty() && stage.world.now() < since + 2 * MINUTE {
        stage.pass(SECOND).await;
        told = stage.told();
    }
    let Some(down) = told.first().map(|told| told.at) else {
        line.expect(false, || "not announced within two minutes".to_owned());
        return;
    };
    line.seconds("announced after", down - since);
    stage.until(down, MINUTE).await;
    let came = stage.endpoint.seen().came;
    let probes = came.iter().filter(|at| (down + UNDER_WAY..down + MINUTE).contains(at)).count();
    line.figure("requests before", came.iter().filter(|at| **at < down + UNDER_WAY).count());
    line.at_most("probes", probes, MOST_PROBES);
    used_up(&stage, line);
    back(&stage, take, line).await;
    line.judged(&stage);
}

/// How much of the schedule the outage has cost.
fn used_up(stage: &Stage, line: &mut Line) {
    let rows = stage.rows();
    let with = |step: i64| rows.values().filter(|row| row.step == step).count();
    line.figure("steps used up 0/1/2", format_args!("{}/{}/{}", with(0), with(1), with(2)));
    let most = rows.values().map(|row| row.step).max().unwrap();
    line.figure("most", most);
    line.expect(2 * (with(0) + with(1)) > rows.len(), || "most have used up more than a step".to_owned());
    let pending = rows.values().filter(|row| row.is("pending")).count();
    line.expect(pending == BACKLOG, || format!("{pending} are pending"));
}

async fn back(stage: &Stage, take: Take, line: &mut Line) {
    let back = stage.world.now();
    stage.endpoint.set_mood(Mood::Works);
    stage.until_good_ones_are_taken(30 * MINUTE).await;
    stage.pass(2 * SECOND).await;
    let seen = stage.endpoint.seen();
    let told = stage.told();
    let up = told.last().filter(|told| told.code == "endpoint_up").map_or(stage.world.now(), |told| told.at);
    line.within("up after", up - back, UP_WITHIN);
    let last = seen.taken.values().max().copied().unwrap_or_default();
    line.within("delivered after that", last.saturating_sub(up), DRAINED_WITHIN);
    line.at_most("announced", stage.announced(), 1);
    let delivered = stage.rows().values().filter(|row| row.is("delivered")).count();
    line.expect(delivered == BACKLOG, || format!("{delivered} are delivered"));
    // In which order they came, against that in which they were accepted.
    let came: BTreeMap<&String, usize> = seen.order.iter().zip(0..).collect();
    let mut places: Vec<usize> =
        stage.good().iter().zip(0..).filter_map(|(good, place)| Some(came.get(&good.id)?.abs_diff(place))).collect();
    places.sort_unstable();
    if let Some(most) = places.get(places.len() * 9 / 10) {
        line.at_most("90 % displaced by", *most, 2 * WIDEST * take.processes);
    }
    line.figure("all by", places.last().copied().unwrap_or_default());
}
