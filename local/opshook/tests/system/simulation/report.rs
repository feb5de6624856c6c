//! What the runs of all seeds come to: a table for people, the same as JSON, and one line.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::run::Report;
use super::world::Counts;

/// So many of the runs in which a promise broke are told in full.
const TOLD: usize = 3;

/// The runs together.
pub struct Summary {
    reports: Vec<Report>,
    counts: Counts,
}

impl Summary {
    pub fn of(mut reports: Vec<Report>) -> Self {
        reports.sort_by_key(|report| report.seed);
        let mut counts = Counts::new();
        for (what, count) in reports.iter().flat_map(|report| &report.counts) {
            *counts.entry(what).or_default() += count;
        }
        Self { reports, counts }
    }

    /// Whether every promise held.
    pub fn holds(&self) -> bool {
        self.reports.iter().all(|report| report.broken.is_empty() && report.lost == 0 && report.double == 0)
    }

    /// What broke, how often each thing happened, and the line.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for report in self.broken().take(TOLD) {
            let _ = writeln!(out, "{}", report.broken.join("\n"));
            let _ = writeln!(out, "The same run again: scripts/simulate --seeds 1 --seed {}\n", report.seed);
        }
        for (what, count) in &self.counts {
            let _ = writeln!(out, "{count:>9}  {what}");
        }
        let totals = self.totals();
        let told = totals.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
        let _ = writeln!(out, "\n{}", told.join("  "));
        out
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let seeds: Vec<_> = self.broken().map(|report| json!({"seed": report.seed, "broken": report.broken})).collect();
        let mut all = json!({"counts": self.counts, "seeds_with_broken_promises": seeds});
        self.totals().iter().for_each(|(name, count)| all[*name] = json!(count));
        all
    }

    fn broken(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter().filter(|report| !report.broken.is_empty())
    }

    fn totals(&self) -> [(&'static str, u64); 8] {
        let sum = |part: fn(&Report) -> u64| self.reports.iter().map(part).sum::<u64>();
        [
            ("seeds", self.reports.len() as u64),
            ("days", sum(|report| report.days)),
            ("accepted", sum(|report| report.accepted)),
            ("delivered", sum(|report| report.delivered)),
            ("tickets", sum(|report| report.tickets)),
            ("lost", sum(|report| report.lost)),
            ("double", sum(|report| report.double)),
            ("broken", sum(|report| report.broken.len() as u64)),
        ]
    }
}
