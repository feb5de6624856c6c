//! What a run tells: a table for people, the same as JSON, and one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::check::Verdict;
use crate::chaos::load::Book;
use crate::chaos::outbox::End;
use crate::chaos::people::Seen;
use crate::chaos::site::Tally;
use crate::chaos::weather::Link;

/// What a run came to.
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub tallies: Vec<(&'static str, Tally)>,
    pub links: Vec<LinkTally>,
    /// What people saw while all was in motion.
    pub seen: Seen,
    pub end: End,
    pub book: Book,
    pub verdict: Verdict,
}

/// What happened on the connections of one kind.
pub struct LinkTally {
    name: &'static str,
    calls: BTreeMap<String, u32>,
    outages: BTreeMap<&'static str, u32>,
}

impl LinkTally {
    pub fn of(link: &Link) -> Self {
        Self { name: link.name, calls: calls(link), outages: link.counts.lock().unwrap().clone() }
    }
}

/// How many calls met a fault until now.
pub fn faults(link: &Link) -> u32 {
    sum(&calls(link))
}

fn sum(calls: &BTreeMap<String, u32>) -> u32 {
    calls.iter().filter(|(kind, _)| *kind != PASSED).map(|(_, count)| count).sum()
}

const PASSED: &str = "passed";

/// How many calls met what, in words.
fn calls(link: &Link) -> BTreeMap<String, u32> {
    let mut calls = BTreeMap::new();
    for (name, count) in link.proxies.iter().flat_map(|proxy| proxy.counts()) {
        *calls.entry(in_words(&name)).or_default() += count;
    }
    calls
}

fn in_words(fault: &str) -> String {
    let (kind, detail) = fault.trim_end_matches(')').split_once('(').unwrap_or((fault, ""));
    match kind {
        "Pass" => PASSED.to_owned(),
        "LoseAnswer" => "took effect, answer lost".to_owned(),
        "CutAnswer" => "took effect, answer cut".to_owned(),
        "RefuseAfter" => "took effect, refused".to_owned(),
        "CutRequest" => "request cut".to_owned(),
        "Late" => "request cut, took effect late".to_owned(),
        "Delay" => "answered late".to_owned(),
        "Hang" => "never answered".to_owned(),
        "Refuse" => "refused for now".to_owned(),
        "Answer" => format!("answered {detail}"),
        other => other.to_owned(),
    }
}

impl Report {
    /// Whether every promise held.
    pub fn holds(&self) -> bool {
        self.broken().next().is_none() && self.verdict.lost == 0 && self.verdict.double == 0
    }

    fn broken(&self) -> impl Iterator<Item = &String> {
        self.verdict.broken.iter().chain(&self.book.broken)
    }

