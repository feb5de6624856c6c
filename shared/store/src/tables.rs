//! What the tables are. They are made by `opshook up`, `demo` and `tables create`; a function only checks them.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, GlobalSecondaryIndexDescription, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification,
    TimeToLiveStatus,
};

use crate::client::{Deadline, Store, call};
use crate::error::{StoreError, from_sdk};

/// The key of both tables.
pub(crate) const KEY: &str = "pk";
/// The attribute by which DynamoDB removes what has expired: Unix seconds.
pub(crate) const EXPIRES_AT: &str = "expires_at";

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name without the prefix.
    pub name: &'static str,
    /// Its global secondary indexes.
    pub indexes: &'static [Index],
}

/// A global secondary index; its name is its hash key's attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// Its name, and the attribute that is its hash key. An item without that is not in it.
    pub name: &'static str,
    /// The attribute that it is sorted by.
    pub range: &'static str,
    /// Whether that attribute is a number; else it is text.
    pub range_is_number: bool,
    /// What it holds besides keys.
    pub projected: &'static [&'static str],
}

/// What a list's filters ask for, without reading the item.
const RECORD_FIELDS: &[&str] = &["event", "outcome", "payload_changed", "session_id", "domain", "status", EXPIRES_AT];
/// What a list of messages filters by and shows.
const MESSAGE_FIELDS: &[&str] = &["state", "session_id", EXPIRES_AT];

const fn record_index(name: &'static str) -> Index {
    Index { name, range: "event_id", range_is_number: false, projected: RECORD_FIELDS }
}

/// Event records and tickets: a ticket is the record that opened it.
pub const WEBHOOK_EVENTS: Table = Table {
    name: "webhook_events",
    indexes: &[
        record_index("session_key"),
        record_index("domain_key"),
        record_index("day_key"),
        record_index("status_key"),
    ],
};

/// Messages on their way to ops. `due_key` is there while a message is pending, and once it is delivered.
pub const OUTBOX: Table = Table {
    name: "outbox",
    indexes: &[
        Index { name: "due_key", range: "due_at", range_is_number: true, projected: &[EXPIRES_AT] },
        Index { name: "state_key", range: "accepted_key", range_is_number: false, projected: MESSAGE_FIELDS },
        Index { name: "session_key", range: "accepted_key", range_is_number: false, projected: MESSAGE_FIELDS },
    ],
};

/// Every table.
pub const ALL: &[Table] = &[WEBHOOK_EVENTS, OUTBOX];

/// What became of a table that was to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name, with the prefix.
    pub name: String,
    /// False when it was there already.
    pub created: bool,
}

/// Tells one table from another: DynamoDB gives each an id of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(String);

impl Store {
    /// Makes the tables that are missing and waits until they can be used; checks those that are there.
    ///
    /// # Errors
    /// When storage can't be reached, or a table that is there is of another program or version: it is left as it is.
    pub async fn create_tables(&self, tables: &[Table]) -> Result<Vec<Made>, StoreError> {
        let deadline = Deadline::within(Duration::from_secs(60));
        let mut made = Vec::new();
        for table in tables {
            let name = self.table_name(table);
            let created = self.create_table(table, &name, deadline).await?;
            self.wait_until_active(&name, deadline).await?;
            self.check_table(table).await?;
            self.expire_items(&name, deadline).await?;
            made.push(Made { name, created });
        }
        Ok(made)
    }

    /// Checks that a table is there and is the one that this program means. Changes nothing.
    ///
    /// # Errors
    /// What is wrong with it, by its name.
    pub async fn check_table(&self, table: &Table) -> Result<(), StoreError> {
        let name = self.table_name(table);
        let fault = |fault: String| StoreError::Table { table: name.clone(), fault };
        let Some(description) = self.describe(&name, Deadline::for_write()).await? else {
            return Err(fault("it is not there; make it with `opshook tables create`".to_owned()));
        };
        if !same_keys(description.key_schema(), KEY, None) {
            return Err(fault(format!("its key is not {KEY}: it is another program's")));
        }
        match index_faults(table, description.global_secondary_indexes()) {
            Some(faults) => Err(fault(faults)),
            None => Ok(()),
        }
    }

    /// Which table this is, whatever it is called and however it is reached; none where it is not there.
    ///
    /// # Errors
    /// When storage can't be reached, or refuses.
    pub async fn identity(&self, table: &Table) -> Result<Option<Identity>, StoreError> {
        let description = self.describe(&self.table_name(table), Deadline::for_write()).await?;
        Ok(description.map(|found| {
            Identity(format!("{:?} {:?} {:?}", found.table_arn, found.table_id, found.creation_date_time))
        }))
    }

    /// What is wrong with a table, in words for anyone; none where it is as it should be. The log says more.
    pub async fn missing(&self, table: &Table) -> Option<String> {
        let error = self.check_table(table).await.err()?;
        tracing::warn!(%error, "not ready");
        Some(match error {
            StoreError::Table { .. } => error.to_string(),
            StoreError::Unavailable(_) => "storage can't be reached".to_owned(),
            StoreError::Refused { .. } | StoreError::Damaged { .. } => {
                format!("storage does not let the table {} be looked at", self.table_name(table))
            }
        })
    }

    /// A table's name, with the prefix.
    pub fn table_name(&self, table: &Table) -> String {
        if *table == OUTBOX { self.outbox_table.clone() } else { self.events_table.clone() }
    }

