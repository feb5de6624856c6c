//! The chaos run: the real binaries as processes of their own, real engines on disk, faults between all of them, and
//! kill -9 of each again and again under load. Then the faults stop, nobody does anything, and every promise has to hold.
//!
//! A short run is a test. `scripts/chaos` makes long ones of it by `OPSHOOK_CHAOS_SECONDS`; `OPSHOOK_TEST_SEED` repeats
//! the choices of a run, though not its timing.

mod check;
mod load;
mod outbox;
mod people;
mod report;
mod site;
mod weather;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::chaos::check::check;
use crate::chaos::load::Load;
use crate::chaos::outbox::{Outbox, settle};
use crate::chaos::people::People;
use crate::chaos::report::{LinkTally, Report};
use crate::chaos::site::Site;
use crate::chaos::weather::{Flights, LATEST, Link, engine_fault, engine_outages, ops_fault, ops_outages};

/// How many portals post at a time.
const PORTALS: usize = 6;
const PROGRESS: Duration = Duration::from_secs(10);

/// How a run goes.
struct Plan {
    seed: u64,
    time: Duration,
    /// A line each 10 s.
    progress: bool,
}

impl Plan {
    /// The choices of one part of the run.
    fn random(&self, part: &str) -> Rng {
        Rng::with_seed(self.seed ^ hash(part))
    }

    fn say(&self, begun: Instant, what: &str) {
        if self.progress {
            let seconds = begun.elapsed().as_secs();
            let _ = writeln!(std::io::stderr(), "{:3}:{:02}  {what}", seconds / 60, seconds % 60);
        }
    }
}

/// Runs it in `dir`, where data and logs stay.
async fn run(plan: &Plan, dir: &Path) -> Report {
    let mut site = Site::start(dir).await;
    let flights = trouble(plan, &site);
    let begun = Instant::now();
    let end = begun + plan.time;
    let load = Arc::new(Load::new(&site.emits, plan.seed, end));
    let people = People { outbox: Outbox::new(&site.emits), load: Arc::clone(&load), seen: Arc::default(), end };
    let mut busy = JoinSet::new();
    for portal in 0..PORTALS {
        busy.spawn(Arc::clone(&load).portal(plan.random(&format!("portal {portal}"))));
    }
    busy.spawn(people.clone().look(plan.random("looks")));
    busy.spawn(people.clone().replay(plan.random("replays")));
    storm(plan, &mut site, &people, begun).await;
    let calm = Instant::now();
    plan.say(begun, "the faults have stopped and all is up: waiting until nothing is pending");

    busy.join_all().await;
    let mut book = std::mem::take(&mut *load.book());
    let seen = std::mem::take(&mut *people.seen.lock().unwrap());
    let left = |pending| plan.say(begun, &format!("pending {pending:7}"));
    let mut outcome = settle(&people.outbox, left).await;
    outcome.replayed.extend(seen.replayed.iter().cloned());
    sleep_until(calm + LATEST + Duration::from_secs(1)).await;
    plan.say(begun, "comparing what ops has with what was accepted");
    let verdict = check(&book, &outcome, site.query).await;

    let mut tallies = Vec::new();
    for (member, _) in site.members {
        tallies.push((member.command.name, member.end().await));
    }
    book.broken.extend(seen.broken.iter().cloned());
    book.broken.extend(flights.lock().unwrap().twice.iter().map(|id| format!("in flight twice: {id}")));
    book.broken.extend(tallies.iter_mut().flat_map(|(_, tally)| std::mem::take(&mut tally.broken)));
    let links = [site.outbox, site.deliveries, site.records].map(|link| LinkTally::of(&link)).into();
    Report { seed: plan.seed, seconds: plan.time.as_secs(), tallies, links, seen, end: outcome, book, verdict }
}

/// Single faults between all processes from now on, and an eye on what is under way to ops.
fn trouble(plan: &Plan, site: &Site) -> Arc<Mutex<Flights>> {
    let emits = site.members.iter().map(|(member, _)| member).filter(|member| member.command.name.starts_with("emit"));
    let lives: Vec<_> = emits.map(|emit| Arc::clone(&emit.lives)).collect();
    let flights = Arc::new(Mutex::new(Flights::default()));
    let seen = Arc::clone(&flights);
    site.outbox.trouble(&mut plan.random("outbox"), |random, _, _| engine_fault(random));
    site.records.trouble(&mut plan.random("records"), |random, _, _| engine_fault(random));
    site.deliveries.trouble(&mut plan.random("deliveries"), move |random, place, call| {
        seen.lock().unwrap().takes_off(place, call, &lives);
        ops_fault(random, call)
    });
    flights
}

