//! Requests written byte by byte, for what an HTTP client would not send.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{ONBOARD, Reply, new_id};

/// Longer than any time limit of the servers.
const PATIENCE: Duration = Duration::from_secs(25);

/// What the development secret decodes to.
pub const DEVELOPMENT_KEY: &[u8] = b"opshook-development-secret-only!";

/// A request, as its sender writes it on the socket.
#[derive(Clone, Debug)]
pub struct Raw {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Raw {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `POST` or `PATCH` of JSON.
    pub fn json(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(method, target).header("content-type", "application/json").body(body)
    }

    /// A delivery of now, signed with the development secret under a new id.
    pub fn delivery(body: impl Into<Vec<u8>>) -> Self {
        let now = jiff::Timestamp::now().as_second().to_string();
        Self::signed(new_id().as_bytes(), now.as_bytes(), body)
    }

    /// A delivery with whatever id and timestamp, signed over them as they stand.
    pub fn signed(id: &[u8], timestamp: &[u8], body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let signature = signature(DEVELOPMENT_KEY, id, timestamp, &body);
        Self::json("POST", ONBOARD, body)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
    }

    /// Adds a header, whether it stands there already or not.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    /// Puts another value in the place of a header's.
    pub fn with(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).header(name, value)
    }

    pub fn value(&self, name: &str) -> Vec<u8> {
        self.headers.iter().find(|(other, _)| other == name).unwrap().1.clone()
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The request line and the headers given, without the empty line that ends them.
    pub fn head(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes
    }

    /// The whole request, with its length, after which the connection closes.
    pub fn bytes(&self) -> Vec<u8> {
        let end = format!("content-length: {}\r\nconnection: close\r\n\r\n", self.body.len());
        [&self.head(), end.as_bytes(), &self.body].concat()
    }

    /// The whole request in chunks, with no length.
    pub fn chunked(&self, chunk: usize) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend(b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n");
        for part in self.body.chunks(chunk) {
            bytes.extend([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    }

    /// The answer. Panics when there is none.
    pub async fn send(&self, server: SocketAddr) -> Reply {
        let answer = exchange(server, &self.bytes()).await;
        answer.unwrap_or_else(|| panic!("no answer to {} {}", self.method, self.target))
    }
}

/// A signature by contract §2, made without the code under test.
pub fn signature(key: &[u8], id: &[u8], timestamp: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(&[id, b".", timestamp, b".", body].concat());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Writes bytes and reads the first answer; none where the server closed without one.
pub async fn exchange(server: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let stream = TcpStream::connect(server).await.unwrap();
    let (reading, mut writing) = stream.into_split();
    // A server may answer and close before it has read all.
    let (_, answer) = tokio::join!(writing.write_all(bytes), read(reading));
    answer
}

/// Reads until the server closes the connection.
pub async fn read(mut stream: impl tokio::io::AsyncRead + Unpin) -> Option<Reply> {
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "the server left the connection open");
    parse(&bytes)
}

/// The first answer in what a server sent, but for `100 Continue`.
fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let rest = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    if status == 100 {
        return parse(rest);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let text = String::from_utf8(rest[..length.min(rest.len())].to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Some(Reply { status, headers, text, body })
}
