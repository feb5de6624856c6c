//! The processes: an engine and two emit-retry on the portal's side; an engine, two receive and a query-events on ops's.
//! Each is killed and started again, always on its own port and its own data.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chaos::load::TICKET_EVENTS;
use crate::chaos::weather::Link;
use crate::harness::{ONBOARD, Settings, settings, store};
use crate::process::{OPSHOOK, Process, free_port, function_binary};

/// Short, so that messages die within a run.
const SCHEDULE: &str = "1s,1s,2s,3s";
/// By that schedule.
pub const ATTEMPTS: u64 = 5;
/// Longer than a stop may take by the adapter's limits: 10 s for requests, 10 s for what is under way.
const STOP_LIMIT: Duration = Duration::from_secs(25);
/// One stop in four is a SIGTERM.
const POLITE: f64 = 0.25;
/// Log lines that fill a disk help nobody.
const MAX_LOG_BYTES: u64 = 20_000_000;

/// The seven processes and what is between them.
pub struct Site {
    /// With how many milliseconds each is left in peace at a time.
    pub members: Vec<(Member, Range<u64>)>,
    pub outbox: Link,
    pub deliveries: Link,
    pub records: Link,
    pub emits: Vec<SocketAddr>,
    pub receives: Vec<SocketAddr>,
    pub query: SocketAddr,
}

impl Site {
    /// Starts them; each answers when this returns.
    pub async fn start(dir: &Path) -> Self {
        let mut ports = BTreeSet::new();
        while ports.len() < 7 {
            ports.insert(free_port());
        }
        let free: Vec<SocketAddr> = ports.into_iter().map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let [portal, desk, emit_1, emit_2, receive_1, receive_2, query] = free[..] else { unreachable!() };
        let outbox = Link::new("emit-retry → engine", &[portal, portal]).await;
        let deliveries = Link::new("emit-retry → receive", &[receive_1, receive_2]).await;
        let records = Link::new("receive → engine", &[desk, desk]).await;

        let mut members = Vec::new();
        for (name, folder, listen) in [("portal's engine", "portal", portal), ("ops's engine", "ops", desk)] {
            let engine = Member::start(Command::engine(name, &dir.join(folder), listen), dir).await;
            store(&settings(listen, &[])).await.create_tables(store::tables::ALL).await.unwrap();
            members.push((engine, 4_000..12_000));
        }
        for (place, (name, listen)) in [("emit-retry 1", emit_1), ("emit-retry 2", emit_2)].into_iter().enumerate() {
            let url = format!("http://{}{ONBOARD}", deliveries.proxies[place].addr);
            let more = [("OPS_WEBHOOK_URL", url.as_str()), ("OPS_WEBHOOK_RETRY_SCHEDULE", SCHEDULE)];
            let settings = settings(outbox.proxies[place].addr, &more);
            let emit = Command::function(name, "emit-retry", listen, settings);
            members.push((Member::start(emit, dir).await, 3_000..10_000));
        }
        let ticket_events = TICKET_EVENTS.join(",");
        for (place, (name, listen)) in [("receive 1", receive_1), ("receive 2", receive_2)].into_iter().enumerate() {
            let settings = settings(records.proxies[place].addr, &[("TICKET_EVENTS", &ticket_events)]);
            let receive = Command::function(name, "receive", listen, settings);
            members.push((Member::start(receive, dir).await, 2_500..8_000));
        }
        let settings = settings(desk, &[]);
        let reader = Member::start(Command::function("query-events", "query-events", query, settings), dir).await;
        members.push((reader, 4_000..12_000));
        let (emits, receives) = (vec![emit_1, emit_2], vec![receive_1, receive_2]);
        Self { members, outbox, deliveries, records, emits, receives, query }
    }
}

/// How to run a process.
pub struct Command {
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub settings: Settings,
    /// In the line that says that it answers.
    pub ready: &'static str,
}

