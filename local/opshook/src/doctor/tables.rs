//! The tables as each function sees them, and whether two that share one see the same.

use reqwest::Url;
use store::tables::{Identity, WEBHOOK_EVENTS};
use store::{Store, StoreConfig, StoreError};

use super::finding::Finding;
use super::host::Function;
use super::ops::{Unreached, connect};
use crate::up::without_password;

const CHECK_SAME: &str = "same tables";

/// The table that a function works on, where its settings can be read.
pub(crate) async fn check(function: &Function) -> Vec<Finding> {
    let Ok(config) = &function.config else { return Vec::new() };
    let check = format!("{} tables", function.name);
    let store = Store::connect(config.store());
    let table = config.table();
    let place = place(config.store());
    // The store would try again until its time is over, and say less.
    let url = config.store().endpoint().and_then(|endpoint| Url::parse(endpoint).ok());
    if let Some(url) = url
        && let Err(unreached) = connect(&url).await
    {
        let saw = match unreached {
            Unreached::Name(host) => format!("the name {host} of AWS_ENDPOINT_URL_DYNAMODB has no address"),
            Unreached::Place(saw) => format!("no DynamoDB: {saw}"),
        };
        return vec![Finding::fail(check, saw, START)];
    }
    vec![match store.check_table(table).await {
        Ok(()) => Finding::ok(check, format!("{} is there, {place}, and is as it should be", store.table_name(table))),
        Err(error) => Finding::fail(check, format!("{error} ({place})"), remedy(&error)),
    }]
}

const START: &str = "start DynamoDB there, or correct AWS_ENDPOINT_URL_DYNAMODB";

fn place(config: &StoreConfig) -> String {
    config.endpoint().map_or_else(|| "at Amazon's endpoint".to_owned(), |url| format!("at {}", without_password(url)))
}

fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Table { .. } => {
            "make what is missing with `opshook tables create`, in the environment of these settings; a table that is there \
             is left as it is"
        }
        StoreError::Unavailable(_) => START,
        StoreError::Refused { .. } | StoreError::Damaged { .. } => {
            "correct AWS_REGION and the AWS credentials, and what they are allowed"
        }
    }
}

/// Whether receive and query-events see one table: else ops would find nothing of what was received.
pub(crate) async fn same(receive: &StoreConfig, query_events: &StoreConfig) -> Vec<Finding> {
    let differences = receive.differences(query_events);
    let (one, other) = tokio::join!(seen(receive), seen(query_events));
    vec![judged(&differences, one, other)]
}

async fn seen(config: &StoreConfig) -> Result<Option<Identity>, ()> {
    // Why it can't be seen is told with the function's tables.
    Store::connect(config).identity(&WEBHOOK_EVENTS).await.map_err(|_| ())
}

type Seen = Result<Option<Identity>, ()>;

fn judged(differences: &[&'static str], receive: Seen, query_events: Seen) -> Finding {
    let names = differences.join(", ");
    let differ = if names.is_empty() { String::new() } else { format!("; they differ in {names}") };
    let remedy = if names.is_empty() {
        "restart DynamoDB with one data directory".to_owned()
    } else {
        format!(
            "give both the same {names}; DynamoDB Local keeps tables apart by access key and region unless it runs with \
             -sharedDb"
        )
    };
    match (receive, query_events) {
        (Ok(Some(one)), Ok(Some(other))) if one == other => {
            Finding::ok(CHECK_SAME, format!("receive and query-events see the same table{differ}"))
        }
        (Ok(None), Ok(None)) if differences.is_empty() => {
            Finding::ok(CHECK_SAME, "receive and query-events look for the same table, which is not there")
        }
        (Err(()), _) | (_, Err(())) if differences.is_empty() => {
            Finding::ok(CHECK_SAME, "receive and query-events have the same settings of it, and it can't be looked at")
        }
        (Err(()), _) | (_, Err(())) => {
            let saw = format!("whether receive and query-events see the same table can't be looked at{differ}");
            Finding::warn(CHECK_SAME, saw, remedy)
        }
        _ => {
            let saw =
                format!("receive and query-events see different tables{differ}: ops finds nothing of what comes in");
            Finding::fail(CHECK_SAME, saw, remedy)
        }
    }
}
