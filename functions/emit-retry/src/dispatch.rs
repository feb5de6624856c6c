//! Who works on which message, and when: a bounded number of slots, each with one message under a lease, and a sweep
//! that finds what is due.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::id::IdSource;
use contract::time;
use futures_util::future::join_all;
use service::clock::Clock;
use service::host::{Background, Stop};
use store::outbox::{Claim, Leased, Phase, Take};
use store::{Deadline, Store, StoreError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::config::Delivery;
use crate::drain::Drain;
use crate::gate::{Gate, Probe};
use crate::invoked::Invocation;
use crate::sender::Sender;

/// How many messages are worked on at once.
pub(crate) const SLOTS: u32 = 32;
/// Failures that come together are looked at together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

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
    pub(crate) store: Store,
    pub(crate) sender: Sender,
    pub(crate) delivery: Delivery,
    pub(crate) clock: Clock,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) gate: Gate,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) longest_pause: Duration,
    random: Mutex<fastrand::Rng>,
    drain: Mutex<Drain>,
    invocation: Mutex<Invocation>,
    attempts: Mutex<JoinSet<()>>,
    /// The messages that this process works on. A lease may run out while a delivery can't be recorded: nobody here sends it
    /// again meanwhile.
    in_hand: Mutex<HashSet<String>>,
    /// How many messages were ever taken.
    taken: AtomicU64,
    stopping: AtomicBool,
    /// Whether there was more to do than there were free slots: then a slot that is free again is used at once.
    is_hungry: AtomicBool,
    changed: Notify,
}

/// A free place to work on a message, with the claim that will hold it.
#[derive(Debug)]
pub struct Slot {
    dispatcher: Arc<Dispatcher>,
    claim: Claim,
    permit: OwnedSemaphorePermit,
}

/// Why a message is sent now.
#[derive(Debug)]
pub enum Why {
    /// It is new, or its next attempt is due.
    Due,
    /// The endpoint is down, and this is how it is found out whether it is back.
    Probe(Probe),
    /// It waited while the endpoint was down.
    Backlog,
}

impl Slot {
    /// The claim to hold the message with.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Works on the message after the caller has gone on.
    pub fn deliver(self, leased: Leased, why: Why) {
        let Self { dispatcher, permit, .. } = self;
        let mut attempts = locked(&dispatcher.attempts);
        while attempts.try_join_next().is_some() {}
        let own = Arc::clone(&dispatcher);
        own.taken.fetch_add(1, Ordering::AcqRel);
        locked(&own.in_hand).insert(leased.webhook_id.clone());
        if matches!(why, Why::Backlog) {
            own.drain().began();
        }
        attempts.spawn(async move {
            let is_delivered = own.attempt(&leased, &why).await;
            locked(&own.in_hand).remove(&leased.webhook_id);
            if matches!(why, Why::Backlog) {
                own.drain().ended();
            }
            drop(permit);
            if !is_delivered || own.is_hungry.load(Ordering::Acquire) {
                own.wake();
            }
        });
    }
}

impl Dispatcher {
    /// A dispatcher that does nothing until it is asked for a slot or its background work is started.
    pub fn new(setup: Setup) -> Self {
        let Setup { store, sender, delivery, clock, ids, random, longest_pause } = setup;
        let gate = Gate::new(store.clone(), sender.endpoint_key(), clock.clone(), Arc::clone(&ids));
        Self {
            store,
            sender,
            delivery,
            clock,
            ids,
            gate,
            slots: Arc::new(Semaphore::new(SLOTS as usize)),
            longest_pause,
            random: Mutex::new(random),
            drain: Mutex::default(),
            invocation: Mutex::default(),
            attempts: Mutex::default(),
            in_hand: Mutex::default(),
            taken: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            is_hungry: AtomicBool::new(true),
            changed: Notify::new(),
        }
    }

    /// A slot for a message that is new, if one is free, the endpoint works and the process is not about to stop.
    pub fn free_slot(self: &Arc<Self>) -> Option<Slot> {
        if self.stopping.load(Ordering::Acquire) || !self.gate.is_closed() {
            return None;
        }
        self.slot()
    }

    /// A slot, if one is free.
    pub(crate) fn slot(self: &Arc<Self>) -> Option<Slot> {
        Arc::clone(&self.slots).try_acquire_owned().ok().map(|permit| self.slot_of(permit))
    }

    /// A slot, once one is free.
    pub(crate) async fn next_slot(self: &Arc<Self>) -> Option<Slot> {
        Arc::clone(&self.slots).acquire_owned().await.ok().map(|permit| self.slot_of(permit))
    }