impl Command {
    /// `opshook engine` on a directory and a port.
    pub fn engine(name: &'static str, data_dir: &Path, listen: SocketAddr) -> Self {
        let data_dir = data_dir.to_str().unwrap();
        let listen = listen.to_string();
        let arguments = ["engine", "--json", "--data-dir", data_dir, "--listen", &listen].map(str::to_owned).to_vec();
        Self { name, program: PathBuf::from(OPSHOOK), arguments, settings: Settings::new(), ready: r#"{"dynamodb":"# }
    }

    /// A function on a port.
    pub fn function(name: &'static str, binary: &str, listen: SocketAddr, mut settings: Settings) -> Self {
        settings.insert("LISTEN_ADDR".to_owned(), listen.to_string());
        Self {
            name,
            program: function_binary(binary),
            arguments: Vec::new(),
            settings,
            ready: r#""message":"listening""#,
        }
    }
}

/// What a process went through.
#[derive(Debug, Default)]
pub struct Tally {
    pub killed: u32,
    pub terminated: u32,
    pub longest_start: Duration,
    pub longest_stop: Duration,
    /// What no process may do, in words.
    pub broken: Vec<String>,
}

/// A process with its lives.
pub struct Member {
    pub command: Command,
    pub tally: Tally,
    /// Counts its stops, each before it is made.
    pub lives: Arc<AtomicU64>,
    log: PathBuf,
    process: Process,
}

impl Member {
    /// Starts it. It answers when this returns.
    pub async fn start(mut command: Command, log_dir: &Path) -> Self {
        command.settings.insert("RUST_LOG".to_owned(), "warn,opshook_adapter=info".to_owned());
        let log = log_dir.join(format!("{}.log", command.name.replace(' ', "-")));
        let mut tally = Tally::default();
        let process = spawn(&command, &mut tally).await;
        Self { command, tally, lives: Arc::default(), log, process }
    }

    /// Stops it and starts it again until `end`, each time after a time from `pace`. It runs when this returns.
    pub async fn harass(mut self, end: Instant, mut random: Rng, pace: Range<u64>) -> Self {
        loop {
            sleep_until(end.min(Instant::now() + Duration::from_millis(random.u64(pace.clone())))).await;
            if Instant::now() >= end {
                return self;
            }
            self.stop(random.f64() < POLITE).await;
            // Mostly a moment, as under a service manager; now and then until someone looks.
            let away = if random.u8(0..8) == 0 { 1_500..4_000 } else { 0..600 };
            sleep(Duration::from_millis(random.u64(away))).await;
            self.process = spawn(&self.command, &mut self.tally).await;
        }
    }

    async fn stop(&mut self, polite: bool) {
        self.lives.fetch_add(1, Ordering::SeqCst);
        if let Some(status) = self.process.ended() {
            self.tally.broken.push(format!("{} ended by itself: {status:?}", self.command.name));
        } else if polite {
            self.terminate().await;
        } else {
            self.tally.killed += 1;
            self.process.kill();
        }
        self.write_log().await;
    }

    async fn terminate(&mut self) {
        self.tally.terminated += 1;
        let begun = Instant::now();
        self.process.terminate();
        let status = loop {
            match self.process.ended() {
                Some(status) => break Some(status),
                None if begun.elapsed() > STOP_LIMIT => break None,
                None => sleep(Duration::from_millis(5)).await,
            }
        };
        self.tally.longest_stop = self.tally.longest_stop.max(begun.elapsed());
        if status != Some(Some(0)) {
            let name = self.command.name;
            self.tally.broken.push(format!("{name}: a SIGTERM ended with {status:?} after {:?}", begun.elapsed()));
        }
    }

    /// Ends it for good.
    pub async fn end(mut self) -> Tally {
        if let Some(status) = self.process.ended() {
            self.tally.broken.push(format!("{} ended by itself: {status:?}", self.command.name));
        }
        self.process.kill();
        self.write_log().await;
        self.tally
    }

    async fn write_log(&mut self) {
        let lines = self.process.last_words().await;
        if let Some(panic) = lines.iter().find(|line| line.contains("panicked")) {
            self.tally.broken.push(format!("{}: {panic}", self.command.name));
        }
        let mut file = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        if file.metadata().unwrap().len() < MAX_LOG_BYTES {
            let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
            file.write_all(text.as_bytes()).unwrap();
        }
    }
}

async fn spawn(command: &Command, tally: &mut Tally) -> Process {
    let begun = Instant::now();
    let arguments: Vec<&str> = command.arguments.iter().map(String::as_str).collect();
    let settings = command.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut process = Process::start(&command.program, &arguments, settings);
    process.line_with(command.ready).await;
    tally.longest_start = tally.longest_start.max(begun.elapsed());
    process
}
