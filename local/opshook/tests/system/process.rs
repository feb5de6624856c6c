//! The real binaries, as processes of their own that end with the test.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The command itself.
pub const OPSHOOK: &str = env!("CARGO_BIN_EXE_opshook");

/// A function's binary, which `cargo test -p opshook` does not build.
pub fn function_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// A running binary. It is killed when this is dropped.
pub struct Process {
    child: Child,
    lines: UnboundedReceiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Starts it with these settings and nothing else of this process's environment.
    pub fn start<'a>(
        program: &Path,
        arguments: &[&str],
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        Self::start_with(program, arguments, settings, Stdio::null())
    }

    /// [`Process::start`] with something else as its standard input.
    pub fn start_with<'a>(
        program: &Path,
        arguments: &[&str],
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
        stdin: Stdio,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(settings).stdin(stdin);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, lines) = unbounded_channel();
        listen(child.stdout.take().unwrap(), said.clone());
        listen(child.stderr.take().unwrap(), said);
        Self { child, lines }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first line with that in it, on standard output or standard error. Panics when it ends before, or after 30 s.
    pub async fn line_with(&mut self, part: &str) -> String {
        let mut before = Vec::new();
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(part) {
                    return Some(line);
                }
                before.push(line);
            }
            None
        })
        .await;
        found.ok().flatten().unwrap_or_else(|| panic!("it never said {part:?}, but:\n{}", before.join("\n")))
    }

    /// Ends it as `kill -9` does, and waits until it has ended.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        let _ = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
    }

    /// Whether it has ended, and how: none while it runs, no status where a signal ended it.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    /// Kills it if it runs: what it said that nobody has read.
    pub async fn last_words(&mut self) -> Vec<String> {
        self.kill();
        let mut lines = Vec::new();
        while let Some(line) = self.lines.recv().await {
            lines.push(line);
        }
        lines
    }

    /// Waits until it ends by itself: its exit status and all that it said. Panics after 30 s.
    pub async fn end(mut self) -> (i32, String) {
        let said = tokio::time::timeout(Duration::from_secs(30), async {
            let mut said = String::new();
            while let Some(line) = self.lines.recv().await {
                said.push_str(&line);
                said.push('\n');
            }
            said
        });
        let said = said.await.expect("it should have ended");
        (self.child.wait().unwrap().code().unwrap(), said)
    }
}

/// Hands on lines until the other end closes; the pipe must never be full.
fn listen(pipe: impl Read + Send + 'static, lines: UnboundedSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
}

/// A port that is free now and that no outgoing connection takes meanwhile: it is below the range of those.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = fastrand::u16(15_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
