//! The ops side as emit-retry meets it: an endpoint that answers by a script and remembers what came.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::signature::{Secrets, SignatureHeaders};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// What the endpoint does with a request. Each connection has one request.
#[derive(Clone)]
pub enum Answer {
    /// These bytes, and then the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing for as long as the client stays.
    Stall(Vec<u8>),
    /// These bytes after this time.
    Slow(Duration, Vec<u8>),
    /// These bytes once the test says so.
    When(watch::Receiver<bool>, Vec<u8>),
}

/// A whole answer without headers of its own.
pub fn status(status: u16, body: &str) -> Answer {
    with(status, "", body)
}

/// A whole answer; each line of `headers` ends with `\r\n`.
pub fn with(status: u16, headers: &str, body: &str) -> Answer {
    Answer::Bytes(bytes(status, headers, body))
}

pub fn bytes(status: u16, headers: &str, body: &str) -> Vec<u8> {
    // A 204 has no length.
    let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("HTTP/1.1 {status} Status\r\n{headers}{length}connection: close\r\n\r\n{body}").into_bytes()
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it was there whole.
    pub at: Instant,
    pub time: Timestamp,
    /// Such as `POST /hook HTTP/1.1`.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    /// A header, which has to stand once.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let values: Vec<&str> = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        assert_eq!(values.len(), 1, "{name}: {self:?}");
        values[0]
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn session(&self) -> String {
        /// Of a body that may hold numbers for which there is no type.
        #[derive(serde::Deserialize)]
        struct Named {
            session_id: String,
        }
        serde_json::from_str::<Named>(&self.body).unwrap().session_id
    }

    pub fn seconds(&self) -> i64 {
        self.header("webhook-timestamp").parse().unwrap()
    }

    /// Panics unless it is a delivery as contract §5 wants it, signed with one of `secrets`, just now.
    #[track_caller]
    pub fn assert_delivery(&self, secrets: &str) {
        assert_eq!(self.line, "POST /hook HTTP/1.1");
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("content-length"), self.body.len().to_string());
        let of = |name: &str| vec![self.header(name).as_bytes()];
        let headers = SignatureHeaders {
            id: of("webhook-id"),
            timestamp: of("webhook-timestamp"),
            signature: of("webhook-signature"),
        };
        let now = self.time.as_second();
        let verified = Secrets::parse(secrets).unwrap().verify(&headers, self.body.as_bytes(), now).unwrap();
        assert_eq!(verified.as_str(), self.id());
        assert!((0..=3).contains(&(now - self.seconds())), "signed {} and come {now}", self.seconds());
    }
}

type Script = dyn Fn(&str, usize) -> Answer + Send + Sync;

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// The endpoint. It ends, with all its connections, when this is dropped.
pub struct Ops {
    pub addr: SocketAddr,
    log: Arc<Log>,
    task: JoinHandle<()>,
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ops {
    /// Starts it. `script` gets the event's session and how many requests of its message came before.
    pub async fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    pub fn start_on(listener: TcpListener, script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let addr = listener.local_addr().unwrap();
        let (log, script): (Arc<Log>, Arc<Script>) = (Arc::default(), Arc::new(script));
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared), Arc::clone(&script)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { addr, log, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.addr)
    }

    /// All requests, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// The requests for one message.
    pub fn of(&self, id: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.id() == id).collect()
    }

    /// How many requests came for each message.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        self.seen().iter().for_each(|seen| *counts.entry(seen.id().to_owned()).or_default() += 1);
        counts
    }

    /// The most requests that were there at one time.
    pub fn most_at_once(&self) -> usize {
        self.log.most.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Log>, script: Arc<Script>) -> Option<()> {
    let seen = read(&mut stream).await?;
    let answer = {
        let mut all = log.seen.lock().unwrap();
        let before = all.iter().filter(|other| other.id() == seen.id()).count();
        let session = seen.session();
        all.push(seen);
        script(&session, before)
    };
    log.most.fetch_max(log.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    send(&mut stream, answer).await;
    log.now.fetch_sub(1, Ordering::Relaxed);
    Some(())
}

/// Sends an answer. That the client does not wait for it is nothing to worry about here.
async fn send(stream: &mut TcpStream, answer: Answer) {
    let bytes = match answer {
        Answer::Bytes(bytes) => bytes,
        Answer::Slow(time, bytes) => {
            tokio::time::sleep(time).await;
            bytes
        }
        Answer::When(mut told, bytes) => {
            let _ = told.wait_for(|told| *told).await;
            bytes
        }
        Answer::Stall(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read(&mut [0; 64]).await;
            return;
        }
    };
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    while body.len() < length {
        (stream.read_buf(&mut body).await.ok()? > 0).then_some(())?;
    }
    let body = String::from_utf8(body).unwrap();
    Some(Seen { at: Instant::now(), time: Timestamp::now(), line, headers, body })
}