    /// The table, what broke, and the line.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "\n{} s of chaos with seed {}\n", self.seconds, self.seed);
        self.processes(&mut out);
        self.faults(&mut out);
        self.load(&mut out);
        for broken in self.broken() {
            let _ = writeln!(out, "BROKEN  {broken}");
        }
        if !self.holds() {
            let _ = writeln!(out, "A promise broke; the same choices again: --seed {}\n", self.seed);
        }
        let Verdict { accepted, delivered, tickets, lost, double, .. } = &self.verdict;
        let _ =
            write!(out, "accepted {accepted}  delivered {delivered}  tickets {tickets}  lost {lost}  double {double}");
        out
    }

    fn processes(&self, out: &mut String) {
        let titles = ["process", "kill -9", "SIGTERM", "longest start", "longest stop"];
        let mut line = |[name, killed, terminated, start, stop]: [&str; 5]| {
            let _ = writeln!(out, "{name:16} {killed:>9} {terminated:>9} {start:>15} {stop:>15}");
        };
        line(titles);
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        for (name, tally) in &self.tallies {
            let (killed, terminated) = (tally.killed.to_string(), tally.terminated.to_string());
            line([name, &killed, &terminated, &ms(tally.longest_start), &ms(tally.longest_stop)]);
        }
        let sum =
            |count: fn(&Tally) -> u32| self.tallies.iter().map(|(_, tally)| count(tally)).sum::<u32>().to_string();
        let longest = |time: fn(&Tally) -> Duration| {
            ms(self.tallies.iter().map(|(_, tally)| time(tally)).max().unwrap_or_default())
        };
        let (start, stop) = (longest(|tally| tally.longest_start), longest(|tally| tally.longest_stop));
        line(["all", &sum(|tally| tally.killed), &sum(|tally| tally.terminated), &start, &stop]);
        out.push('\n');
    }

    fn faults(&self, out: &mut String) {
        let row = |what: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>21}")).collect();
            format!("{what:30}{cells}\n")
        };
        let counts = |what: &str, count: &dyn Fn(&LinkTally) -> Option<u32>| {
            let cells = self.links.iter().map(|link| count(link).map_or("-".to_owned(), |count| count.to_string()));
            row(what, cells.collect())
        };
        out.push_str(&row("calls", self.links.iter().map(|link| link.name.to_owned()).collect()));
        out.push_str(&counts(PASSED, &|link| link.calls.get(PASSED).copied()));
        let kinds: BTreeSet<&String> = self.links.iter().flat_map(|link| link.calls.keys()).collect();
        for kind in kinds.into_iter().filter(|kind| *kind != PASSED) {
            out.push_str(&counts(kind, &|link| link.calls.get(kind).copied()));
        }
        out.push_str(&counts("faults in all", &|link| Some(sum(&link.calls))));
        let outages: BTreeSet<&str> = self.links.iter().flat_map(|link| link.outages.keys().copied()).collect();
        for outage in outages {
            out.push_str(&counts(&format!("outage: {outage}"), &|link| link.outages.get(outage).copied()));
        }
        out.push('\n');
    }

    fn load(&self, out: &mut String) {
        let Self { book, verdict, seen, end, .. } = self;
        let mut line = |what: &str, text: String| {
            let _ = writeln!(out, "{what:16} {text}");
        };
        let times = |counts: BTreeMap<&str, u64>| {
            counts.iter().map(|(what, count)| format!("{count} × {what}")).collect::<Vec<_>>().join(", ")
        };
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let [half, most, all] = self.took();
        line("posts", times(book.answers.iter().map(|(answer, count)| (answer.as_str(), *count)).collect()));
        line("a 202 took", format!("{half} ms at the median, {most} ms at p99, {all} ms at most"));
        line("posted again", format!("{} after their 202", book.repeated));
        line("looked at", format!("{} messages while all was in motion", seen.looks));
        let drains =
            format!("{} outages of ops before the next one, at most {}", seen.drains, seconds(seen.longest_drain));
        line("drained", format!("{drains}; in the end {}", seconds(end.drained)));
        line("replayed", format!("{} dead or parked then, {} whatever they were", end.rested.len(), self.replayed()));
        line("activity", times(self.activity()));
        line(
            "ops recorded",
            format!("{} deliveries, {} messages more than once", verdict.records, verdict.received_again),
        );
        line("202 lost", format!("{} messages, delivered all the same", verdict.unknown_delivered));
        out.push('\n');
    }

    fn activity(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for code in self.end.activity.iter().filter_map(|entry| entry["code"].as_str()) {
            *counts.entry(code).or_default() += 1;
        }
        counts
    }

    fn replayed(&self) -> usize {
        self.end.replayed.len()
    }

    fn took(&self) -> [u32; 3] {
        let mut took = self.book.took_ms.clone();
        took.sort_unstable();
        [0.5, 0.99, 1.0].map(|part| {
            let place = (took.len() as f64 * part).ceil() as usize;
            took.get(place.saturating_sub(1)).copied().unwrap_or(0)
        })
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        let processes: Vec<Value> = self
            .tallies
            .iter()
            .map(|(name, tally)| {
                json!({"name": name, "killed": tally.killed, "terminated": tally.terminated,
                   "longest_start_ms": ms(tally.longest_start), "longest_stop_ms": ms(tally.longest_stop)})
            })
            .collect();
        let links: Vec<Value> = self
            .links
            .iter()
            .map(|link| json!({"name": link.name, "calls": link.calls, "outages": link.outages}))
            .collect();
        let Self { book, verdict, seen, end, .. } = self;
        let [half, most, all] = self.took();
        json!({
            "seed": self.seed, "seconds": self.seconds, "processes": processes, "links": links,
            "answers": book.answers, "accepting_ms": {"p50": half, "p99": most, "max": all},
            "posted_again": book.repeated, "looks": seen.looks, "outages_drained": seen.drains,
            "longest_outage_drained_ms": ms(seen.longest_drain), "end_drained_ms": ms(end.drained),
            "replayed": {"rested": end.rested.len(), "others": self.replayed()}, "activity": self.activity(),
            "records": verdict.records, "received_again": verdict.received_again,
            "unknown_delivered": verdict.unknown_delivered,
            "accepted": verdict.accepted, "delivered": verdict.delivered, "tickets": verdict.tickets,
            "lost": verdict.lost, "double": verdict.double, "broken": self.broken().collect::<Vec<_>>(),
        })
    }
}
