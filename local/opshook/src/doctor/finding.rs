//! What a check says: a line for a person, an object for a script.

use serde::Serialize;

use crate::outcome::printable;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// It works, and someone should look at it.
    Warn,
    /// It does not work, or soon won't.
    Fail,
}

/// One check of a host. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Such as `receive tables`.
    pub(crate) check: String,
    pub(crate) status: Status,
    /// What was seen.
    pub(crate) saw: String,
    /// What to do about it; none where all is well.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: impl Into<String>, saw: impl Into<String>) -> Self {
        Self { check: check.into(), status: Status::Ok, saw: saw.into(), remedy: None }
    }

    pub(crate) fn warn(check: impl Into<String>, saw: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check: check.into(), status: Status::Warn, saw: saw.into(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn fail(check: impl Into<String>, saw: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check: check.into(), status: Status::Fail, saw: saw.into(), remedy: Some(remedy.into()) }
    }

    /// The line, with the check's name filled up to `width`.
    pub(crate) fn line(&self, width: usize) -> String {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!(". To mend it: {remedy}")).unwrap_or_default();
        let line = format!("{status:4}  {:width$}  {}{remedy}", self.check, self.saw);
        // Some of it came from elsewhere.
        printable(&line.replace(['\n', '\t'], " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_it_quotes() {
        let finding = Finding::fail("ops", "it said \u{1b}[2Jno\nmore", "ask it");
        let line = finding.line(5);
        assert_eq!(line, "FAIL  ops    it said \u{fffd}[2Jno more. To mend it: ask it");
        assert_eq!(Finding::ok("ops", "well").line(3), "ok    ops  well");
    }
}
