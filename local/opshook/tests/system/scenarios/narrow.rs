//! A backlog to an endpoint that has few places.

use super::endpoint::{Endpoint, Full};
use super::stage::{Stage, Take};
use super::table::{Line, PAUSE, cells, play};
use crate::simulation::plan::{MINUTE, SECOND};

const BACKLOG: usize = 1_000;
/// So many times what the places allow may one process take,
const ALONE: f64 = 1.6;
/// and several on one outbox.
const TOGETHER: f64 = 2.5;

#[derive(Debug, Clone, Copy)]
struct Case {
    places: Places,
    answer_ms: u64,
    full: Full,
}

#[derive(Debug, Clone, Copy)]
enum Places {
    Always(usize),
    /// So many, then so many, then so many again, each for as long as a third of the backlog needs.
    Change([usize; 3]),
}

impl Case {
    /// From when on there are how many places, in milliseconds since the start.
    fn places(self) -> Vec<(u64, usize)> {
        let third = |places: usize| BACKLOG as u64 / 3 * self.answer_ms / places as u64;
        match self.places {
            Places::Always(places) => vec![(0, places)],
            Places::Change([first, then, last]) => {
                vec![(0, first), (third(first), then), (third(first) + third(then), last)]
            }
        }
    }

    /// How long the backlog needs where each place is always taken.
    fn allowed(self) -> u64 {
        let mut left = BACKLOG as f64;
        let places = self.places();
        for (at, next) in places.iter().zip(places.iter().skip(1)) {
            left -= (next.0 - at.0) as f64 / self.answer_ms as f64 * at.1 as f64;
        }
        let (from, count) = places[places.len() - 1];
        from + (left * self.answer_ms as f64 / count as f64) as u64
    }
}

const fn case(places: Places, answer_ms: u64, full: Full) -> Case {
    Case { places, answer_ms, full }
}

#[test]
fn a_backlog_goes_as_fast_as_the_endpoint_has_places_and_that_is_never_called_down() {
    let all = [
        case(Places::Always(20), 60, Full::Says503),
        case(Places::Always(20), 300, Full::Says503),
        case(Places::Always(2), 60, Full::Says503),
        case(Places::Always(2), 300, Full::Says503),
        case(Places::Change([40, 5, 40]), 60, Full::Says503),
        case(Places::Change([40, 5, 40]), 300, Full::Says503),
        case(Places::Always(20), 60, Full::Says429),
        case(Places::Always(20), 300, Full::Says429),
        case(Places::Always(2), 300, Full::Says429),
    ];
    let quick = [(all[0], 1), (all[3], 1), (all[4], 5), (all[7], 1)];
    play("narrow", cells(&all, &[1, 5], &quick), PAUSE, run);
}

async fn run(take: Take, case: Case, line: &mut Line) {
    let places = case.places();
    let mut stage = Stage::new(take, |world| Endpoint::new(world, case.answer_ms, places[0].1, case.full)).await;
    stage.fill(BACKLOG).await;
    let since = stage.world.now();
    stage.start();
    for (at, count) in places {
        stage.until(since, at).await;
        stage.endpoint.set_places(count);
    }
    stage.until_good_ones_are_taken(6 * case.allowed() + 10 * MINUTE).await;
    let seen = stage.endpoint.seen();
    let last = if seen.taken.len() == BACKLOG { seen.taken.values().max().copied() } else { None };
    let took = last.unwrap_or(stage.world.now()) - since;
    let nearly = seen.order.get(BACKLOG * 95 / 100).and_then(|id| seen.taken.get(id)).map_or(took, |at| at - since);
    let ratio = |took: u64| took as f64 / case.allowed() as f64;
    line.figure("taken", seen.taken.len());
    line.seconds("took", took);
    // What was refused last waits for as long as ops wants it to.
    let asked = if case.full == Full::Says429 { 2 * SECOND } else { 0 };
    let most = if take.processes == 1 { ALONE } else { TOGETHER };
    line.at_most("of allowed", ratio(took.saturating_sub(asked)), most);
    line.figure("95 % of allowed", format_args!("{:.2}", ratio(nearly)));
    line.figure("refused", format_args!("{:.0} %", 100.0 * seen.refused as f64 / seen.came.len() as f64));
    line.at_most("announced", stage.announced(), 0);
    line.judged(&stage);
}
