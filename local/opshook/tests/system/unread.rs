//! Standard output and standard error that nobody reads: a peer that is gone, a full disk, a reader that was stopped.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Reply, TOKEN, eventually, get};
use crate::process::{free_port, function_binary};

const FUNCTIONS: [&str; 3] = ["receive", "query-events", "emit-retry"];

/// A function's binary with these settings and nothing else of this process's environment.
fn function(name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(function_binary(name));
    command.args(arguments).env_clear().envs(settings.iter().copied()).stdin(Stdio::null());
    command
}

/// Streams whose other end is closed.
fn closed() -> [Stdio; 2] {
    let (reader, pipe) = pipe().unwrap();
    let (peer, socket) = UnixStream::pair().unwrap();
    drop((reader, peer));
    [pipe.into(), OwnedFd::from(socket).into()]
}

#[test]
fn help_that_can_not_be_written_is_no_panic() {
    for name in FUNCTIONS {
        for argument in ["--help", "--version"] {
            let full = Stdio::from(File::options().write(true).open("/dev/full").unwrap());
            for stdout in closed().into_iter().chain([full]) {
                let ended = function(name, &[argument], &[]).stdout(stdout).stderr(Stdio::piped()).output().unwrap();
                assert!(matches!(ended.status.code(), Some(0 | 1)), "{name} {argument}: {ended:?}");
                assert!(ended.stderr.is_empty(), "{name} {argument}: {ended:?}");
            }
        }
    }
}

#[test]
fn a_complaint_that_nobody_reads_keeps_its_exit_status() {
    for name in FUNCTIONS {
        for (arguments, settings) in
            [(&["extra"][..], &[][..]), (&[], &[("LISTEN_ADDR", "nonsense"), ("RUST_LOG", ",")])]
        {
            let full = Stdio::from(File::options().write(true).open("/dev/full").unwrap());
            for stderr in closed().into_iter().chain([full]) {
                let ended = function(name, arguments, settings).stdout(Stdio::null()).stderr(stderr).status().unwrap();
                assert_eq!(ended.code(), Some(2), "{name} {arguments:?}");
            }
        }
    }
}

/// A function, or `opshook up`, whose standard error nobody reads yet.
struct Unread {
    child: Child,
    reader: PipeReader,
}

impl Unread {
    fn start(mut command: Command) -> Self {
        let (reader, writer) = pipe().unwrap();
        let child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        // The command holds this process's end of the pipe.
        drop(command);
        Self { child, reader }
    }

    /// Ends it as a service manager does.
    async fn terminate(&mut self) -> ExitStatus {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        eventually(20, "it has ended", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings by which a function logs a line for each request. There is no storage: nothing here needs any.
fn settings(address: &str) -> Vec<(&str, &str)> {
    vec![
        ("LISTEN_ADDR", address),
        ("WEBHOOK_SECRET", contract::signature::DEVELOPMENT_SECRET),
        ("OPS_API_TOKEN", TOKEN),
        ("OPS_WEBHOOK_ENABLED", "false"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9"),
        ("AWS_REGION", "local"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]
}

async fn up(address: SocketAddr) {
    eventually(20, "it listens", async || TcpStream::connect(address).await.ok()).await;
}

async fn ask(address: SocketAddr, path: &str) -> Reply {
    get(&format!("http://{address}{path}"), &[]).await
}

/// Has more lines logged than a pipe and the function's own queue take: 10,000 requests, 100 at a time on one connection.
async fn flood(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let requests = "GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    let mut answers = Vec::new();
    for _ in 0..100 {
        stream.write_all(requests.as_bytes()).await.unwrap();
        answers.clear();
        while answers.windows(13).filter(|part| part == b"HTTP/1.1 404 ").count() < 100 || !answers.ends_with(b"}") {
            let read = timeout(Duration::from_secs(20), stream.read_buf(&mut answers)).await;
            assert!(read.expect("it goes on answering").unwrap() > 0, "it cut the connection");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_whose_log_is_not_read_goes_on_answering_and_its_lines_come_when_the_reader_does() {
    for name in FUNCTIONS {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let text = address.to_string();
        let mut unread = Unread::start(function(name, &[], &settings(&text)));
        up(address).await;
        flood(address).await;
        let begun = std::time::Instant::now();
        assert_eq!(ask(address, "/health").await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{name}: /health took {:?}", begun.elapsed());
        let metrics = ask(address, "/metrics").await.text;
        let dropped = metrics.lines().find_map(|line| line.strip_prefix("opshook_log_lines_dropped_total "));
        let dropped: u64 = dropped.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap();
        assert!(dropped > 0);

        let (said, lines) = mpsc::channel();
        let reader = BufReader::new(unread.reader.try_clone().unwrap());
        thread::spawn(move || reader.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let next = || lines.recv_timeout(Duration::from_secs(20)).expect("the reader is back, and so are the lines");
        let mut read = 0;
        let told = loop {
            let line: serde_json::Value = serde_json::from_str(&next()).expect("each line is whole");
            if line["dropped"].is_u64() {
                break line["dropped"].as_u64().unwrap();
            }
            read += 1;
        };
        assert_eq!(told, dropped, "{name}, of which {read} were read");
        ask(address, "/afterwards").await;
        assert!(next().contains("answered"));
        assert!(unread.terminate().await.success());
        assert!(lines.iter().last().unwrap().contains("stopped"), "no line is lost at the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_reader_of_the_log_that_was_stopped() {
    let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let text = address.to_string();
    let mut unread = Unread::start(function("receive", &[], &settings(&text)));
    up(address).await;
    flood(address).await;
    assert!(unread.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_whose_log_nobody_can_read_any_more_goes_on_answering() {
    let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let text = address.to_string();
    let (reader, writer) = pipe().unwrap();
    let child = function("receive", &[], &settings(&text)).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    let mut unread = Unread { child, reader };
    unread.reader = pipe().unwrap().0;
    up(address).await;
    for _ in 0..3 {
        assert_eq!(ask(address, "/nothing").await.status, 404);
    }
    assert!(unread.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_stays_up_whoever_reads_its_log() {
    let dir = tempdir().unwrap();
    let ports: Vec<String> = (0..4).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let mut command = Command::new(crate::process::OPSHOOK);
    command.args(["up", "--data-dir", dir.path().to_str().unwrap()]).env_clear().stdin(Stdio::null());
    for (option, port) in ["--receive-addr", "--query-addr", "--emit-addr", "--dynamodb-addr"].iter().zip(&ports) {
        command.args([option, port.as_str()]);
    }
    let mut unread = Unread::start(command);
    let address: SocketAddr = ports[0].parse().unwrap();
    up(address).await;
    flood(address).await;
    assert_eq!(ask(address, "/health").await.status, 200);
    assert!(unread.terminate().await.success());
}
