//! A socket that is handed over as systemd does it: `LISTEN_FDS`, `LISTEN_PID`, and what it hears by `NOTIFY_SOCKET`.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use contract::signature::DEVELOPMENT_SECRET;
use tempfile::tempdir;

use crate::harness::{TOKEN, account_created, deliver_to, engine, eventually, get, settings};
use crate::process::{Process, free_port, function_binary};

/// What a shell does before it becomes the function: what came as standard input is file descriptor 3 from here on.
const HAND_OVER: &str = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\"";

/// Starts a function on a socket that this process keeps.
fn start_on(socket: impl Into<OwnedFd>, function: &str, settings: &[(&str, &str)]) -> Process {
    start_by(HAND_OVER, socket, function, settings)
}

fn start_by(script: &str, socket: impl Into<OwnedFd>, function: &str, settings: &[(&str, &str)]) -> Process {
    let binary = function_binary(function);
    let arguments = ["-c", script, binary.to_str().unwrap()];
    Process::start_with(Path::new("/bin/sh"), &arguments, settings.iter().copied(), Stdio::from(socket.into()))
}

fn held(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn until_ended(process: &mut Process) -> Option<i32> {
    eventually(30, "ended", async || process.ended()).await
}

const STORE: [(&str, &str); 3] =
    [("AWS_REGION", "local"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_function_restarts_on_a_held_socket_requests_wait_and_none_is_refused() {
    let engine = engine().await;
    let (listener, address) = held("127.0.0.1:0");
    let all = settings(engine.addr(), &[("LISTEN_ADDR", "127.0.0.1:1"), ("RUST_LOG", "warn")]);
    let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let start = || start_on(listener.try_clone().unwrap(), "receive", &all);
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|client| {
            let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let session = format!("onb-{client}-{}", answered.load(Ordering::Relaxed));
                    // A connection that is refused or cut panics here.
                    let reply = deliver_to(address, &account_created(&session, "example.com")).await;
                    assert!(matches!(reply.status, 200 | 201), "{reply:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let before = answered.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(answered.load(Ordering::Relaxed), before, "nothing runs, so all wait");
        let mut process = start();
        eventually(30, "served", async || (answered.load(Ordering::Relaxed) > before + 20).then_some(())).await;
        process.terminate();
        assert_eq!(until_ended(&mut process).await, Some(0));
    }
    let _last = start();
    done.store(true, Ordering::Relaxed);
    for client in load {
        client.await.expect("each request was answered");
    }
}

#[tokio::test]
async fn what_loopback_allows_is_decided_by_where_the_socket_really_is() {
    let here: Vec<_> = [STORE.as_slice(), &[("LISTEN_ADDR", "127.0.0.1:1"), ("OPS_API_TOKEN", TOKEN)]].concat();
    let receive = [here.as_slice(), &[("WEBHOOK_SECRET", DEVELOPMENT_SECRET)]].concat();
    let url = ("OPS_WEBHOOK_URL", "http://127.0.0.1:1/");
    let emit = [here.as_slice(), &[url, ("OPS_WEBHOOK_SECRET", DEVELOPMENT_SECRET)]].concat();
    for (function, settings, fault) in [
        ("receive", &receive, "WEBHOOK_SECRET: holds the development secret"),
        ("emit-retry", &emit, "EMIT_API_TOKEN: is required unless LISTEN_ADDR is on loopback"),
    ] {
        let (outside, _) = held("0.0.0.0:0");
        let (status, said) = start_on(outside, function, settings).end().await;
        assert_eq!((status, said.lines().count()), (2, 1), "{said}");
        assert!(said.starts_with(fault), "{said}");
        // The address in the settings is not where it listens, so it says nothing.
        let (loopback, address) = held("127.0.0.1:0");
        let mut elsewhere = settings.clone();
        elsewhere.push(("LISTEN_ADDR", "0.0.0.0:1"));
        let mut process = start_on(loopback, function, &elsewhere);
        process.line_with(&address.to_string()).await;
        assert_eq!(get(&format!("http://{address}/health"), &[]).await.body["function"], function);
    }
}

#[tokio::test]
async fn what_is_no_listening_tcp_socket_is_a_clear_error_beside_all_others() {
    let dir = tempdir().unwrap();
    let (listener, address) = held("127.0.0.1:0");
    let connection = TcpStream::connect(address).unwrap();
    let wrong: [(&str, OwnedFd); 4] = [
        ("a connection", connection.into()),
        ("UDP", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ("a Unix socket", UnixListener::bind(dir.path().join("socket")).unwrap().into()),
        ("a file", std::fs::File::create(dir.path().join("file")).unwrap().into()),
    ];
    for (what, socket) in wrong {
        let (status, said) = start_on(socket, "receive", &STORE).end().await;
        assert_eq!((status, said.lines().count()), (2, 2), "{what}: {said}");
        assert!(said.starts_with("LISTEN_FDS: file descriptor 3 is no listening TCP socket"), "{what}: {said}");
        assert!(said.contains("\nWEBHOOK_SECRET: is required"), "{what}: {said}");
    }
    for count in ["2", "x", "-1"] {
        let script = HAND_OVER.replace("LISTEN_FDS=1", &format!("LISTEN_FDS={count}"));
        let socket = listener.try_clone().unwrap();
        let (status, said) =
            start_by(&script, socket, "query-events", &[&STORE[..], &[("OPS_API_TOKEN", TOKEN)]].concat()).end().await;
        assert_eq!((status, said.as_str()), (2, "LISTEN_FDS: must be 1: a function listens on one socket\n"));
    }
}

#[tokio::test]
async fn a_socket_for_another_process_is_left_alone() {
    let (listener, address) = held("127.0.0.1:0");
    let listen = format!("127.0.0.1:{}", free_port());
    let script = HAND_OVER.replace("LISTEN_PID=$$", "LISTEN_PID=1");
    let all = [&STORE[..], &[("OPS_API_TOKEN", TOKEN), ("LISTEN_ADDR", &listen)]].concat();
    let mut process = start_by(&script, listener, "query-events", &all);
    assert!(!process.line_with("listening").await.contains(&address.to_string()));
    assert_eq!(get(&format!("http://{listen}/health"), &[]).await.status, 200);
}

#[tokio::test]
async fn systemd_is_told_once_the_function_serves() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (listener, address) = held("127.0.0.1:0");
    let all = [&STORE[..], &[("OPS_API_TOKEN", TOKEN), ("NOTIFY_SOCKET", path.to_str().unwrap())]].concat();
    let _process = start_on(listener, "query-events", &all);
    let mut said = [0; 64];
    let length = systemd.recv(&mut said).unwrap();
    assert_eq!(&said[..length], b"READY=1");
    assert_eq!(get(&format!("http://{address}/health"), &[]).await.status, 200);
}
