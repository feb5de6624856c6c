//! One message that ops refuses for ever, and good ones after it.

use super::endpoint::{Endpoint, Fate, Full, PLENTY};
use super::stage::{Stage, Take};
use super::table::{Line, PAUSE, cells, play};
use crate::simulation::plan::{MINUTE, SECOND};

const ANSWER_MS: u64 = 60;
/// How long a good one may take that comes just after the bad one,
const SOON: u64 = 30 * SECOND;
/// and one that comes when it is known as bad.
const AT_ONCE: u64 = 2 * SECOND;

#[test]
fn one_message_that_is_refused_for_ever_delays_no_other() {
    let all = [
        Fate::Says(401),
        Fate::Says(403),
        Fate::Says(404),
        Fate::Says(422),
        Fate::Says(500),
        Fate::Says(503),
        Fate::TimesOut,
        Fate::Cut,
    ];
    let quick = [(Fate::Says(401), 1), (Fate::Says(503), 3), (Fate::TimesOut, 1), (Fate::Cut, 3)];
    play("one bad", cells(&all, &[1, 3], &quick), PAUSE, run);
}

#[test]
fn one_message_that_is_refused_for_ever_delays_no_other_ten_minutes_later() {
    let all = [Fate::Says(403), Fate::Says(500), Fate::TimesOut];
    play("one bad, later", cells(&all, &[1, 3], &[(Fate::Says(403), 1)]), PAUSE, run_later);
}

async fn run(take: Take, fate: Fate, line: &mut Line) {
    run_until(&[SECOND, 20 * SECOND, 90 * SECOND], take, fate, line).await;
}

async fn run_later(take: Take, fate: Fate, line: &mut Line) {
    run_until(&[10 * MINUTE], take, fate, line).await;
}

/// With a good one at each of these times after the first ones.
async fn run_until(moments: &[u64], take: Take, fate: Fate, line: &mut Line) {
    let mut stage = Stage::new(take, |world| Endpoint::new(world, ANSWER_MS, PLENTY, Full::Says503)).await;
    stage.start();
    stage.pass(SECOND).await;
    let bad = stage.emit(Some(fate)).await;
    let gap = stage.world.portal_chance.pick(&[0, 50, 1_000, 2_500]);
    for _ in 0..10 {
        stage.emit(None).await;
        stage.pass(gap).await;
    }
    stage.until_good_ones_are_taken(2 * SOON).await;
    line.figure("gap", format_args!("{gap} ms"));
    line.within("longest of ten", stage.longest_wait(), SOON);
    let since = stage.world.now();
    let mut longest = 0;
    for moment in moments {
        stage.until(since, *moment).await;
        let good = stage.emit(None).await;
        stage.until_good_ones_are_taken(5 * SECOND).await;
        longest = longest.max(stage.waited(&good));
        line.expect(stage.rows()[&bad.id].is("pending"), || format!("the bad one is not pending after {moment} ms"));
    }
    line.within("longest later", longest, AT_ONCE);
    line.at_most("announced", stage.announced(), 0);
    line.judged(&stage);
}
