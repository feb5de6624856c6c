//! Random bytes never make a 500 or a panic, and leave no mark.

use std::net::SocketAddr;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use tokio::task::JoinSet;

use super::assert_it_still_works;
use crate::harness::{EMIT, EVENTS, TICKETS, TOKEN, World, account_created};
use crate::raw::{Raw, exchange};

/// Requests under way at a time.
const AT_ONCE: usize = 16;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts panics of the product: those of a test are in its own file.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|place| place.file().contains("tests/system")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
}

/// Pieces that a parser may stumble over.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u",
    "\\ud800",
    "\\udfff",
    "null",
    "true",
    "1e999",
    "-",
    "0",
    "\0",
    "é",
    "\u{feff}",
    "\u{7f}",
    "\u{202e}",
    "event",
    "type",
    "session_id",
    "domain",
    "timestamp",
    "data",
    "xn--",
    ".",
    "..",
    "@",
    "2026-02-30T24:00:60Z",
    "\u{10ffff}",
    "{}",
    "[]",
    "\"\"",
    "{\"a\":{\"a\":",
    "%00",
    "%",
    "\r\n",
    "\r\n\r\n",
    " ",
    "+",
];

fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    (0..rng.usize(0..most)).map(|_| rng.u8(..)).collect()
}

/// Bytes changed in some places: flipped, cut, doubled, swapped with others, or with a token put in.
fn mutated(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.usize(1..5) {
        let (a, b) = (rng.usize(..=bytes.len()), rng.usize(..=bytes.len()));
        let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 40));
        match rng.u8(0..6) {
            0 if !bytes.is_empty() => bytes[from.min(a.saturating_sub(1))] = rng.u8(..),
            1 => drop(bytes.drain(from..to)),
            2 => drop(bytes.splice(to..to, bytes[from..to].to_vec())),
            3 => drop(bytes.splice(from..to, rng.choice(TOKENS).unwrap().bytes())),
            _ => drop(bytes.splice(a..a, rng.choice(TOKENS).unwrap().bytes())),
        }
    }
    bytes
}

fn token_soup(rng: &mut Rng) -> Vec<u8> {
    (0..rng.usize(0..60)).flat_map(|_| rng.choice(TOKENS).unwrap().bytes()).collect()
}

/// Text fit for a request line: what is not is percent-encoded, now and then twice.
fn target(rng: &mut Rng, bytes: &[u8]) -> String {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~=&+%/:".contains(&byte);
    let one = |byte: &u8| if fit(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let text: String = bytes.iter().map(one).collect();
    if rng.u8(..) < 8 { text.replace('%', "%25") } else { text }
}

/// A request, and whether an HTTP server must have an answer to it.
enum Shot {
    Http(Raw),
    Bytes(Vec<u8>),
}

fn shots(rng: &mut Rng, world: &World) -> Vec<(SocketAddr, Shot)> {
    let (receive, query, emit) = (world.receive.addr, world.query.addr, world.emit.addr);
    let event = account_created("onb-random", "Bücher.example").into_bytes();
    let ops = |raw: Raw| Shot::Http(raw.header("authorization", format!("Bearer {TOKEN}")));
    let mut shots = Vec::new();
    for _ in 0..200 {
        shots.push((receive, Shot::Http(Raw::delivery(bytes(rng, 500)))));
        shots.push((receive, Shot::Http(Raw::delivery(token_soup(rng)))));
        for _ in 0..3 {
            shots.push((receive, Shot::Http(Raw::delivery(mutated(rng, event.clone())))));
        }
        let soup: String = String::from_utf8_lossy(&token_soup(rng)).into_owned();
        let field = *rng.choice(&["event", "session_id", "domain", "timestamp"]).unwrap();
        let fields = serde_json::json!({"type": "a", "data": {"email": soup}, field: soup});
        shots.push((receive, Shot::Http(Raw::delivery(fields.to_string()))));
        shots.push((emit, Shot::Http(Raw::json("POST", EMIT, mutated(rng, event.clone())))));
        let path = mutated(rng, format!("{EVENTS}?session_id=a&from=2026-11-24T10:15:30Z&cursor=AAAA").into_bytes());
        shots.push((query, ops(Raw::get(&format!("/{}", target(rng, &path))))));
        let parameter = rng.choice(&["session_id", "domain", "event", "from", "cursor", "limit", "outcome"]).unwrap();
        let (value, list) = (bytes(rng, 40), *rng.choice(&[EVENTS, TICKETS]).unwrap());
        shots.push((query, ops(Raw::get(&format!("{list}?{parameter}={}", target(rng, &value))))));
        let ticket = format!("{TICKETS}/tkt_{:032x}", rng.u128(..));
        shots.push((query, ops(Raw::json("PATCH", &ticket, mutated(rng, br#"{"status":"closed"}"#.to_vec())))));
        let wild = bytes(rng, 300);
        shots.push((receive, Shot::Bytes(wild)));
        let whole = Raw::delivery(event.clone()).bytes();
        shots.push((receive, Shot::Bytes(mutated(rng, whole))));
    }
    shots
}

async fn fire(server: SocketAddr, shot: Shot) {
    let (sent, must_answer) = match shot {
        Shot::Http(raw) => (raw.bytes(), true),
        Shot::Bytes(bytes) => (bytes, false),
    };
    // What is cut off would be waited for: the sender says that this is all.
    let stream = tokio::net::TcpStream::connect(server).await.unwrap();
    let reply = if must_answer { exchange(server, &sent).await } else { abandoned(stream, &sent).await };
    let shown = || String::from_utf8_lossy(&sent).into_owned();
    match reply {
        None => assert!(!must_answer, "no answer to:\n{}", shown()),
        Some(reply) => {
            assert!((200..500).contains(&reply.status), "{reply:?}\nto:\n{}", shown());
            // hyper's own answers to what is no HTTP have no body.
            if reply.status >= 300 && (must_answer || !reply.text.is_empty()) {
                let code = reply.body["code"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned();
                reply.assert_problem(reply.status, &code);
            }
        }
    }
}

/// Writes bytes and no more, and reads what comes of it.
async fn abandoned(mut stream: tokio::net::TcpStream, sent: &[u8]) -> Option<crate::harness::Reply> {
    use tokio::io::AsyncWriteExt;
    let _ = stream.write_all(sent).await;
    let _ = stream.shutdown().await;
    crate::raw::read(stream).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_never_make_a_500_or_a_panic() {
    count_panics();
    let given = std::env::var("OPSHOOK_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into());
    println!("OPSHOOK_TEST_SEED={seed} repeats this");
    let mut rng = Rng::with_seed(seed);
    let world = World::start().await;
    let before = PANICS.load(Ordering::SeqCst);
    let shots = shots(&mut rng, &world);
    println!("{} requests", shots.len());
    let mut flying = JoinSet::new();
    for (server, shot) in shots {
        while flying.len() >= AT_ONCE {
            flying.join_next().await.unwrap().unwrap();
        }
        flying.spawn(fire(server, shot));
    }
    while let Some(done) = flying.join_next().await {
        done.unwrap();
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "the log has the place");
    assert_it_still_works(&world).await;
}
