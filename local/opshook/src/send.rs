//! `opshook send`: posts an event to emit-retry, or signed straight to receive.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use contract::id::{IdSource, WebhookId};
use contract::signature::{ID_HEADER, SIGNATURE_HEADER, Secrets, TIMESTAMP_HEADER};
use contract::text::is_printable;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::SendOptions;
use crate::http::{Answer, Http, header, newest};
use crate::outcome::{Failure, print, print_json, printable};
use crate::settings_file::SettingsFile;

const EMIT_URL: &str = "http://127.0.0.1:8082/api/v1/events";
const RECEIVE_URL: &str = "http://127.0.0.1:8080/api/v1/webhooks/onboard";

/// An event has at most 64 KiB. More is sent, so that the function's own answer is seen, but not without end.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A body as it came, where it is JSON on one line; else what it says.
#[derive(Serialize)]
#[serde(untagged)]
enum Body {
    AsItCame(Box<RawValue>),
    Read(Value),
}

/// The answer as JSON.
#[derive(Serialize)]
struct Printed {
    status: u16,
    body: Body,
}

/// Sends, and prints what was answered.
pub(crate) async fn run(options: &SendOptions) -> Result<(), Failure> {
    let body = read(&options.file)?;
    let url = match &options.url {
        Some(url) => url.clone(),
        None => parsed(if options.direct { RECEIVE_URL } else { EMIT_URL })?,
    };
    let settings = SettingsFile::read(&options.data_dir)?.environment();
    let key = options.idempotency_key.as_deref();
    let (token, headers) = if options.direct {
        let Some(secrets) = settings.get("WEBHOOK_SECRET") else {
            let file = options.data_dir.join("settings.env");
            return Err(Failure::usage(format!(
                "WEBHOOK_SECRET: is needed to sign; it is neither in the environment nor in {}",
                file.display()
            )));
        };
        let secrets = Secrets::parse(&secrets).map_err(|fault| Failure::usage(format!("WEBHOOK_SECRET: {fault}")))?;
        (None, signed(&secrets, key, &body)?)
    } else {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            header(&mut headers, "idempotency-key", key)?;
        }
        (settings.get("EMIT_API_TOKEN"), headers)
    };
    let answer = Http::new(&url)?.post(&url, token.as_deref().and_then(newest), headers, body).await?;
    if options.json {
        print_json(&Printed { status: answer.status, body: body_of(&answer) })?;
    } else {
        print(&readable(&answer))?;
    }
    if answer.is_success() {
        return Ok(());
    }
    Err(Failure::failed(format!("not taken: {url} answered {}", printable(&answer.summary()))))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut body)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut body))
    };
    match read {
        Ok(bytes) if bytes as u64 > MAX_FILE_BYTES => {
            Err(Failure::usage(format!("{}: is larger than 1 MiB; an event has at most 64 KiB", path.display())))
        }
        Ok(_) => Ok(body),
        Err(error) => Err(Failure::usage(format!("{}: can't be read: {error}", path.display()))),
    }
}

pub(crate) fn parsed(url: &str) -> Result<Url, Failure> {
    Url::parse(url).map_err(|error| Failure::usage(format!("{url}: {error}")))
}

/// The three headers of contract §2. The same `key` is the same message.
pub(crate) fn signed(secrets: &Secrets, key: Option<&str>, body: &[u8]) -> Result<HeaderMap, Failure> {
    let now = Timestamp::now();
    let id = key.map_or_else(|| WebhookId::new(now, &IdSource::new()), WebhookId::from_idempotency_key);
    let mut headers = HeaderMap::new();
    header(&mut headers, ID_HEADER, id.as_str())?;
    header(&mut headers, TIMESTAMP_HEADER, &now.as_second().to_string())?;
    header(&mut headers, SIGNATURE_HEADER, &secrets.sign(&id, now.as_second(), body))?;
    Ok(headers)
}

fn body_of(answer: &Answer) -> Body {
    match answer.read::<Box<RawValue>>() {
        Some(json) if !json.get().contains(['\n', '\r']) => Body::AsItCame(json),
        _ => Body::Read(answer.value()),
    }
}

/// The status, and each field of the body on a line of its own.
fn readable(answer: &Answer) -> String {
    let reason = StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    let mut text = format!("{} {}\n", answer.status, reason.unwrap_or_default());
    match (answer.fields(), answer.value()) {
        (Some(fields), _) => {
            let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
            for (name, value) in &fields {
                let name = name.replace(|c| !is_printable(c), " ");
                let _ = writeln!(text, "  {name:width$}  {}", one_line(value));
            }
        }
        (None, Value::String(other)) if other.is_empty() => {}
        (None, other) => {
            let _ = writeln!(text, "  {}", one_line(&other));
        }
    }
    printable(&text)
}

fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().take(2_000).map(|c| if is_printable(c) { c } else { ' ' }).collect(),
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| item["pointer"].is_string()) => {
            let lines =
                items.iter().map(|item| format!("{} {}", one_line(&item["pointer"]), one_line(&item["detail"])));
            lines.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into(), ms: 1 }
    }

    #[test]
    fn an_answer_is_readable_line_by_line() {
        let problem = r#"{"status":422,"code":"invalid_event","errors":[{"pointer":"/event","detail":"is required"}]}"#;
        let text = readable(&answer(422, problem));
        assert_eq!(text.lines().next(), Some("422 Unprocessable Entity"));
        assert!(text.contains("  errors  /event is required\n"), "{text}");
        assert_eq!(answer(422, problem).summary(), "422 invalid_event");
    }

    #[test]
    fn what_a_stranger_answers_can_not_move_the_cursor() {
        for body in ["\u{1b}[2Jgone", r#"{"a":"\u001b[2J\nx"}"#, r#"{"\u001b[2J":1}"#, r#"["\u001b]0;x"]"#] {
            let text = readable(&answer(200, body));
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
    }

    #[test]
    fn the_same_key_is_the_same_message_and_its_signature_holds() {
        let secrets = Secrets::parse(contract::signature::DEVELOPMENT_SECRET).unwrap();
        let one = signed(&secrets, Some("k"), b"{}").unwrap();
        let two = signed(&secrets, Some("k"), b"{}").unwrap();
        assert_eq!(one[ID_HEADER], two[ID_HEADER]);
        assert_ne!(one[ID_HEADER], signed(&secrets, None, b"{}").unwrap()[ID_HEADER]);
        let headers = contract::signature::SignatureHeaders {
            id: vec![one[ID_HEADER].as_bytes()],
            timestamp: vec![one[TIMESTAMP_HEADER].as_bytes()],
            signature: vec![one[SIGNATURE_HEADER].as_bytes()],
        };
        assert!(secrets.verify(&headers, b"{}", Timestamp::now().as_second()).is_ok());
    }
}