    fn slot_of(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        let now = self.clock.now();
        Slot { dispatcher: Arc::clone(self), claim: Claim::new(self.ids.claim_id(now), now), permit }
    }

    /// How many messages are worked on.
    pub(crate) fn in_flight(&self) -> u32 {
        SLOTS.saturating_sub(u32::try_from(self.slots.available_permits()).unwrap_or(SLOTS))
    }

    /// How many messages were ever taken: by this it is seen whether something happened in between.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Has the next sweep come soon.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Drops all that is under way, as the end of the process would: leases run out, and others take the messages up.
    pub fn abort(&self) {
        self.stopping.store(true, Ordering::Release);
        *locked(&self.attempts) = JoinSet::new();
    }

    /// The work beside the requests: sweeps until the host says stop, then finishes what is under way.
    pub fn into_background(self: Arc<Self>) -> Background {
        Box::new(move |stop| Box::pin(self.run(stop)) as Pin<Box<dyn Future<Output = ()> + Send>>)
    }

    async fn run(self: Arc<Self>, mut stop: Stop) {
        loop {
            let pause = self.step().await;
            tokio::select! {
                biased;
                // An error means that the host has gone.
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.pause(pause) => {}
            }
        }
        self.stopping.store(true, Ordering::Release);
        // Every slot is free again once all that is under way is recorded.
        let _ = self.slots.acquire_many(SLOTS).await;
    }

    pub(crate) async fn pause(&self, time: Duration) {
        tokio::time::sleep(SHORTEST_PAUSE).await;
        let _ = tokio::time::timeout(time.saturating_sub(SHORTEST_PAUSE), self.changed.notified()).await;
    }

    /// Does what is to be done now, as far as there are free slots. Answers how long nothing is to be done after that.
    pub(crate) async fn step(self: &Arc<Self>) -> Duration {
        self.is_hungry.store(true, Ordering::Release);
        let worked = match self.gate.look().await {
            Ok(seen) => match seen.phase {
                Phase::Closed => self.sweep().await,
                Phase::Open => self.probe(&seen).await,
                Phase::Draining => self.send_backlog(&seen).await,
            },
            Err(error) => Err(error),
        };
        let pause = worked.unwrap_or_else(|error| {
            tracing::warn!(%error, "the outbox can't be swept; trying again");
            self.longest_pause
        });
        pause.min(self.longest_pause)
    }

    /// Claims what is due and has it delivered.
    async fn sweep(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let free = self.slots.available_permits();
        if free == 0 {
            return Ok(self.longest_pause);
        }
        let now = self.clock.now();
        let due = self.store.due(now, free, Deadline::for_write()).await?;
        let all = due.now.len();
        let claims = due.now.into_iter().map_while(|id| Some((id, self.slot()?)));
        join_all(claims.map(|(id, slot)| self.claim_and_deliver(id, slot, Take::Due, Why::Due))).await;
        self.is_hungry.store(all == free, Ordering::Release);
        let until_next = due.next_at.map_or(self.longest_pause, |at| time::until(at, now));
        Ok(if all == free { Duration::ZERO } else { until_next })
    }

    /// Claims a message and has it delivered, if there is anything to take.
    pub(crate) async fn claim_and_deliver(&self, webhook_id: String, slot: Slot, take: Take, why: Why) {
        if let Some(leased) = self.claim(&webhook_id, slot.claim(), take).await {
            slot.deliver(leased, why);
        }
    }

    /// Claims a message. None where another process has it, or it is done (the index was behind), or it can't be read:
    /// then it is set aside; and where this is a Lambda that could not finish it before its deadline.
    pub(crate) async fn claim(&self, webhook_id: &str, claim: &Claim, take: Take) -> Option<Leased> {
        if !self.invocation().has_time() || locked(&self.in_hand).contains(webhook_id) {
            return None;
        }
        match self.store.claim(webhook_id, claim, take, Deadline::for_write()).await {
            Ok(leased) => leased,
            Err(StoreError::Damaged { fault, .. }) => {
                self.set_aside(webhook_id, &fault).await;
                None
            }
            Err(error) => {
                tracing::warn!(webhook_id, %error, "the message can't be claimed; trying again");
                None
            }
        }
    }

    /// A number from 0 up to 1.
    pub(crate) fn random(&self) -> f64 {
        locked(&self.random).f64()
    }

    pub(crate) fn drain(&self) -> MutexGuard<'_, Drain> {
        locked(&self.drain)
    }

    pub(crate) fn invocation(&self) -> MutexGuard<'_, Invocation> {
        locked(&self.invocation)
    }
}

/// A panic elsewhere can't leave these in between.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
