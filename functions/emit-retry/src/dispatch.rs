//! Who takes which message, and when: as many at a time as the window allows, first attempts before retries; and while the
//! endpoint is down, one at a time probes.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::id::IdSource;
use contract::time;
use futures_util::future::join_all;
use jiff::Timestamp;
use service::clock::Clock;
use service::host::{Background, Stop};
use store::outbox::{Claim, Endpoint, Leased, Limits, Take};
use store::{Deadline, Store, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::activity;
use crate::attempt::{Courier, Recorded, Until};
use crate::config::Delivery;
use crate::endpoint::{self, Failed, Verdict};
use crate::gate::{Gate, Probe};
use crate::sender::{Sender, Sent};
use crate::window::{Began, Window};

/// How many messages are worked on at once, those included that are only recorded yet.
const MOST_IN_HAND: usize = 64;
/// How many ids of each kind are read ahead.
const AHEAD: usize = 64;
/// How many ids at the old and at the new end of a shard are read where the next message is chosen among many.
const CHOICE: (usize, usize) = (100, 25);
/// What comes together is looked at together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// The far end of the index is read this often.
const FAR_EACH: Duration = Duration::from_secs(5);
/// While it is in doubt whether the endpoint is up, attempts begin this far apart.
const PACE_IN_DOUBT: Duration = Duration::from_millis(75);
/// What waits for a retry goes at once when the endpoint is back. A process that starts later than this does not do it.
const EARLY_WITHIN: Duration = Duration::from_secs(900);
/// What the answer of an invocation takes on its way to Lambda.
pub(crate) const FOR_THE_ANSWER: Duration = Duration::from_millis(500);

/// What a dispatcher works with.
#[derive(Debug)]
pub struct Setup {
    /// The outbox.
    pub store: Store,
    /// The way to ops.
    pub sender: Sender,
    /// The schedule and how long what is delivered is kept.
    pub delivery: Delivery,
    /// The time.
    pub clock: Clock,
    /// Makes claim ids.
    pub ids: Arc<IdSource>,
    /// For jitter.
    pub random: fastrand::Rng,
    /// What other processes left is found within this time.
    pub longest_pause: Duration,
}

/// Delivers messages in this process.
#[derive(Debug)]
pub struct Dispatcher {
    courier: Courier,
    gate: Gate,
    longest_pause: Duration,
    hands: Mutex<Hands>,
    ready: Mutex<Ready>,
    attempts: Mutex<JoinSet<Option<String>>>,
    stopping: AtomicBool,
    changed: Notify,
}

/// What is under way.
#[derive(Debug, Default)]
struct Hands {
    window: Window,
    /// How many places of the window are taken, by kind.
    first: u32,
    retries: u32,
    /// How many places there are, those included that only record.
    places: usize,
    /// The messages that this process works on. A lease may run out while a delivery can't be recorded: nobody here sends
    /// the message again meanwhile.
    messages: HashSet<String>,
}

/// What is known to wait.
#[derive(Debug, Default)]
struct Ready {
    /// The state of the endpoint for which this was read, and since when it has that.
    seen: Option<(bool, Timestamp)>,
    first: VecDeque<(String, Take)>,
    retries: VecDeque<(String, Take)>,
    /// Whether there may be more than was read.
    is_cut: bool,
    read: Option<Instant>,
    read_far: Option<Instant>,
    next_at: Option<Timestamp>,
    /// Where the retries begin that go early, for the endpoint is back; none when all have.
    early_from: Option<Timestamp>,
    /// Whether those for first attempts were chosen among many, and how often one was.
    is_choice: bool,
    turn: usize,
}

/// Why a message has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    Retry,
    /// It probes, which needs no place of the window.
    Probe,
}

/// A place to work on a message, with the claim that will hold it. Dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    dispatcher: Arc<Dispatcher>,
    claim: Claim,
    kind: Kind,
    began: Began,
    is_sending: bool,
    webhook_id: Option<String>,
}

