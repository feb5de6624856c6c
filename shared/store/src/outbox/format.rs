//! Rows of a format that this program does not know yet.

use crate::client::{Deadline, Store};
use crate::error::StoreError;
use crate::item::{Item, number};
use crate::outbox::list::MessageRef;
use crate::outbox::row::VERSION;
use crate::rows::Rows;
use crate::tables::KEY;

impl Store {
    /// How many of these messages a newer program wrote, so that this one can't read them: it parks them.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn newer(&self, messages: &[MessageRef], deadline: Deadline) -> Result<usize, StoreError> {
        let keys: Vec<&str> = messages.iter().map(|message| message.webhook_id.as_str()).collect();
        let rows = Rows { table: &self.outbox_table, fields: &[KEY, "version"], deadline };
        let is_newer = |item: &Item| number(item, "version").is_some_and(|version| version > i64::from(VERSION));
        Ok(self.rows(rows, &keys).await?.iter().filter(|item| is_newer(item)).count())
    }
}
