//! Reads lists page by page, as their users do.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{Reply, TOKEN, get};

/// The lists of a server.
pub struct Paged(pub SocketAddr);

impl Paged {
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Reply {
        let mut url = reqwest::Url::parse(&format!("http://{}{path}", self.0)).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        get(url.as_str(), &[("authorization", &format!("Bearer {TOKEN}"))]).await
    }

    /// A page: its items, and where the next one goes on.
    pub async fn page(&self, path: &str, query: &[(&str, &str)]) -> (Vec<Value>, Option<String>) {
        let reply = self.get(path, query).await;
        assert_eq!(reply.status, 200, "{query:?}: {reply:?}");
        assert_eq!(names(&reply.body), BTreeSet::from(["items", "next_cursor"]));
        let cursor = &reply.body["next_cursor"];
        assert!(cursor.is_null() || cursor.as_str().is_some_and(|text| !text.is_empty()), "{cursor}");
        (reply.body["items"].as_array().unwrap().clone(), cursor.as_str().map(str::to_owned))
    }

    /// All items of a list with the limits that `limit` gives, and how many pages it took; panics past 500 pages.
    pub async fn pages(
        &self,
        path: &str,
        query: &[(&str, &str)],
        mut limit: impl FnMut() -> usize,
    ) -> (Vec<Value>, usize) {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for pages in 1..=500 {
            let limit = limit();
            let limit_text = limit.to_string();
            let mut query = query.to_vec();
            query.push(("limit", &limit_text));
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let (page, next) = self.page(path, &query).await;
            assert!(page.len() <= limit, "{} items of {limit}", page.len());
            items.extend(page);
            match next {
                Some(next) => assert_ne!(cursor.replace(next), cursor, "the list stands still"),
                None => return (items, pages),
            }
        }
        panic!("the list does not end: {query:?}");
    }
}

pub fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