impl Place {
    /// The claim to hold the message with.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Works on the message after the caller has gone on.
    pub fn deliver(self, leased: Leased) {
        self.start(leased, None, Until::NEVER);
    }

    fn start(mut self, leased: Leased, probe: Option<Probe>, until: Until) {
        self.dispatcher.hands().messages.insert(leased.webhook_id.clone());
        self.webhook_id = Some(leased.webhook_id.clone());
        let own = Arc::clone(&self.dispatcher);
        let mut attempts = locked(&own.attempts);
        while attempts.try_join_next().is_some() {}
        attempts.spawn(self.attempt(leased, probe, until));
    }

    /// Answers with the message's id where nobody knows what came of it.
    async fn attempt(mut self, leased: Leased, probe: Option<Probe>, until: Until) -> Option<String> {
        let dispatcher = Arc::clone(&self.dispatcher);
        let Some(sent) = dispatcher.courier.send(&leased).await else {
            dispatcher.changed.notify_one();
            return None;
        };
        // The window is about what is with ops: what is only recorded yet takes no place of it.
        let may_be_down = dispatcher.note(&leased.webhook_id, self.kind, self.began, &sent);
        self.leave_window();
        let recorded = dispatcher.courier.record(&leased, &sent, probe.is_some(), until).await;
        until.within(dispatcher.judge(&leased, &sent, probe.as_ref(), may_be_down)).await;
        if sent.verdict != Verdict::Lives || recorded == Recorded::Unknown {
            dispatcher.changed.notify_one();
        }
        (recorded == Recorded::Unknown).then(|| leased.webhook_id.clone())
    }

