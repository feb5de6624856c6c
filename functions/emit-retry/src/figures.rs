//! What each sweep on Lambda tells of the outbox: one line on standard output in CloudWatch's embedded metric format, of which
//! CloudWatch makes metrics. The alarms of `template.yaml` are about these.

use std::io::{self, Write};
use std::time::Duration;

use contract::time;
use contract::wire::MessageState;
use futures_util::future::try_join3;
use jiff::Timestamp;
use serde_json::json;
use store::{Deadline, Store, StoreError};

/// No more of a state are counted, so that a look costs the same however many there are: an alarm wants to know whether there
/// are any.
const MOST: usize = 100;

/// What there is to tell of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// How many are pending, dead and parked, at most [`MOST`] each.
    pending: usize,
    dead: usize,
    parked: usize,
    /// How long ago the oldest pending one was accepted; nothing where none is pending.
    oldest_pending: Duration,
}

impl Figures {
    /// Counts them by three short queries of an index, of four shards each.
    ///
    /// # Errors
    /// When storage can't be reached by the deadline.
    pub(crate) async fn look(store: &Store, now: Timestamp, deadline: Deadline) -> Result<Self, StoreError> {
        let resting = |state| store.in_state(state, None, None, MOST, now, deadline);
        let pending = store.oldest_pending(None, MOST, now, deadline);
        let (pending, (dead, _), (parked, _)) =
            try_join3(pending, resting(MessageState::Dead), resting(MessageState::Parked)).await?;
        let oldest = pending.first().and_then(|oldest| time::parse_rfc3339(oldest.accepted_at()));
        Ok(Self {
            pending: pending.len(),
            dead: dead.len(),
            parked: parked.len(),
            oldest_pending: oldest.map_or(Duration::ZERO, |oldest| time::until(now, oldest)),
        })
    }

    /// The line, as of a function of that name and that time.
    fn line(self, function: &str, at: Timestamp) -> String {
        let metrics = [
            ("PendingMessages", "Count"),
            ("OldestPendingSeconds", "Seconds"),
            ("DeadMessages", "Count"),
            ("ParkedMessages", "Count"),
        ];
        let metrics = metrics.map(|(name, unit)| json!({"Name": name, "Unit": unit}));
        json!({
            "_aws": {
                "Timestamp": time::unix_ms(at),
                "CloudWatchMetrics": [{"Namespace": "opshook", "Dimensions": [["FunctionName"]], "Metrics": metrics}]
            },
            "FunctionName": function,
            "PendingMessages": self.pending,
            "OldestPendingSeconds": self.oldest_pending.as_secs(),
            "DeadMessages": self.dead,
            "ParkedMessages": self.parked
        })
        .to_string()
    }
}

/// Looks at the outbox and tells it, within `limit`. Where that can't be done the line is missing, which is an alarm too.
pub(crate) async fn tell(store: &Store, function: &str, now: Timestamp, limit: Duration) {
    match Figures::look(store, now, Deadline::within(limit)).await {
        Ok(figures) => {
            if writeln!(io::stdout(), "{}", figures.line(function, now)).is_err() {
                tracing::warn!("nobody takes the line of metrics");
            }
        }
        Err(error) => tracing::warn!(%error, "the outbox can't be looked at; no metrics are told"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_makes_metrics_of() {
        let figures = Figures { pending: 3, dead: 2, parked: 1, oldest_pending: Duration::from_millis(61_900) };
        let at = time::parse_rfc3339("2026-11-24T10:15:30.123Z").unwrap();
        let line = figures.line("opshook-dispatch", at);
        assert!(!line.contains('\n'));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let told = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&told["Namespace"], &told["Dimensions"]), (&json!("opshook"), &json!([["FunctionName"]])));
        assert_eq!(
            (&line["FunctionName"], &line["_aws"]["Timestamp"]),
            (&json!("opshook-dispatch"), &json!(1_795_515_330_123_i64))
        );
        let values: Vec<_> = told["Metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|metric| (metric["Name"].as_str().unwrap(), line[metric["Name"].as_str().unwrap()].as_u64().unwrap()))
            .collect();
        let expected =
            [("PendingMessages", 3), ("OldestPendingSeconds", 61), ("DeadMessages", 2), ("ParkedMessages", 1)];
        assert_eq!(values, expected);
    }
}
