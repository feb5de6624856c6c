//! HTTP/1.1 byte for byte: a connection that stays the same one, and a proxy that does to requests and answers what
//! networks and services do on bad days.

use std::collections::{BTreeMap, HashMap};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request or an answer, as its bytes stand.
pub struct Message {
    /// From its first line to the empty one.
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The first header of a name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(':'));
        pairs.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}

/// One connection, of which messages are read by their `content-length`.
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        TcpStream::connect(address).await.map(Self::of)
    }

    fn of(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, read: Vec::new() }
    }

    /// The next message, or none when the other end closed the connection between two.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                return self.rest(end + 4).await.map(Some);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                let clean = self.read.is_empty();
                return if clean { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    async fn rest(&mut self, head_bytes: usize) -> Result<Message> {
        let head = String::from_utf8(self.read.drain(..head_bytes).collect()).map_err(Error::other)?;
        let mut message = Message { head, body: Vec::new() };
        assert!(message.header("transfer-encoding").is_none(), "bodies with a length only: {}", message.head);
        let length = message.header("content-length").map_or(0, |digits| digits.parse().unwrap());
        while self.read.len() < length {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        message.body = self.read.drain(..length).collect();
        Ok(message)
    }

    /// Sends a request and waits for its answer. An error when the other end closed the connection instead.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Message> {
        self.stream.write_all(request).await?;
        self.next().await?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

/// How a service says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Throughput,
    Throttling,
    Internal,
    Unavailable,
    /// Not the service itself but what stands before it.
    Gateway,
}

impl Refusal {
    pub const ALL: [Self; 5] = [Self::Throughput, Self::Throttling, Self::Internal, Self::Unavailable, Self::Gateway];

    /// Status, content type and body as AWS sends them.
    fn answer(self) -> Vec<u8> {
        let (status, name, text) = match self {
            Self::Throughput => (
                "400 Bad Request",
                "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded. Consider increasing your \
                 provisioning level with the UpdateTable API.",
            ),
            Self::Throttling => (
                "400 Bad Request",
                "com.amazon.coral.availability#ThrottlingException",
                "Rate of requests exceeds the allowed throughput.",
            ),
            Self::Internal => (
                "500 Internal Server Error",
                "com.amazonaws.dynamodb.v20120810#InternalServerError",
                "The request processing has failed because of an unknown error, exception or failure.",
            ),
            Self::Unavailable => (
                "503 Service Unavailable",
                "com.amazonaws.dynamodb.v20120810#ServiceUnavailable",
                "DynamoDB is currently unavailable. Try your request again.",
            ),
            Self::Gateway => ("503 Service Unavailable", "", ""),
        };
        let (kind, body) = if name.is_empty() {
            ("text/html", "<html><body><h1>503 Service Unavailable</h1></body></html>".to_owned())
        } else {
            ("application/x-amz-json-1.0", format!(r#"{{"__type":"{name}","message":"{text}"}}"#))
        };
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    }
}

/// An answer of an endpoint that says no; busy ones say for how long.
fn plain(status: u16) -> Vec<u8> {
    let busy = if matches!(status, 429 | 503) { "retry-after: 1\r\n" } else { "" };
    format!("HTTP/1.1 {status} Status\r\n{busy}content-length: 0\r\n\r\n").into_bytes()
}

/// A table that has no capacity for any of the keys that it is asked for.
fn unprocessed(request: &[u8]) -> Vec<u8> {
    let request: serde_json::Value = serde_json::from_slice(request).unwrap();
    let body = serde_json::json!({"Responses": {}, "UnprocessedKeys": request["RequestItems"]}).to_string();
    let (kind, length) = ("application/x-amz-json-1.0", body.len());
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens to it.
    Pass,
    /// It takes effect; the connection is cut before any byte of the answer.
    LoseAnswer,
    /// It takes effect; the connection is cut in the middle of the answer's body.
    CutAnswer,
    /// The connection is cut, and it never takes effect.
    CutRequest,
    /// The connection is cut, and after this time it takes effect all the same.
    Late(Duration),
    /// It is answered so and never takes effect.
    Refuse(Refusal),
    /// It takes effect and is answered so.
    RefuseAfter(Refusal),
    /// A `BatchGetItem` is answered with none of its rows, and with all of its keys as unprocessed.
    Unprocessed,
    /// It is answered with this status, in the name of whoever stands behind, and never takes effect.
    Answer(u16),
    /// It takes effect, and the answer comes after this time.
    Delay(Duration),
    /// It never takes effect and is never answered; the connection stays for as long as the client has it open.
    Hang,
}

impl Fault {
    fn name(self) -> String {
        let debug = format!("{self:?}");
        if matches!(self, Self::Late(_) | Self::Delay(_)) {
            return debug.split('(').next().unwrap().to_owned();
        }
        debug
    }
}

/// A call on its way through.
pub struct Call {
    /// The SDK's id of the call, or the `webhook-id` of a delivery: the same each time that it is tried again.
    pub id: String,
    /// Such as `PutItem`; empty where it is no call of DynamoDB.
    pub operation: String,
    /// How often the same call was here before: tries again of the SDK, or deliveries of the same message.
    pub before: u32,
    pub body: String,
    /// Held by the proxy for as long as the client waits for the answer.
    pub flight: Arc<()>,
}

impl Call {
    /// Whether the call is that operation with that in its body.
    pub fn is(&self, operation: &str, part: &str) -> bool {
        self.operation == operation && self.body.contains(part)
    }
}

pub type Plan = Box<dyn FnMut(&Call) -> Fault + Send>;

/// A plan under which nothing happens.
pub fn pass() -> Plan {
    Box::new(|_| Fault::Pass)
}

/// A plan by which a part of all calls meets a fault, each call at most three, none of which takes long.
pub fn bad_days(seed: u64, part_of_calls: f64) -> Plan {
    let mut random = fastrand::Rng::with_seed(seed);
    Box::new(move |call| {
        if call.before >= 3 || random.f64() >= part_of_calls {
            return Fault::Pass;
        }
        let short = Duration::from_millis(random.u64(1..60));
        match random.u8(0..14) {
            0..2 => Fault::LoseAnswer,
            2..4 => Fault::CutAnswer,
            4 => Fault::CutRequest,
            5 => Fault::Late(short),
            6 => Fault::Delay(short),
            7..12 => Fault::Refuse(Refusal::ALL[usize::from(random.u8(0..5))]),
            12 => Fault::RefuseAfter(Refusal::Internal),
            _ => Fault::RefuseAfter(Refusal::Unavailable),
        }
    })
}

struct State {
    target: SocketAddr,
    plan: Plan,
    seen: HashMap<String, u32>,
    counts: BTreeMap<String, u32>,
}

/// A proxy on a port of its own that stays the same whatever it stands before. It ends when this is dropped.
pub struct Proxy {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn start(target: SocketAddr, plan: Plan) -> Self {
        // On the target's own address: an engine's says whose database it is.
        let listener = TcpListener::bind((target.ip(), 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = State { target, plan, seen: HashMap::new(), counts: BTreeMap::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(Wire::of(stream), Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { addr, state, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on calls go there.
    pub fn point_at(&self, target: SocketAddr) {
        self.state().target = target;
    }

    pub fn set_plan(&self, plan: impl FnMut(&Call) -> Fault + Send + 'static) {
        self.state().plan = Box::new(plan);
    }

    /// How many calls met which fault until now; `Pass` too.
    pub fn counts(&self) -> BTreeMap<String, u32> {
        self.state().counts.clone()
    }

    /// How many calls met that one.
    pub fn count(&self, fault: Fault) -> u32 {
        self.state().counts.get(&fault.name()).copied().unwrap_or(0)
    }
}

impl State {
    fn decide(&mut self, request: &Message, flight: &Arc<()>) -> Fault {
        let operation = request.header("x-amz-target").and_then(|target| target.split_once('.'));
        let operation = operation.map(|(_, operation)| operation.to_owned()).unwrap_or_default();
        let id = request.header("amz-sdk-invocation-id").or_else(|| request.header("webhook-id"));
        let id = id.unwrap_or_default().to_owned();
        let seen = self.seen.entry(id.clone()).or_default();
        let before = *seen;
        *seen += 1;
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let call = Call { id, operation, before, body, flight: Arc::clone(flight) };
        let fault = (self.plan)(&call);
        *self.counts.entry(fault.name()).or_default() += 1;
        fault
    }
}

/// Serves a connection until it is closed or cut. An error cuts it too: the target was not there, or went away.
async fn serve(mut client: Wire, state: Arc<Mutex<State>>) -> Result<()> {
    let mut upstream: Option<(SocketAddr, Wire)> = None;
    while let Some(request) = client.next().await? {
        let flight = Arc::new(());
        let (fault, target) = {
            let mut state = state.lock().unwrap();
            (state.decide(&request, &flight), state.target)
        };
        match fault {
            Fault::CutRequest => return Ok(()),
            Fault::Hang => return client.next().await.map(|_| ()),
            Fault::Refuse(refusal) => {
                drop(flight);
                client.stream.write_all(&refusal.answer()).await?;
                continue;
            }
            Fault::Unprocessed => {
                drop(flight);
                client.stream.write_all(&unprocessed(&request.body)).await?;
                continue;
            }
            Fault::Answer(status) => {
                drop(flight);
                client.stream.write_all(&plain(status)).await?;
                continue;
            }
            Fault::Late(time) => {
                drop((client, flight));
                tokio::time::sleep(time).await;
                return forward(&mut upstream, target, &request).await.map(|_| ());
            }
            _ => {}
        }
        let answer = forward(&mut upstream, target, &request).await?;
        let bytes = answer.bytes();
        if let Fault::Delay(time) = fault {
            tokio::time::sleep(time).await;
        }
        // From its first byte on, the client may have the answer and go on before the next line here runs.
        drop(flight);
        match fault {
            Fault::LoseAnswer => return Ok(()),
            Fault::CutAnswer => {
                let half = if answer.body.is_empty() { 10 } else { answer.head.len() + answer.body.len() / 2 };
                return client.stream.write_all(&bytes[..half]).await;
            }
            Fault::RefuseAfter(refusal) => client.stream.write_all(&refusal.answer()).await?,
            _ => client.stream.write_all(&bytes).await?,
        }
    }
    Ok(())
}

/// Hands a request on, on the connection that is there or a new one.
async fn forward(upstream: &mut Option<(SocketAddr, Wire)>, target: SocketAddr, request: &Message) -> Result<Message> {
    if upstream.as_ref().is_none_or(|(connected, _)| *connected != target) {
        *upstream = Some((target, Wire::connect(target).await?));
    }
    let Some((_, wire)) = upstream else { return Err(ErrorKind::NotConnected.into()) };
    wire.exchange(&request.bytes()).await
}
