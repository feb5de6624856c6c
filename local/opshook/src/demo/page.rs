//! The sample as a page for a person: at most 80 columns wide, whatever the terminal's width.

use std::net::SocketAddr;
use std::path::Path;

use super::paint::Paint;
use super::sample::Sample;
use super::step::{Came, Happened, Missed, Report, Row, Step, Summary};
use crate::cli::{DemoOptions, UpOptions};
use crate::outcome::{Failure, print, printable};
use crate::up::{Addresses, Places, Running};

/// How far a step's details are set in.
const INDENT: usize = 6;
/// How wide the text of a step's first line is before its time.
const SAID: usize = 54;
/// How wide labels are, so that values stand under the step's text, and what is left of a line behind them.
const LABEL: usize = 11;
const VALUE: usize = 80 - INDENT - LABEL;

pub(crate) struct Page {
    paint: Paint,
}

impl Page {
    pub(crate) fn of_this_terminal() -> Self {
        Self { paint: Paint::of_this_terminal() }
    }

    pub(crate) fn title(&self) -> Result<(), Failure> {
        let title = self.paint.bold("opshook demo");
        print(&format!("\n{title}  one onboarding, from the portal to one ticket at ops\n\n"))
    }

    pub(crate) fn progress(&self, what: &str) {
        let line = if what.is_empty() { String::new() } else { format!("  … {what}") };
        self.paint.progress(&self.paint.dim(&line));
    }

    pub(crate) fn started(&self, running: &Running, ms: u64) -> Result<(), Failure> {
        let port = |place: SocketAddr| format!(":{}", place.port());
        let Places { receive, query_events, emit_retry, engine } = running.places;
        let way = "    portal ─▶ emit-retry ── signed webhook ─▶ receive ─▶ ticket ◀─ query-events";
        let ports = format!("              {:<32}{:<21}{}", port(emit_retry), port(receive), port(query_events));
        let said = match engine {
            Some(_) => "the embedded engine and the three functions are up",
            None => "the three functions are up, on the engine you named",
        };
        print(&format!("{way}\n{}\n\n{}", self.paint.dim(&ports), self.head("started", said, Some(ms))))
    }

    /// Ends the line on which a terminal shows `^C`.
    pub(crate) fn stopped(&self) {
        self.paint.progress("Stopped.\n");
    }

    pub(crate) fn step(&self, report: &Report) -> Result<(), Failure> {
        let name = name(report.step);
        print(&match &report.came {
            Came::Held(happened) => self.held(name, happened),
            Came::Missed(Missed { expected, seen }) => {
                let mark = self.paint.bad("✘");
                let said = self.paint.bad("did not happen as promised");
                let details = self.detail("promised", expected) + &self.detail("seen", seen);
                format!("  {mark} {}{said}\n{details}", self.paint.bold(&format!("{name:<13}")))
            }
            Came::Skipped { .. } => self.paint.dim(&format!("  – {name:<13}not taken\n")),
        })
    }

    fn held(&self, name: &str, happened: &Happened) -> String {
        match happened {
            Happened::Accepted { status, webhook_id, event, session_id, domain, ms, .. } => {
                self.head(name, &format!("emit-retry answered {status}: it is safe in the outbox"), Some(*ms))
                    + &self.detail("event", event)
                    + &self.detail("session", &format!("{session_id} for {domain}"))
                    + &self.detail("message", webhook_id)
            }
            Happened::Delivered { status, attempts, accepted_at, delivered_at, ms, .. } => {
                let said = format!("signed and sent to receive: {status} at attempt {attempts}");
                let times = format!("accepted {}, delivered {} UTC", time(accepted_at), time(delivered_at));
                self.head(name, &said, Some(*ms)) + &self.detail("times", &times)
            }
            Happened::Ticket { ticket_id, subject, status, .. } => {
                let said = format!("verified by receive, and a ticket is {status}");
                self.head(name, &said, None)
                    + &self.painted("ticket", &self.paint.accent(ticket_id))
                    + &self.detail("subject", subject)
            }
            Happened::SameAgain { webhook_id, status, outcome, tickets, .. } => {
                let said = format!("a new message with the same event: {status} {outcome}");
                self.head(name, &said, None)
                    + &self.detail("message", webhook_id)
                    + &self.detail("tickets", &format!("still {tickets}"))
            }
            Happened::Funnel { records } => {
                self.head(name, "the rest of the onboarding is recorded, without a ticket", None) + &self.table(records)
            }
            Happened::Forged { status, code, records, ms } => {
                let said = format!("signed with another secret: {status} {code}");
                self.head(name, &said, Some(*ms)) + &self.detail("stored", &format!("nothing; still {records} records"))
            }
        }
    }

