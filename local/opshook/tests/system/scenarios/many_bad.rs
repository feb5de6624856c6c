//! Many messages that ops refuses for ever, among good ones.

use super::endpoint::{Endpoint, Fate, Full, PLENTY};
use super::stage::{Stage, Take};
use super::table::{Line, PAUSE, cells, play};
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

impl Case {
    const fn of(bad: usize, kind: Kind, place: Place) -> Self {
        Self { bad, kind, place }
    }

    /// Each kind at each place. Of those that time out there are 12.
    fn all(bad: usize, kinds: &[Kind]) -> Vec<Self> {
        let bad = |kind: &Kind| if matches!(kind, Kind::All(Fate::TimesOut)) { 12 } else { bad };
        let places = [Place::Before, Place::After, Place::Between, Place::Spread];
        kinds.iter().flat_map(|kind| places.map(|place| Self::of(bad(kind), *kind, place))).collect()
    }
}

/// What is answered, or cut, at once.
const AT_ONCE: [Kind; 7] = [says(401), says(403), says(404), says(422), says(500), says(503), Kind::All(Fate::Cut)];
/// What is not.
const SLOWLY: [Kind; 2] = [Kind::All(Fate::TimesOut), Kind::Mixed];

const fn says(status: u16) -> Kind {
    Kind::All(Fate::Says(status))
}

#[test]
fn many_messages_that_are_refused_for_ever_delay_no_other() {
    let quick = [
        (Case::of(33, says(401), Place::Before), 1),
        (Case::of(33, says(404), Place::Between), 1),
        (Case::of(33, says(422), Place::Spread), 1),
        (Case::of(33, says(503), Place::After), 3),
        (Case::of(33, Kind::All(Fate::Cut), Place::Before), 3),
        (Case::of(12, Kind::All(Fate::TimesOut), Place::Before), 1),
        (Case::of(33, Kind::Mixed, Place::Spread), 3),
    ];
    let all = Case::all(33, &[AT_ONCE.as_slice(), &SLOWLY].concat());
    play("33 bad", cells(&all, &[1, 3], &quick), PAUSE, run);
}

#[test]
fn as_many_that_are_refused_for_ever_as_good_ones_delay_no_other() {
    let quick = [(Case::of(200, says(500), Place::Before), 1), (Case::of(200, says(403), Place::Spread), 1)];
    play("200 bad", cells(&Case::all(200, &AT_ONCE), &[1, 3], &quick), PAUSE, run);
}

#[test]
fn what_is_refused_for_ever_runs_down_its_schedule_and_disturbs_nobody_for_hours() {
    let all = [says(401), says(404), says(503), Kind::All(Fate::Cut)].map(|kind| Case::of(33, kind, Place::Between));
    let all = [all.as_slice(), &SLOWLY.map(|kind| Case::of(33, kind, Place::Spread))].concat();
    play("33 bad for hours", cells(&all, &[1, 3], &[(all[5], 1)]), 2 * MINUTE, run_for_hours);
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
    // More while the bad ones wait for their next attempts.
    for moment in [15 * SECOND, 75 * SECOND] {
        stage.until(since, moment).await;
        stage.emit(None).await;
    }
    stage.until_good_ones_are_taken(4 * BOUND).await;
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
    line.seconds("longest good later", longest);
    line.at_most("announced", stage.announced(), ANNOUNCED);
    let rows = stage.rows();
    line.figure("bad ones pending", rows.values().filter(|row| row.is("pending")).count());
    line.judged(&stage);
}
