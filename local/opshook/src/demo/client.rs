//! The functions, as the sample asks them.

use contract::wire::{EventRecord, Message, Page, Ticket};
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::http::{Answer, Http, newest};
use crate::outcome::Failure;
use crate::up::{Places, Running};

/// Pages that are read of one list; a new session has few rows.
const MAX_PAGES: usize = 100;

/// Asks all three, with the tokens that the settings hold.
pub(crate) struct Client {
    http: Http,
    places: Places,
    ops_token: Option<String>,
    emit_token: Option<String>,
}

impl Client {
    pub(crate) fn new(running: &Running) -> Result<Self, Failure> {
        let places = running.places;
        let token = |name: &str| running.environment.get(name).as_deref().and_then(newest).map(str::to_owned);
        Ok(Self {
            http: Http::new(&places.url(places.receive, "/")?)?,
            places,
            ops_token: token("OPS_API_TOKEN"),
            emit_token: token("EMIT_API_TOKEN"),
        })
    }

    /// Hands an event to emit-retry.
    pub(crate) async fn emit(&self, body: String) -> Result<Answer, Failure> {
        let url = self.places.url(self.places.emit_retry, "/api/v1/events")?;
        self.http.post(&url, self.emit_token.as_deref(), HeaderMap::new(), body.into()).await
    }

    /// Posts to receive as a sender would, with its signature in `headers`.
    pub(crate) async fn deliver(&self, headers: HeaderMap, body: String) -> Result<Answer, Failure> {
        let url = self.places.url(self.places.receive, "/api/v1/webhooks/onboard")?;
        self.http.post(&url, None, headers, body.into()).await
    }

    /// A message in the outbox.
    pub(crate) async fn message(&self, webhook_id: &str) -> Result<Message, Failure> {
        let url = self.places.url(self.places.emit_retry, &format!("/api/v1/outbox/{webhook_id}"))?;
        read(&url, &self.http.get(&url, self.emit_token.as_deref()).await?)
    }

    /// One ticket.
    pub(crate) async fn ticket(&self, ticket_id: &str) -> Result<Ticket, Failure> {
        let url = self.places.url(self.places.query_events, &format!("/api/v1/desk/tickets/{ticket_id}"))?;
        read(&url, &self.http.get(&url, self.ops_token.as_deref()).await?)
    }

    /// Every event record of a session, in the order of arrival.
    pub(crate) async fn records(&self, session_id: &str) -> Result<Vec<EventRecord>, Failure> {
        self.list("/api/v1/webhooks/events", &[("session_id", session_id), ("order", "asc")]).await
    }

    /// Every ticket of a domain.
    pub(crate) async fn tickets(&self, domain: &str) -> Result<Vec<Ticket>, Failure> {
        self.list("/api/v1/desk/tickets", &[("domain", domain)]).await
    }

    /// All items of a list: only a cursor that is null ends it.
    async fn list<T: DeserializeOwned>(&self, path: &str, filters: &[(&str, &str)]) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let mut url = self.places.url(self.places.query_events, path)?;
            url.query_pairs_mut().extend_pairs(filters).extend_pairs(cursor.map(|cursor: String| ("cursor", cursor)));
            let page: Page<T> = read(&url, &self.http.get(&url, self.ops_token.as_deref()).await?)?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
        Err(Failure::failed(format!("{path} has more than {MAX_PAGES} pages")))
    }
}

/// The body of a 200; else what was answered.
fn read<T: DeserializeOwned>(url: &Url, answer: &Answer) -> Result<T, Failure> {
    match answer.read() {
        Some(value) if answer.is_success() => Ok(value),
        Some(_) | None => Err(Failure::failed(format!("{} answered {}", url.path(), answer.summary()))),
    }
}
