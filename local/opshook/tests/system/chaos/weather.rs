//! What happens between the processes: single faults all the time, and outages.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use crate::proxy::{Call, Fault, Proxy, Refusal, pass};

/// Of the calls to an engine so many meet a fault,
const ENGINE_FAULTS: f64 = 0.06;
/// and of the deliveries.
const OPS_FAULTS: f64 = 0.08;
/// A delivery that is younger than this is still waited for: an attempt may take 5 s.
const SURELY_WAITED_FOR: Duration = Duration::from_secs(4);
/// Every so manieth message is refused by ops for as long as there are faults.
const POISON: u64 = 60;
/// No call takes effect later than this after it was cut.
pub const LATEST: Duration = Duration::from_secs(4);

/// While there is one, every call meets it.
type Outage = Arc<Mutex<Option<Fault>>>;

/// The connections of one kind, each behind a proxy of its own.
pub struct Link {
    pub name: &'static str,
    pub proxies: Vec<Proxy>,
    outages: Vec<Outage>,
    /// How many outages of which kind there were.
    pub counts: Mutex<BTreeMap<&'static str, u32>>,
    /// How many there were.
    pub begun: Arc<AtomicU64>,
}

impl Link {
    /// A proxy before each target, with nothing happening yet.
    pub async fn new(name: &'static str, targets: &[SocketAddr]) -> Self {
        let mut proxies = Vec::new();
        for target in targets {
            proxies.push(Proxy::start(*target, pass()).await);
        }
        let outages = targets.iter().map(|_| Outage::default()).collect();
        Self { name, proxies, outages, counts: Mutex::default(), begun: Arc::default() }
    }

    /// Faults from now on.
    pub fn trouble(&self, random: &mut Rng, fault: impl Fn(&mut Rng, usize, &Call) -> Fault + Clone + Send + 'static) {
        for (place, (proxy, outage)) in self.proxies.iter().zip(&self.outages).enumerate() {
            let (outage, fault, mut random) = (Arc::clone(outage), fault.clone(), random.fork());
            proxy.set_plan(move |call| {
                // Decided always, so that what happens after an outage does not hang on its length.
                let single = fault(&mut random, place, call);
                outage.lock().unwrap().unwrap_or(single)
            });
        }
    }

    /// No more faults.
    pub fn calm(&self) {
        for (proxy, outage) in self.proxies.iter().zip(&self.outages) {
            *outage.lock().unwrap() = None;
            proxy.set_plan(|_| Fault::Pass);
        }
    }

