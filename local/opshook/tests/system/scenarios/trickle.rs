//! Ops is down while little comes.

use super::endpoint::{Endpoint, Full, Mood, PLENTY};
use super::stage::{Stage, Take};
use super::table::{Line, cells, play};
use crate::simulation::plan::{MINUTE, SECOND};

const ANSWER_MS: u64 = 60;
/// Longer than in production, for much time passes.
const PAUSE: u64 = 5 * SECOND;
/// What waits is delivered within this, once one got through.
const BOUND: u64 = MINUTE;

#[test]
fn what_little_came_in_an_outage_goes_when_one_message_passes() {
    let statuses = [401, 404, 429, 500, 503].map(Mood::Says);
    let all = [[Mood::Refuses, Mood::Hangs].as_slice(), &statuses].concat();
    let quick = [(Mood::Says(500), 1), (Mood::Refuses, 3)];
    play("trickle", cells(&all, &[1, 3], &quick), PAUSE, run);
}

async fn run(take: Take, mood: Mood, line: &mut Line) {
    let mut stage = Stage::new(take, |world| Endpoint::new(world, ANSWER_MS, PLENTY, Full::Says503)).await;
    stage.endpoint.set_mood(mood);
    stage.start();
    stage.pass(SECOND).await;
    for _ in 0..6 {
        stage.emit(None).await;
        stage.pass(2 * MINUTE).await;
    }
    line.figure("announced", stage.announced());
    line.expect(stage.announced() == 1, || "an endpoint that let nothing through is to be announced once".to_owned());
    stage.endpoint.set_mood(Mood::Works);
    let new = stage.emit(None).await;
    stage.once(30 * MINUTE, || stage.endpoint.taken_at(&new.id).is_some()).await;
    let passed = stage.world.now();
    line.within("the new one", stage.waited(&new), BOUND);
    stage.until_good_ones_are_taken(30 * MINUTE).await;
    let last = stage.endpoint.seen().taken.values().max().copied().unwrap_or(stage.world.now());
    line.within("the others after it", last.saturating_sub(passed), BOUND);
    stage.pass(5 * SECOND).await;
    let told = stage.told();
    line.expect(told.last().is_some_and(|told| told.code == "endpoint_up"), || format!("the log ends with {told:?}"));
    line.judged(&stage);
}