    fn table(&self, records: &[Row]) -> String {
        let indent = " ".repeat(4);
        let head = format!("{indent}{:<14}{:<22}{:<16}{}", "received", "event", "outcome", "ticket");
        let mut table = format!("\n{}\n", self.paint.dim(&head));
        for Row { received_at, event, outcome, ticket_id, .. } in records {
            let ticket = match ticket_id {
                Some(ticket_id) => self.paint.accent(&format!("{}…", ticket_id.chars().take(16).collect::<String>())),
                None => self.paint.dim("none"),
            };
            table.push_str(&format!("{indent}{:<14}{event:<22}{outcome:<16}{ticket}\n", time(received_at)));
        }
        table.push('\n');
        table
    }

    /// The first line of a step that held.
    fn head(&self, name: &str, said: &str, ms: Option<u64>) -> String {
        let (mark, name) = (self.paint.good("✔"), self.paint.bold(&format!("{name:<13}")));
        match ms {
            Some(ms) => {
                format!("  {mark} {name}{said:<SAID$}{}\n", self.paint.dim(&format!("{:>9}", format!("{ms} ms"))))
            }
            None => format!("  {mark} {name}{said}\n"),
        }
    }

    /// A label and its value, on as many lines as it takes.
    fn detail(&self, label: &str, value: &str) -> String {
        let mut text = String::new();
        for (index, line) in wrapped(&printable(value), VALUE).iter().enumerate() {
            text.push_str(&self.painted(if index == 0 { label } else { "" }, line));
        }
        text
    }

    fn painted(&self, label: &str, value: &str) -> String {
        format!("{}{}{value}\n", " ".repeat(INDENT), self.paint.dim(&format!("{label:<LABEL$}")))
    }

    pub(crate) fn end(
        &self,
        options: &DemoOptions,
        running: &Running,
        sample: &Sample,
        summary: &Summary,
    ) -> Result<(), Failure> {
        let paint = self.paint;
        let mut text = String::from("\n");
        text.push_str(&paint.bold("Read it back"));
        if options.once {
            let up = paint.accent(&up_command(&options.up, running));
            text.push_str(&format!(" when it is up again\n\n  {up}\n\nin another terminal, from this folder\n\n"));
        } else {
            text.push_str(" in another terminal, from this folder\n\n");
        }
        let commands = read_back(running, sample, summary);
        for line in commands {
            text.push_str(&format!("  {}\n", paint.accent(&line)));
        }
        text.push_str(&format!(
            "\n{}\n\n  README.md        a walk through all three with curl, and the settings\n  \
             ARCHITECTURE.md  how it works, and why it can't make a second ticket\n  \
             {:<17}an event of your own\n\n",
            paint.bold("Where to look next"),
            "opshook send -h"
        ));
        if !options.once {
            text.push_str(&format!("{}\n", paint.dim("Everything stays up. Ctrl-C stops it; the data stays.")));
        }
        print(&text)
    }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Accepted => "accepted",
        Step::Delivered => "delivered",
        Step::Ticket => "ticket",
        Step::SameAgain => "same again",
        Step::Funnel => "funnel",
        Step::Forged => "forged",
    }
}

/// The time of day in one of our own times, to the millisecond.
fn time(rfc3339: &str) -> &str {
    rfc3339.get(11..23).unwrap_or(rfc3339)
}

