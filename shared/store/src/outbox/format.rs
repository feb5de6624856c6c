//! Rows of a format that this program does not know yet.

use crate::client::{Deadline, Store};
use crate::error::StoreError;
use crate::item::number;
use crate::outbox::list::MessageRef;
use crate::outbox::row::VERSION;
use crate::tables::KEY;

impl Store {
    /// How many of these messages a newer program wrote, so that this one can't read them: it parks them.
    ///
    /// # Errors
    /// When storage can't be reached.
    pub async fn newer(&self, messages: &[MessageRef], deadline: Deadline) -> Result<usize, StoreError> {
        let keys = messages.iter().map(|message| message.webhook_id.clone()).collect();
        let is_newer = |item| Ok(number(&item, "version").is_some_and(|version| version > i64::from(VERSION)));
        let newer = self.rows(&self.outbox_table, &[KEY, "version"], keys, deadline, is_newer).await?;
        Ok(newer.into_iter().filter(|is_newer| *is_newer).count())
    }
}
