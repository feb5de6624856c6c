//! Senders that never end (contract §6; the limits are the adapter's).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinHandle;

use super::{assert_it_still_works, assert_nothing_is_stored};
use crate::harness::{ONBOARD, Reply, World, account_created};
use crate::raw::{Raw, read};

/// A byte now and then, for as long as anyone listens: a limit on idleness alone would never end this.
fn drip(mut writing: OwnedWriteHalf, bytes: &'static [u8]) -> JoinHandle<()> {
    tokio::spawn(async move {
        for byte in bytes.iter().cycle() {
            tokio::time::sleep(Duration::from_millis(150)).await;
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    })
}

/// Begins with some bytes, drips others, and answers with what came of it and how long it took.
async fn endless(server: SocketAddr, begin: Vec<u8>, more: &'static [u8]) -> (Option<Reply>, Duration) {
    let started = Instant::now();
    let (reading, mut writing) = TcpStream::connect(server).await.unwrap().into_split();
    writing.write_all(&begin).await.unwrap();
    let dripping = drip(writing, more);
    let reply = read(reading).await;
    dripping.abort();
    (reply, started.elapsed())
}

/// Begins with some bytes and says no more.
async fn silent(server: SocketAddr, begin: Vec<u8>) -> (Option<Reply>, Duration) {
    let started = Instant::now();
    let (reading, mut writing) = TcpStream::connect(server).await.unwrap().into_split();
    writing.write_all(&begin).await.unwrap();
    let reply = read(boxed(reading)).await;
    drop(writing);
    (reply, started.elapsed())
}

fn boxed(reading: impl AsyncRead + Unpin + 'static) -> Box<dyn AsyncRead + Unpin> {
    Box::new(reading)
}

#[tokio::test]
async fn a_header_or_body_that_never_ends_is_given_up_in_seconds_and_holds_nobody_up() {
    let world = World::start().await;
    let server = world.receive.addr;
    let good = Raw::delivery(account_created("onb-1", "example.com"));
    let begun = [&good.head(), &b"content-length: 60000\r\n\r\n{"[..]].concat();
    let chunked = [&good.head(), &b"transfer-encoding: chunked\r\n\r\n"[..]].concat();
    let other = async {
        // Meanwhile others are served, and a connection that says nothing is no matter either.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started = Instant::now();
        let reply = Raw::get("/health").send(server).await;
        assert_eq!(reply.status, 200);
        assert!(started.elapsed() < Duration::from_secs(1));
    };
    let (head, head_silent, nothing, body, body_silent, chunks, ()) = tokio::join!(
        endless(server, format!("POST {ONBOARD} HTTP/1.1\r\nhost: x\r\nx-a: ").into_bytes(), b"a"),
        silent(server, b"POST / HTTP/1.1\r\nhost: x\r\n".to_vec()),
        silent(server, Vec::new()),
        endless(server, begun.clone(), b" "),
        silent(server, begun),
        endless(server, chunked, b"1\r\n \r\n"),
        other,
    );
    for (what, (reply, took)) in [("head", head), ("silent head", head_silent), ("nothing", nothing)] {
        assert!(reply.is_none_or(|reply| reply.status == 408), "{what}");
        assert!((9.0..13.0).contains(&took.as_secs_f64()), "{what}: {took:?}");
    }
    for (what, (reply, took)) in [("body", body), ("silent body", body_silent), ("chunks", chunks)] {
        let reply = reply.unwrap_or_else(|| panic!("{what}: no answer"));
        reply.assert_problem(408, "request_timeout");
        assert!((7.5..11.0).contains(&took.as_secs_f64()), "{what}: {took:?}");
    }
    assert_nothing_is_stored(&world).await;
    assert_it_still_works(&world).await;
}
