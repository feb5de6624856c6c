//! Many messages that ops refuses for ever, among good ones.

use super::endpoint::{Endpoint, Fate, Full, PLENTY};
use super::stage::{Stage, Take};
use super::table::{Line, PAUSE, is_full, play};
use crate::simulation::plan::{HOUR, MINUTE, SECOND};

const ANSWER_MS: u64 = 60;
const GOOD: usize = 200;
/// How long a good one may take.
const BOUND: u64 = 3 * MINUTE;
/// So often may the endpoint be announced as down.
const ANNOUNCED: usize = 2;

/// What the bad ones meet.
#[derive(Debug, Clone, Copy)]
enum Kind {
    All(Fate),
    /// Any of them, 12 of 33 time out.
    Mixed,
}

/// Where the bad ones are among the good ones.
#[derive(Debug, Clone, Copy)]
enum Place {
    Before,
    After,
    Between,
    Spread,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    bad: usize,
    kind: Kind,
    place: Place,
}

const PLACES: [Place; 4] = [Place::Before, Place::After, Place::Between, Place::Spread];

fn kinds() -> Vec<(Kind, usize)> {
    let mut kinds: Vec<_> = [401, 403, 404, 422, 500, 503].map(|status| (Kind::All(Fate::Says(status)), 33)).into();
    kinds.extend([(Kind::All(Fate::Cut), 33), (Kind::All(Fate::TimesOut), 12), (Kind::Mixed, 33)]);
    kinds
}

/// Each kind at each place; in a quick run each kind at one.
fn cases(kinds: Vec<(Kind, usize)>) -> Vec<Case> {
    let of = |(at, (kind, bad)): (usize, (Kind, usize))| {
        let places = if is_full() { PLACES.to_vec() } else { vec![PLACES[at % PLACES.len()]] };
        places.into_iter().map(move |place| Case { bad, kind, place })
    };
    kinds.into_iter().enumerate().flat_map(of).collect()
}

#[test]
fn many_messages_that_are_refused_for_ever_delay_no_other() {
    play("33 bad", cases(kinds()), &[1, 3], PAUSE, run);
}

#[test]
fn as_many_that_are_refused_for_ever_as_good_ones_delay_no_other() {
    let kinds = kinds().into_iter().filter(|(kind, _)| !matches!(kind, Kind::Mixed | Kind::All(Fate::TimesOut)));
    let kinds: Vec<_> = kinds.map(|(kind, _)| (kind, 200)).collect();
    let few = kinds.iter().copied().skip(1).step_by(2).collect();
    play("200 bad", cases(if is_full() { kinds } else { few }), &[1, 3], PAUSE, run);
}

#[test]
fn what_is_refused_for_ever_runs_down_its_schedule_and_disturbs_nobody_for_hours() {
    let kinds: Vec<_> = kinds();
    let few = kinds.iter().copied().skip(1).step_by(3).collect();
    play("33 bad for hours", cases(if is_full() { kinds } else { few }), &[1, 3], MINUTE, run_for_hours);
}

fn fates(stage: &Stage, case: Case) -> Vec<Option<Fate>> {
    let others = [401, 403, 404, 422, 500, 503].map(Fate::Says);
    let fate = |number: usize| match case.kind {
        Kind::All(fate) => fate,
        Kind::Mixed if number < 12 => Fate::TimesOut,
        Kind::Mixed => others.get(number % (others.len() + 1)).copied().unwrap_or(Fate::Cut),
    };
    let mut bad: Vec<Option<Fate>> = (0..case.bad).map(|number| Some(fate(number))).collect();
    let chance = &stage.world.portal_chance;
    chance.shuffle(&mut bad);
    let good = |count: usize| vec![None; count];
    match case.place {
        Place::Before => [bad, good(GOOD)].concat(),
        Place::After => [good(GOOD), bad].concat(),
        Place::Between => [good(GOOD / 2), bad, good(GOOD / 2)].concat(),
        Place::Spread => {
            let mut all = [bad, good(GOOD)].concat();
            chance.shuffle(&mut all);
            all
        }
    }
}

async fn begin(take: Take, case: Case) -> Stage {
    let mut stage = Stage::new(take, |world| Endpoint::new(world, ANSWER_MS, PLENTY, Full::Says503)).await;
    stage.start();
    stage.pass(SECOND).await;
    stage.emit_all(&fates(&stage, case)).await;
    stage
}

async fn run(take: Take, case: Case, line: &mut Line) {
    let stage = begin(take, case).await;
    let since = stage.world.now();
    stage.until_good_ones_are_taken(4 * BOUND).await;
    line.within("longest good", stage.longest_wait(), BOUND);
    // Two more while all of the bad ones wait for their next attempts.
    for _ in 0..2 {
        stage.pass(45 * SECOND).await;
        stage.emit(None).await;
    }
    stage.until(since, 3 * MINUTE).await;
    line.within("longest good with later ones", stage.longest_wait(), BOUND);
    line.at_most("announced", stage.announced(), ANNOUNCED);
    line.figure("most at once", stage.endpoint.seen().most_at_once);
    line.judged(&stage);
}

/// With a good one now and then.
async fn run_for_hours(take: Take, case: Case, line: &mut Line) {
    let stage = begin(take, case).await;
    let since = stage.world.now();
    let mut longest = 0;
    while stage.world.now() < since + 9 * HOUR {
        stage.pass(stage.world.portal_chance.between(5 * MINUTE..=20 * MINUTE)).await;
        let good = stage.emit(None).await;
        stage.until_good_ones_are_taken(BOUND).await;
        longest = longest.max(stage.waited(&good));
    }
    line.within("longest good", stage.longest_wait(), BOUND);
    line.within("longest good later", longest, 30 * SECOND);
    line.at_most("announced", stage.announced(), ANNOUNCED);
    let rows = stage.rows();
    line.figure("bad ones pending", rows.values().filter(|row| row.is("pending")).count());
    line.judged(&stage);
}