    async fn describe(&self, name: &str, deadline: Deadline) -> Result<Option<TableDescription>, StoreError> {
        let answer = call("DescribeTable", name, deadline, self.client.describe_table().table_name(name).send()).await;
        match answer {
            Ok(output) => Ok(output.table),
            Err(StoreError::Table { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create_table(&self, table: &Table, name: &str, deadline: Deadline) -> Result<bool, StoreError> {
        if self.describe(name, deadline).await?.is_some() {
            return Ok(false);
        }
        let mut request = self
            .client
            .create_table()
            .table_name(name)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key(KEY, KeyType::Hash)?)
            .attribute_definitions(attribute(KEY, false)?);
        let mut attributes = HashMap::new();
        for index in table.indexes {
            attributes.insert(index.name, false);
            attributes.insert(index.range, index.range_is_number);
            request = request.global_secondary_indexes(index_of(index)?);
        }
        for (attribute_name, is_number) in attributes {
            request = request.attribute_definitions(attribute(attribute_name, is_number)?);
        }
        match request.send().await {
            Ok(_) => Ok(true),
            // Another process was faster, or the answer to our first try was lost.
            Err(SdkError::ServiceError(service))
                if matches!(service.err(), CreateTableError::ResourceInUseException(_)) =>
            {
                Ok(false)
            }
            Err(error) => Err(from_sdk("CreateTable", name, error)),
        }
    }

    async fn wait_until_active(&self, name: &str, deadline: Deadline) -> Result<(), StoreError> {
        loop {
            let description = self.describe(name, deadline).await?;
            if description.is_some_and(|table| table.table_status() == Some(&TableStatus::Active)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn expire_items(&self, name: &str, deadline: Deadline) -> Result<(), StoreError> {
        let request = self.client.describe_time_to_live().table_name(name).send();
        let now = call("DescribeTimeToLive", name, deadline, request).await?;
        let status = now.time_to_live_description().and_then(|ttl| ttl.time_to_live_status());
        if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
            return Ok(());
        }
        let specification = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES_AT).build();
        let specification = specification.map_err(|error| built("UpdateTimeToLive", &error))?;
        let request =
            self.client.update_time_to_live().table_name(name).time_to_live_specification(specification).send();
        call("UpdateTimeToLive", name, deadline, request).await.map(|_| ())
    }
}

/// What is wrong with a table's indexes. More of them than this program knows are fine.
fn index_faults(table: &Table, there: &[GlobalSecondaryIndexDescription]) -> Option<String> {
    let fault = |index: &Index| {
        let Some(found) = there.iter().find(|found| found.index_name() == Some(index.name)) else {
            return Some(format!("its index {} is missing", index.name));
        };
        if !same_keys(found.key_schema(), index.name, Some(index.range)) {
            return Some(format!("its index {} has other keys", index.name));
        }
        let projected = found.projection().map(Projection::non_key_attributes).unwrap_or_default();
        let absent = index.projected.iter().filter(|field| !projected.iter().any(|other| other == *field));
        let absent = absent.copied().collect::<Vec<_>>().join(", ");
        (!absent.is_empty()).then(|| format!("its index {} lacks {absent}", index.name))
    };
    let faults: Vec<String> = table.indexes.iter().filter_map(fault).collect();
    if faults.is_empty() {
        return None;
    }
    let known = |name: &str| table.indexes.iter().any(|index| index.name == name);
    let new = there.iter().filter_map(|index| index.index_name()).filter(|name| !known(name));
    let new = new.collect::<Vec<_>>().join(", ");
    let this = concat!("this program (", env!("CARGO_PKG_VERSION"), ")");
    let why = if new.is_empty() {
        format!("it is older than {this}: run the program that made it, or add to it what is missing")
    } else {
        format!("it has {new}, which {this} does not know, so a newer one made it: upgrade this program")
    };
    Some(format!("{}; {why}", faults.join(", ")))
}

fn same_keys(schema: &[KeySchemaElement], hash: &str, range: Option<&str>) -> bool {
    let of = |kind: KeyType| schema.iter().find(|key| *key.key_type() == kind).map(KeySchemaElement::attribute_name);
    of(KeyType::Hash) == Some(hash) && of(KeyType::Range) == range
}

fn index_of(index: &Index) -> Result<GlobalSecondaryIndex, StoreError> {
    let fields = index.projected.iter().map(ToString::to_string).collect();
    let projection =
        Projection::builder().projection_type(ProjectionType::Include).set_non_key_attributes(Some(fields));
    GlobalSecondaryIndex::builder()
        .index_name(index.name)
        .key_schema(key(index.name, KeyType::Hash)?)
        .key_schema(key(index.range, KeyType::Range)?)
        .projection(projection.build())
        .build()
        .map_err(|error| built("CreateTable", &error))
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, StoreError> {
    KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(kind)
        .build()
        .map_err(|error| built("CreateTable", &error))
}

fn attribute(name: &str, is_number: bool) -> Result<AttributeDefinition, StoreError> {
    let kind = if is_number { ScalarAttributeType::N } else { ScalarAttributeType::S };
    AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(kind)
        .build()
        .map_err(|error| built("CreateTable", &error))
}

fn built(operation: &'static str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Refused { operation, reason: error.to_string() }
}