/// Outages, kill -9 and restarts until the plan's end; then no more faults, and every process is up.
async fn storm(plan: &Plan, site: &mut Site, people: &People, begun: Instant) {
    let end = begun + plan.time;
    // A long run has the time to see how an outage's backlog drains.
    let is_long = plan.time >= Duration::from_secs(60);
    let calm = if is_long { 8_000..25_000 } else { 3_000..7_000 };
    let mut harassed = JoinSet::new();
    for (place, (member, pace)) in site.members.drain(..).enumerate() {
        let random = plan.random(member.command.name);
        let pace = if is_long { pace.start..2 * pace.end } else { pace };
        harassed.spawn(async move { (place, member.harass(end, random, pace.clone()).await, pace) });
    }
    let Site { outbox, deliveries, records, receives, .. } = &*site;
    tokio::join!(
        engine_outages(outbox, plan.random("outages of the outbox"), end),
        engine_outages(records, plan.random("outages of the records"), end),
        ops_outages(deliveries, receives, plan.random("outages of ops"), calm, end, || {
            tokio::spawn(people.clone().wait_for_drain(Arc::clone(&deliveries.begun)));
        }),
        progress(plan, begun, people, [outbox, deliveries, records]),
    );
    let mut members = harassed.join_all().await;
    members.sort_by_key(|(place, ..)| *place);
    site.members = members.into_iter().map(|(_, member, pace)| (member, pace)).collect();
    [&site.outbox, &site.deliveries, &site.records].iter().for_each(|link| link.calm());
}

/// A line each 10 s.
async fn progress(plan: &Plan, begun: Instant, people: &People, links: [&Link; 3]) {
    let end = begun + plan.time;
    for line in 1.. {
        sleep_until(end.min(begun + PROGRESS * line)).await;
        if Instant::now() >= end || !plan.progress {
            return;
        }
        let pending = people.outbox.pending().await;
        let accepted = people.load.book().accepted.len();
        let faults: u32 = links.iter().map(|link| report::faults(link)).sum();
        plan.say(begun, &format!("accepted {accepted:7}  pending {pending:>5}  faults {faults:7}"));
    }
}

/// FNV-1a, 64 bits: the same in every run.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: not {text}")))
}

/// What ends a long run before its time.
async fn interrupted() {
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let mut interrupted = signal(SignalKind::interrupt()).unwrap();
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
}

/// The long form's end: its report in a file, an exit status.
fn finish(report: Option<Report>, file: &Path, dir: TempDir) -> ! {
    let Some(report) = report else {
        drop(dir);
        std::process::exit(130);
    };
    let json = setting("OPSHOOK_CHAOS_JSON").unwrap_or(false);
    let text = if json { report.json().to_string() } else { report.text() };
    std::fs::write(file, text + "\n").unwrap();
    if report.holds() {
        drop(dir);
        std::process::exit(0);
    }
    let _ = writeln!(std::io::stderr(), "data and logs of this run stay in {}", dir.keep().display());
    std::process::exit(1);
}

#[test]
fn whatever_is_killed_and_cut_under_load_nothing_that_was_accepted_is_lost_and_no_ticket_is_double() {
    let seed = setting("OPSHOOK_TEST_SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let time = Duration::from_secs(setting("OPSHOOK_CHAOS_SECONDS").unwrap_or(20));
    let file: Option<PathBuf> = setting("OPSHOOK_CHAOS_REPORT");
    let plan = Plan { seed, time, progress: file.is_some() };
    let dir = tempfile::tempdir().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(async {
        tokio::select! {
            report = run(&plan, dir.path()) => Some(report),
            () = interrupted(), if file.is_some() => None,
        }
    });
    // With it go the processes that are left.
    drop(runtime);
    if let Some(file) = file {
        finish(report, &file, dir);
    }
    let report = report.unwrap();
    eprintln!("{}", report.text());
    assert!(report.holds(), "with seed {seed} a promise broke; see above");
}
