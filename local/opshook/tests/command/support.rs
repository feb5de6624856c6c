//! Runs the binary: [`opshook`] for a command that ends, [`Up`] for `opshook up` and [`Server`] for others that stay.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Every address on a free port.
pub(crate) const FREE_PORTS: [&str; 8] = [
    "--receive-addr",
    "127.0.0.1:0",
    "--query-addr",
    "127.0.0.1:0",
    "--emit-addr",
    "127.0.0.1:0",
    "--dynamodb-addr",
    "127.0.0.1:0",
];

/// The command, in an environment without any of our settings.
pub(crate) fn opshook(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opshook"));
    let ours = ["AWS_", "OPS_", "WEBHOOK_", "EMIT_", "TICKET_", "EVENT_", "OUTBOX_", "TABLE_PREFIX", "LISTEN_ADDR"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let log = ["RUST_LOG", "LOG_FORMAT", "NO_COLOR"].contains(&text.as_ref());
        let proxy = text.to_ascii_lowercase().ends_with("_proxy");
        if log || proxy || ours.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    opshook(args).end()
}

/// A command that is expected to end.
pub(crate) trait End {
    /// Runs it. One that stays is killed, so that its test fails instead of waiting for ever.
    fn end(&mut self) -> Output;
}

impl End for Command {
    fn end(&mut self) -> Output {
        end_of(self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

fn end_of(child: Child) -> Output {
    let id = child.id().to_string();
    let (ended, waiting) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    output
}

/// Runs a command that reads standard input.
pub(crate) fn run_with_input(args: &[&str], input: &str) -> Output {
    let mut command = opshook(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    end_of(child)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// That a command failed with a status and one line, which is answered. Nothing about a panic is in it.
pub(crate) fn one_line(output: &Output, status: i32) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// A command that stays, and is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// The first line that it printed, read as JSON.
    pub(crate) said: Value,
    log: PathBuf,
}

impl Server {
    /// Starts a command that prints a line of JSON when it is ready. Its standard error goes to the file `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut server = Self { child, said: Value::Null, log };
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it printed nothing: {}", server.log()));
        server.said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        server
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends SIGTERM, and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `opshook up` on free ports.
pub(crate) struct Up {
    pub(crate) server: Server,
    pub(crate) receive: String,
    pub(crate) query_events: String,
    pub(crate) emit_retry: String,
    pub(crate) dynamodb: String,
    /// `WEBHOOK_SECRET` and `OPS_API_TOKEN`, as they were made.
    pub(crate) secret: String,
    pub(crate) token: String,
}

impl Up {
    /// Starts it on a data directory, with more settings in its environment.
    pub(crate) fn start(dir: &TempDir, settings: &[(&str, &str)]) -> Self {
        let data_dir = data_dir(dir);
        let mut command = opshook(&["up", "--json", "--data-dir", data_dir.to_str().unwrap()]);
        command.args(FREE_PORTS).envs(settings.iter().copied());
        let server = Server::start(command, dir.path().join("log"));
        let address = |name: &str| server.said[name].as_str().unwrap_or_default().to_owned();
        let made = std::fs::read_to_string(data_dir.join("settings.env")).unwrap_or_default();
        let setting = |name: &str| {
            let given = settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            let mut lines = made.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            given.or_else(|| lines.next().map(str::to_owned)).unwrap()
        };
        Self {
            receive: address("receive"),
            query_events: address("query-events"),
            emit_retry: address("emit-retry"),
            dynamodb: address("dynamodb"),
            secret: setting("WEBHOOK_SECRET"),
            token: setting("OPS_API_TOKEN"),
            server,
        }
    }

    /// Asks query-events, with the token.
    pub(crate) async fn query(&self, path: &str) -> (u16, Value) {
        get(&format!("{}{path}", self.query_events), Some(&self.token)).await
    }

    /// The addresses of all four.
    pub(crate) fn addresses(&self) -> [SocketAddr; 4] {
        [&self.receive, &self.query_events, &self.emit_retry, &self.dynamodb]
            .map(|url| url.strip_prefix("http://").unwrap().parse().unwrap())
    }
}

/// The data directory that [`Up::start`] uses: it is made by the command.
pub(crate) fn data_dir(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

/// A file with an event in it.
pub(crate) fn event_file(dir: &Path, text: &str) -> String {
    let path = dir.join("event.json");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

/// GET, with a bearer token where one is given: the status and the body.
pub(crate) async fn get(url: &str, token: Option<&str>) -> (u16, Value) {
    let mut request = client().get(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}