/// Text in lines of at most `width` characters, broken at spaces where there are some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            if line.is_empty() {
                line.push_str(word);
                continue;
            }
            if line.chars().count() + 1 + word.chars().count() <= width {
                line.push(' ');
                line.push_str(word);
                continue;
            }
        }
        lines.push(word.to_owned());
    }
    lines
}

/// Lines for a shell that read the sample back, as they stand.
fn read_back(running: &Running, sample: &Sample, summary: &Summary) -> Vec<String> {
    let environment = &running.environment;
    let mut lines = Vec::new();
    // What is in the environment is in the reader's own.
    if let (Some(file), None) = (&running.addresses.settings, std::env::var_os("OPS_API_TOKEN")) {
        lines.push(format!(". {}", sourced(Path::new(file))));
    }
    let ops = bearer("OPS_API_TOKEN", environment.get("OPS_API_TOKEN"));
    let query = &running.addresses.query_events;
    lines.push(format!("curl -s{ops} \\"));
    lines.push(format!("  '{query}/api/v1/desk/tickets?domain={}'", sample.domain));
    lines.push(format!("curl -s{ops} \\"));
    lines.push(format!("  '{query}/api/v1/webhooks/events?session_id={}'", sample.session_id));
    if let Some(webhook_id) = &summary.webhook_id {
        let emit = bearer("EMIT_API_TOKEN", environment.get("EMIT_API_TOKEN"));
        lines.push(format!("curl -s{emit} \\"));
        lines.push(format!("  {}/api/v1/outbox/{webhook_id}", running.addresses.emit_retry));
    }
    lines
}

/// The header with a token that stands in a variable; the first, where that holds several.
fn bearer(name: &str, value: Option<String>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.contains([',', ' ', '\t', '\n']) => {
            format!(" -H \"Authorization: Bearer ${{{name}%%[,[:space:]]*}}\"")
        }
        Some(_) => format!(" -H \"Authorization: Bearer ${name}\""),
    }
}

/// A path for the shell's `.`, which would look a name without a slash up in PATH.
fn sourced(path: &Path) -> String {
    let path = path.display().to_string();
    quoted(&if path.starts_with(['/', '.']) { path } else { format!("./{path}") })
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The command that brings the same up on the same addresses.
fn up_command(options: &UpOptions, running: &Running) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "opshook".to_owned());
    let mut command = format!("{} up", quoted(&program));
    let data_dir = options.data_dir.display().to_string();
    let Addresses { receive, query_events, emit_retry, .. } = &running.addresses;
    // Only an embedded one has an address of ours.
    let dynamodb = running.places.engine.map(|engine| engine.to_string()).unwrap_or_default();
    for (option, value, default) in [
        ("--data-dir", data_dir.as_str(), ".opshook"),
        ("--receive-addr", receive.trim_start_matches("http://"), "127.0.0.1:8080"),
        ("--query-addr", query_events.trim_start_matches("http://"), "127.0.0.1:8081"),
        ("--emit-addr", emit_retry.trim_start_matches("http://"), "127.0.0.1:8082"),
        ("--dynamodb-addr", dynamodb.as_str(), "127.0.0.1:8000"),
    ] {
        if value != default && !value.is_empty() {
            command.push_str(&format!(" {option} {}", quoted(value)));
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_at_spaces() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        assert_eq!(wrapped("aaaaaaaaaaa b", 3), ["aaaaaaaaaaa", "b"]);
    }

    #[test]
    fn words_for_the_shell_are_quoted_where_they_must_be() {
        assert_eq!(quoted(".opshook/settings.env"), ".opshook/settings.env");
        assert_eq!(quoted("my data/it's"), r"'my data/it'\''s'");
        assert_eq!(sourced(Path::new("data/settings.env")), "./data/settings.env");
        assert_eq!(sourced(Path::new("-x/s")), "./-x/s");
    }

    #[test]
    fn the_header_takes_the_newest_of_several_tokens() {
        assert_eq!(bearer("T", None), "");
        assert_eq!(bearer("T", Some("abc".into())), " -H \"Authorization: Bearer $T\"");
        assert_eq!(bearer("T", Some("abc def".into())), " -H \"Authorization: Bearer ${T%%[,[:space:]]*}\"");
    }
}