    /// One outage: of all connections, or of one.
    async fn outage(&self, random: &mut Rng, kind: (&'static str, Fault), all: f64, time: Duration, end: Instant) {
        let all = random.f64() < all;
        let one = random.usize(0..self.outages.len());
        let set = |fault| {
            let hit = self.outages.iter().enumerate().filter(|(place, _)| all || *place == one);
            hit.for_each(|(_, outage)| *outage.lock().unwrap() = fault);
        };
        *self.counts.lock().unwrap().entry(kind.0).or_default() += 1;
        self.begun.fetch_add(1, Ordering::SeqCst);
        set(Some(kind.1));
        sleep_until(end.min(Instant::now() + time)).await;
        set(None);
    }
}

/// Outages of an engine, as each of its clients sees it, until `end`.
pub async fn engine_outages(link: &Link, mut random: Rng, end: Instant) {
    let kinds = [
        ("cut off", Fault::CutRequest),
        ("stalled", Fault::Hang),
        ("unavailable", Fault::Refuse(Refusal::Unavailable)),
        ("throttled", Fault::Refuse(Refusal::Throttling)),
    ];
    loop {
        sleep_until(end.min(Instant::now() + Duration::from_millis(random.u64(4_000..10_000)))).await;
        if Instant::now() >= end {
            return;
        }
        let kind = kinds[random.usize(0..kinds.len())];
        let time = Duration::from_millis(random.u64(200..2_500));
        link.outage(&mut random, kind, 0.5, time, end).await;
    }
}

/// Outages of ops until `end`, each after a time from `calm`, in milliseconds, and before each the portal's processes are
/// led to other receives. Tells when one is over.
pub async fn ops_outages(
    link: &Link,
    receives: &[SocketAddr],
    mut random: Rng,
    calm: Range<u64>,
    end: Instant,
    over: impl Fn(),
) {
    let kinds = [
        ("cut off", Fault::CutRequest),
        ("stalled", Fault::Hang),
        ("answers 500", Fault::Answer(500)),
        ("answers 503", Fault::Answer(503)),
        ("answers 429", Fault::Answer(429)),
        ("answers 401", Fault::Answer(401)),
    ];
    loop {
        sleep_until(end.min(Instant::now() + Duration::from_millis(random.u64(calm.clone())))).await;
        if Instant::now() >= end {
            return;
        }
        for proxy in &link.proxies {
            proxy.point_at(receives[random.usize(0..receives.len())]);
        }
        let kind = kinds[random.usize(0..kinds.len())];
        // Now and then one that no schedule of this run outlives.
        let length = if random.u8(0..12) == 0 { 10_000..25_000 } else { 1_500..5_000 };
        let time = Duration::from_millis(random.u64(length));
        link.outage(&mut random, kind, 0.75, time, end).await;
        over();
    }
}

/// What becomes of a call to an engine.
pub fn engine_fault(random: &mut Rng) -> Fault {
    let short = Duration::from_millis(random.u64(1..400));
    let late = Duration::from_millis(random.u64(1..LATEST.as_millis() as u64));
    let refusal = Refusal::ALL[random.usize(0..Refusal::ALL.len())];
    let kind = random.u8(0..20);
    if random.f64() >= ENGINE_FAULTS {
        return Fault::Pass;
    }
    match kind {
        0..4 => Fault::LoseAnswer,
        4..6 => Fault::CutAnswer,
        6..8 => Fault::CutRequest,
        8..10 => Fault::Late(late),
        10..13 => Fault::Delay(short),
        // Longer than a try of a call is waited for.
        13 => Fault::Delay(Duration::from_millis(1_300)),
        14 => Fault::Hang,
        15..18 => Fault::Refuse(refusal),
        18 => Fault::RefuseAfter(Refusal::Internal),
        _ => Fault::RefuseAfter(Refusal::Unavailable),
    }
}

/// Whether ops refuses the message for as long as there are faults.
pub fn is_poison(id: &str) -> bool {
    crate::chaos::hash(id).is_multiple_of(POISON)
}

/// What becomes of a delivery.
pub fn ops_fault(random: &mut Rng, call: &Call) -> Fault {
    let short = Duration::from_millis(random.u64(1..3_500));
    let late = Duration::from_millis(random.u64(1..LATEST.as_millis() as u64));
    let status = [404, 408, 429, 500, 502, 503, 504][random.usize(0..7)];
    // One is enough to open the breaker.
    let refusal = if random.u8(0..4) == 0 { 401 } else { 500 };
    let kind = random.u8(0..40);
    if is_poison(&call.id) {
        return Fault::Answer(422);
    }
    if random.f64() >= OPS_FAULTS {
        return Fault::Pass;
    }
    match kind {
        0..8 => Fault::LoseAnswer,
        8..12 => Fault::CutAnswer,
        12..16 => Fault::CutRequest,
        16..18 => Fault::Late(late),
        18..22 => Fault::Delay(short),
        // Longer than an attempt is waited for.
        22 => Fault::Delay(Duration::from_millis(5_500)),
        23 => Fault::Hang,
        24..34 => Fault::Answer(status),
        34 | 35 => Fault::Answer(410),
        36 => Fault::Answer(refusal),
        37 => Fault::RefuseAfter(Refusal::Internal),
        _ => Fault::RefuseAfter(Refusal::Unavailable),
    }
}

/// Deliveries under way, to see that none is sent while another process still waits for its answer.
#[derive(Default)]
pub struct Flights {
    open: HashMap<String, Flight>,
    /// Ids that were.
    pub twice: Vec<String>,
}

struct Flight {
    waited_for: Weak<()>,
    since: Instant,
    life: (usize, u64),
}

impl Flights {
    /// A delivery by the emit-retry at `place`; `lives` counts the stops of each.
    pub fn takes_off(&mut self, place: usize, call: &Call, lives: &[Arc<AtomicU64>]) {
        let life = |place: usize| (place, lives[place].load(Ordering::SeqCst));
        let flight = Flight { waited_for: Arc::downgrade(&call.flight), since: Instant::now(), life: life(place) };
        if let Some(before) = self.open.insert(call.id.clone(), flight) {
            let waited_for = before.waited_for.upgrade().is_some() && before.since.elapsed() < SURELY_WAITED_FOR;
            if waited_for && life(before.life.0) == before.life {
                self.twice.push(call.id.clone());
            }
        }
        if self.open.len() > 10_000 {
            self.open.retain(|_, flight| flight.waited_for.strong_count() > 0);
        }
    }
}
