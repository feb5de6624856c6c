//! What went wrong with storage, in its own words and not the SDK's.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// How much of a cause is told.
const MAX_CAUSE_CHARS: usize = 200;

/// A storage fault. Its text is for the log: no caller gets to read it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Storage was not reached, or was too busy, for as long as the caller could wait. The write may have happened;
    /// sending it again is safe.
    #[error("storage can't be reached: {0}")]
    Unavailable(String),
    /// A table is missing, or is older than this program.
    #[error("table {table}: {fault}")]
    Table {
        /// Its name, with the prefix.
        table: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Storage refused the request for good: no access, or a fault of this program.
    #[error("storage refused {operation}: {reason}")]
    Refused {
        /// DynamoDB's name of the operation.
        operation: &'static str,
        /// The error's code and text.
        reason: String,
    },
    /// A row that can't be read: damaged, or written by a newer version.
    #[error("row {key} can't be read: {fault}")]
    Damaged {
        /// The row's key.
        key: String,
        /// What is wrong with it.
        fault: String,
    },
}

impl StoreError {
    /// Whether trying again later may help without anyone changing the program or a row.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Table { .. })
    }
}

/// Says what an SDK's error means. What is worth trying again the SDK has tried again by then.
pub(crate) fn from_sdk<E>(operation: &'static str, table: &str, error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(service) = &error else {
        return StoreError::Unavailable(format!("{operation}: {}", root_cause(&error)));
    };
    let code = service.err().code().unwrap_or("unknown").to_owned();
    let text = service.err().message().unwrap_or_default().to_owned();
    let status = service.raw().status().as_u16();
    match code.as_str() {
        "ResourceNotFoundException" => StoreError::Table {
            table: table.to_owned(),
            fault: "it is not there; make it with `opshook tables create`".to_owned(),
        },
        "ThrottlingException"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "TransactionConflictException"
        | "TransactionInProgressException" => StoreError::Unavailable(format!("{operation}: {code}")),
        _ if status >= 500 => StoreError::Unavailable(format!("{operation}: {status} {code}")),
        _ => StoreError::Refused { operation, reason: format!("{code}: {text}") },
    }
}

/// The cause below all others, cut short. Those above it may quote a whole request, and with it what is in `data`.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string().chars().take(MAX_CAUSE_CHARS).collect()
}
