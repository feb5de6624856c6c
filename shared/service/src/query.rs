//! Query parameters (contract §4): each known by name, each at most once, each fault a 400 that names it.

use contract::text::is_printable;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use crate::problem::{Code, Problem};

/// How many items a page may hold.
const LIMITS: std::ops::RangeInclusive<usize> = 1..=500;
const DEFAULT_LIMIT: usize = 50;

/// The parameters of one request, taken out one by one.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Splits a query string. Only the names in `known` are allowed, each once.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let text = text.unwrap_or_default();
        let is_utf8 = percent_decode_str(text).decode_utf8().is_ok();
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()).into_owned() {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().filter(|c| is_printable(*c)).take(64).collect();
                return Err(invalid(&name, &format!("is not known here; known are {}", known.join(", "))));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(invalid(&name, "stands twice"));
            }
            if !is_utf8 && value.contains('\u{fffd}') {
                return Err(invalid(&name, "is not UTF-8"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The text of a parameter, if it is there; it may be empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A parameter read by `parse`, which says what would be right where it can't.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(text).map(Some).map_err(|fault| invalid(name, &fault.to_string()))
    }

    /// `limit`: 1–500, 50 where it is absent.
    ///
    /// # Errors
    /// 400.
    pub fn limit(&self) -> Result<usize, Problem> {
        let limit = self.parsed("limit", |text| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let limit = text.parse().ok().filter(|limit| digits && LIMITS.contains(limit));
            limit.ok_or("must be a whole number from 1 to 500")
        })?;
        Ok(limit.unwrap_or(DEFAULT_LIMIT))
    }

    /// `from` or `to`: RFC 3339 with an offset.
    ///
    /// # Errors
    /// 400.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.parsed(name, |text| {
            contract::time::parse_rfc3339(text)
                .ok_or("must be RFC 3339 with an offset, such as 2026-11-24T10:15:30Z (a + is written %2B)")
        })
    }
}

/// The 400 that names a parameter.
pub fn invalid(name: &str, fault: &str) -> Problem {
    Problem::new(Code::InvalidQuery, format!("query parameter `{name}` {fault}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_utf8_is_refused_and_a_replacement_character_is_a_character() {
        let query = Query::parse(Some("session_id=%EF%BF%BD&domain="), &["session_id", "domain"]).unwrap();
        assert_eq!((query.text("session_id"), query.text("domain")), (Some("\u{fffd}"), Some("")));
        assert!(Query::parse(Some("session_id=%FF"), &["session_id"]).is_err());
        assert!(Query::parse(Some("session_id=a%C3"), &["session_id"]).is_err());
    }
}