    fn leave_window(&mut self) {
        if std::mem::take(&mut self.is_sending) {
            let mut hands = self.dispatcher.hands();
            match self.kind {
                Kind::First => hands.first -= 1,
                Kind::Retry => hands.retries -= 1,
                Kind::Probe => {}
            }
            drop(hands);
            self.dispatcher.go_on();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_window();
        let mut hands = self.dispatcher.hands();
        hands.places -= 1;
        if let Some(webhook_id) = &self.webhook_id {
            hands.messages.remove(webhook_id);
        }
        drop(hands);
        self.dispatcher.go_on();
    }
}

impl Hands {
    fn has_place(&self, kind: Kind) -> bool {
        let (first, retries, both) = self.window.places();
        let is_free = match kind {
            Kind::First => self.first < first,
            Kind::Retry => self.retries < retries,
            Kind::Probe => return self.places < MOST_IN_HAND,
        };
        is_free
            && self.first + self.retries < both
            && self.places < MOST_IN_HAND
            && self.window.pause(kind == Kind::First, Instant::now()).is_zero()
    }
}

impl Ready {
    fn of(&mut self, kind: Kind) -> &mut VecDeque<(String, Take)> {
        if kind == Kind::First { &mut self.first } else { &mut self.retries }
    }
}

impl Dispatcher {
    /// A dispatcher that does nothing until it is asked for a place or its background work is started.
    pub fn new(setup: Setup) -> Self {
        let Setup { store, sender, delivery, clock, ids, random, longest_pause } = setup;
        let gate = Gate::new(store.clone(), sender.endpoint_key(), clock.clone(), Arc::clone(&ids));
        Self {
            courier: Courier { store, sender, delivery, clock, ids, random: Mutex::new(random) },
            gate,
            longest_pause,
            hands: Mutex::default(),
            ready: Mutex::default(),
            attempts: Mutex::default(),
            stopping: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// A place for a message that is new, if one is free, the endpoint is up as far as is known and the process is not
    /// about to stop.
    pub fn free_place(self: &Arc<Self>) -> Option<Place> {
        let is_up = self.gate.known().is_some_and(|known| !known.is_down && !endpoint::is_in_doubt(&known));
        if is_up && !self.stopping.load(Ordering::Acquire) { self.place(Kind::First) } else { None }
    }

    fn place(self: &Arc<Self>, kind: Kind) -> Option<Place> {
        let claim = self.courier.new_claim();
        let mut hands = self.hands();
        if !hands.has_place(kind) {
            return None;
        }
        match kind {
            Kind::First => hands.first += 1,
            Kind::Retry => hands.retries += 1,
            Kind::Probe => {}
        }
        hands.places += 1;
        let began = hands.window.begin();
        let dispatcher = Arc::clone(self);
        Some(Place { dispatcher, claim, kind, began, is_sending: true, webhook_id: None })
    }

    /// Has the next look at the outbox come soon.
    pub fn wake(&self) {
        locked(&self.ready).is_cut = true;
        self.changed.notify_one();
    }

    /// A place is free: it is taken at once where something is known to wait.
    fn go_on(&self) {
        let ready = locked(&self.ready);
        if ready.is_cut || !ready.first.is_empty() || !ready.retries.is_empty() || ready.early_from.is_some() {
            self.changed.notify_one();
        }
    }

    /// Drops all that is under way, as the end of the process would: leases run out, and others take the messages up.
    pub fn abort(&self) {
        self.stopping.store(true, Ordering::Release);
        *locked(&self.attempts) = JoinSet::new();
    }

    /// The work beside the requests: until the host says stop, then what is under way is finished.
    pub fn into_background(self: Arc<Self>) -> Background {
        Box::new(move |stop| Box::pin(self.run(stop)) as Pin<Box<dyn Future<Output = ()> + Send>>)
    }

    async fn run(self: Arc<Self>, mut stop: Stop) {
        loop {
            let pause = self.step(Until::NEVER).await;
            tokio::select! {
                biased;
                // An error means that the host has gone.
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.pause(pause) => {}
            }
        }
        self.stopping.store(true, Ordering::Release);
        self.finish().await;
    }

    /// Works on what is due until nothing is, or until `time` is too short for one attempt more. Answers with the messages of
    /// which nobody knows what came, for it could not be recorded. A delivery that failed and is recorded is none.
    pub async fn work(self: &Arc<Self>, time: Duration) -> Vec<String> {
        let until = self.begin_invocation(time);
        while until.has_time() {
            // What hangs must not hold up what is under way. A claim that is dropped here runs out.
            let Some(pause) = until.within(self.step(until)).await else { break };
            let waits = pause > SHORTEST_PAUSE && self.hands().window.pause(false, Instant::now()).is_zero();
            if waits && self.hands().places == 0 {
                break;
            }
            self.pause(pause).await;
        }
        self.finish().await
    }

    /// Attempts these messages at once, as far as they are due and the endpoint is up; the next sweep has the others. Answers
    /// as [`Dispatcher::work`].
    pub async fn attempt_now(self: &Arc<Self>, webhook_ids: &[String], time: Duration) -> Vec<String> {
        let until = self.begin_invocation(time);
        let mut webhook_ids = webhook_ids.iter();
        let mut next = webhook_ids.next();
        while let Some(webhook_id) = next
            && until.has_time()
        {
            // The endpoint may go down while these are sent.
            let Some(Ok(seen)) = until.within(self.gate.look()).await else { break };
            if seen.is_down || endpoint::is_in_doubt(&seen) {
                break;
            }
            self.begin_as(&seen);
            match self.place(Kind::First) {
                Some(place) => {
                    until.within(self.claim_and_start(webhook_id.clone(), place, Take::Due, until)).await;
                    next = webhook_ids.next();
                }
                None => self.pause(SHORTEST_PAUSE).await,
            }
        }
        self.finish().await
    }

    /// A Lambda freezes between invocations, and its clock may with it: what was known may be old.
    fn begin_invocation(&self, time: Duration) -> Until {
        self.gate.forget();
        *locked(&self.ready) = Ready::default();
        Until::of(Instant::now() + time.saturating_sub(FOR_THE_ANSWER))
    }

    /// Waits until nothing is under way. Answers as [`Dispatcher::work`].
    async fn finish(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        loop {
            let mut attempts = std::mem::take(&mut *locked(&self.attempts));
            while let Some(ended) = attempts.join_next().await {
                unknown.extend(ended.ok().flatten());
            }
            if self.hands().places == 0 {
                return unknown;
            }
            // Someone has a place and has not begun yet.
            self.pause(SHORTEST_PAUSE).await;
        }
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.changed.notified()).await;
    }

    /// Does what is to be done now, as far as there are free places. Answers how long nothing is to be done after that.
    async fn step(self: &Arc<Self>, until: Until) -> Duration {
        let worked = match self.gate.look().await {
            Ok(seen) => {
                self.begin_as(&seen);
                if seen.is_down { self.probe(&seen, until).await } else { self.sweep(&seen, until).await }
            }
            Err(error) => Err(error),
        };
        let pause = worked.unwrap_or_else(|error| {
            tracing::warn!(%error, "the outbox can't be swept; trying again");
            self.longest_pause
        });
        pause.min(self.longest_pause)
    }

    /// What was read while the endpoint was down, or up, counts no more when it is not.
    fn begin_as(&self, seen: &Endpoint) {
        let now = self.courier.clock.now();
        let mut ready = locked(&self.ready);
        let is = (seen.is_down, seen.since);
        if ready.seen == Some(is) {
            return;
        }
        let is_first_look = ready.seen.is_none();
        if ready.seen.is_some_and(|(was_down, _)| was_down) && !seen.is_down {
            self.hands().window.restart();
        } else if is_first_look && seen.width > 0 {
            self.hands().window = Window::of(seen.width / self.courier.delivery.dispatchers.max(1));
        }
        let is_back = !seen.is_down && time::until(now, seen.since) < EARLY_WITHIN;
        *ready = Ready { seen: Some(is), early_from: is_back.then_some(now), turn: ready.turn, ..Ready::default() };
    }

    /// Claims what waits and has it delivered.
    async fn sweep(self: &Arc<Self>, seen: &Endpoint, until: Until) -> Result<Duration, StoreError> {
        let now = self.courier.clock.now();
        self.read_ahead(seen, now).await?;
        let mut claims = Vec::new();
        for kind in [Kind::First, Kind::Retry] {
            while let Some((webhook_id, take, place)) = self.next(kind) {
                claims.push(self.claim_and_start(webhook_id, place, take, until));
                if endpoint::is_in_doubt(seen) {
                    self.hands().window.hold(PACE_IN_DOUBT, Instant::now());
                }
            }
        }
        let is_idle = claims.is_empty();
        join_all(claims).await;
        Ok(self.until_more(seen, now, is_idle))
    }

    /// The next message that is known to wait, with a place for it.
    fn next(self: &Arc<Self>, kind: Kind) -> Option<(String, Take, Place)> {
        let mut ready = locked(&self.ready);
        let place = if ready.of(kind).is_empty() { None } else { self.place(kind) }?;
        let (webhook_id, take) = ready.of(kind).pop_front()?;
        Some((webhook_id, take, place))
    }

    /// How long nothing is to be done: places that become free wake the sweep.
    fn until_more(&self, seen: &Endpoint, now: Timestamp, is_idle: bool) -> Duration {
        let ready = locked(&self.ready);
        let hands = self.hands();
        let waits = |kind: Kind, is_empty: bool| hands.has_place(kind) && (!is_empty || ready.is_cut);
        if waits(Kind::First, ready.first.is_empty()) || waits(Kind::Retry, ready.retries.is_empty()) {
            // What was read a moment ago is not read again at once.
            return if is_idle { SHORTEST_PAUSE } else { Duration::ZERO };
        }
        let paused = hands.window.pause(true, Instant::now());
        let in_doubt = endpoint::is_in_doubt(seen);
        let concluded = if in_doubt { endpoint::until_concluded(seen, now) } else { self.longest_pause };
        let next = ready.next_at.map_or(self.longest_pause, |at| time::until(at, now));
        if paused.is_zero() { next.min(concluded).max(SHORTEST_PAUSE) } else { paused }
    }

    /// Reads what waits, where nothing is known to and there is a place for it.
    async fn read_ahead(&self, seen: &Endpoint, now: Timestamp) -> Result<(), StoreError> {
        let is_choice = !seen.failed.is_empty();
        let limits = {
            let mut ready = locked(&self.ready);
            if is_choice && !ready.is_choice {
                // What stands beside a message that failed may fail for the same reason.
                ready.first.clear();
            }
            let hands = self.hands();
            let (first, retries) = (ready.first.is_empty(), ready.retries.is_empty());
            let is_needed = first && hands.has_place(Kind::First) || retries && hands.has_place(Kind::Retry);
            let is_recent =
                ready.read.is_some_and(|read| read.elapsed() < SHORTEST_PAUSE) && is_choice == ready.is_choice;
            ready.is_choice = is_choice;
            if is_recent || !is_needed {
                return Ok(());
            }
            let far = ready.read_far.is_none_or(|read| read.elapsed() >= FAR_EACH);
            let (first, newest) = if is_choice { CHOICE } else { (AHEAD, 0) };
            // Retries that go early are not found again, so what is known of retries stays.
            Limits { first, newest, retries: if retries { AHEAD } else { 0 }, far }
        };
        let due = self.courier.store.due(now, limits, Deadline::for_write()).await?;
        let is_early = limits.retries > 0 && due.retries.is_empty();
        let early = if is_early { self.early().await? } else { Vec::new() };
        let mut ready = locked(&self.ready);
        ready.read = Some(Instant::now());
        if limits.far {
            // Where a wrong clock put something there, there may be more.
            ready.read_far = ready.read.filter(|_| due.far == 0);
        }
        let is_full = |found: usize, limit: usize| limit > 0 && found >= limit;
        ready.is_cut = is_full(due.first.len(), limits.first) || is_full(due.retries.len(), limits.retries);
        let known = ready.next_at.filter(|_| limits.retries == 0);
        ready.next_at = known.into_iter().chain(due.next_at).min();
        let free = self.hands().window.width() as usize;
        let first = if is_choice {
            ready.is_cut |= due.first.len() > free;
            self.chosen(&mut ready.turn, due.first, &due.newest, free)
        } else {
            due.first
        };
        ready.first = first.into_iter().map(|id| (id, Take::Due)).collect();
        ready.retries.extend(due.retries.into_iter().map(|id| (id, Take::Due)).chain(early));
        Ok(())
    }

    /// Where messages fail, the next ones are not those that stand beside them: the newest, the oldest and any in turn.
    fn chosen(&self, turn: &mut usize, mut oldest: Vec<String>, newest: &[String], count: usize) -> Vec<String> {
        let mut chosen = Vec::<String>::new();
        for _ in 0..count.min(oldest.len()) {
            *turn += 1;
            let next = match *turn % 4 {
                0 => Some(oldest.remove(0)),
                2 => newest.iter().find(|id| !chosen.contains(id)).cloned(),
                _ => Some(oldest.remove((self.courier.random() * oldest.len() as f64) as usize)),
            };
            chosen.extend(next.filter(|id| !chosen.contains(id)));
            if oldest.is_empty() {
                break;
            }
        }
        chosen
    }

    /// The next of those that wait for a retry and were not tried since the endpoint is back: they go now.
    async fn early(&self) -> Result<Vec<(String, Take)>, StoreError> {
        let (from, since) = {
            let ready = locked(&self.ready);
            let (Some(from), Some((_, since))) = (ready.early_from, ready.seen) else { return Ok(Vec::new()) };
            (from, since)
        };
        let mut waiting = self.courier.store.waiting(from, AHEAD, Deadline::for_write()).await?;
        waiting.truncate(AHEAD);
        let last = waiting.last().map(|(at, _)| *at);
        // Where all that was read is due at one time, it goes on after that.
        let next = last.map(|last| if last == from { time::after(last, Duration::from_millis(1)) } else { last });
        locked(&self.ready).early_from = next.filter(|_| waiting.len() == AHEAD);
        Ok(waiting.into_iter().map(|(_, id)| (id, Take::NotTriedSince(since))).collect())
    }

    /// Claims a message and has it delivered, if there is anything to take.
    async fn claim_and_start(&self, webhook_id: String, place: Place, take: Take, until: Until) {
        if !until.has_time() || self.hands().messages.contains(&webhook_id) {
            return;
        }
        if let Some(leased) = self.courier.claim(&webhook_id, &place.claim, take).await {
            place.start(leased, None, until);
        }
    }

    /// Has a message probe, if it is the time for it. Answers how long nothing is to be done.
    async fn probe(self: &Arc<Self>, seen: &Endpoint, until: Until) -> Result<Duration, StoreError> {
        let (now, store) = (self.courier.clock.now(), &self.courier.store);
        let wait = endpoint::until_probe(seen, now);
        if !wait.is_zero() {
            return Ok(wait);
        }
        let ends = store.pending_ends(endpoint::MOST_PROBED + 1, now, Deadline::for_write());
        let any = store.due(now, Limits { first: CHOICE.0, ..Limits::default() }, Deadline::for_write());
        let ((oldest, newest), any) = futures_util::future::try_join(ends, any).await?;
        let Some(webhook_id) = endpoint::prober(seen, &oldest, &newest, &any.first, self.courier.random()) else {
            return Ok(self.longest_pause);
        };
        let Some(place) = self.place(Kind::Probe) else { return Ok(self.longest_pause) };
        let Some(probe) = self.gate.begin_probe(webhook_id).await? else { return Ok(SHORTEST_PAUSE) };
        let is_ours = self.hands().messages.contains(webhook_id);
        let leased = if is_ours || !until.has_time() {
            None
        } else {
            self.courier.claim(webhook_id, &place.claim, Take::Waiting).await
        };
        match leased {
            Some(leased) => place.start(leased, Some(probe), until),
            None => self.gate.probe_ended(&probe, None).await,
        }
        Ok(self.longest_pause)
    }

    /// Tells the window of an answer. True where a failure may mean that the endpoint is down.
    fn note(&self, webhook_id: &str, kind: Kind, began: Began, sent: &Sent) -> bool {
        let random = self.courier.random();
        let window = &mut self.hands().window;
        match sent.verdict {
            Verdict::Lives => window.passed(kind == Kind::First),
            Verdict::TooMuch => {
                return window.too_much(webhook_id, kind == Kind::First, began, random, Instant::now());
            }
            Verdict::Fails | Verdict::Refuses => {}
        }
        true
    }

    /// Shares with the other processes what an attempt says about the endpoint.
    async fn judge(&self, leased: &Leased, sent: &Sent, probe: Option<&Probe>, may_be_down: bool) {
        let failed = Failed {
            webhook_id: &leased.webhook_id,
            is_refusal: sent.verdict == Verdict::Refuses,
            began: time::parse_rfc3339(&sent.attempt.at).unwrap_or(Timestamp::UNIX_EPOCH),
            tried_at: leased.tried_at,
            why: &activity::reason(&sent.attempt),
            clock_ahead_s: sent.clock_ahead.map(|ahead| ahead.as_secs()),
            retry_after: sent.retry_after,
        };
        match (sent.verdict, probe) {
            (Verdict::Lives, _) => {
                let width = self.hands().window.width();
                self.gate.passed(width).await;
            }
            (_, Some(probe)) => self.gate.probe_ended(probe, Some(&failed)).await,
            (_, None) if may_be_down => self.gate.failed(&failed).await,
            (_, None) => {}
        }
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        locked(&self.hands)
    }
}

/// A panic elsewhere can't leave these in between.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
