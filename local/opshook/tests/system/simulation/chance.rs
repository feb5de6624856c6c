//! Chance, by seed: each part of the simulation has a stream of its own, so that one more question in one of them does
//! not change all the others.

use std::ops::RangeInclusive;
use std::sync::Mutex;

/// One stream.
#[derive(Debug)]
pub struct Chance(Mutex<fastrand::Rng>);

impl Chance {
    /// The stream of `what` in the run of a seed.
    pub fn of(seed: u64, what: &str) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(mixed(seed, what))))
    }

    /// Whether something that happens at this rate, from 0 to 1, happens.
    pub fn happens(&self, rate: f64) -> bool {
        rate > 0.0 && self.0.lock().unwrap().f64() < rate
    }

    /// Any of a range, each as likely.
    pub fn between(&self, range: RangeInclusive<u64>) -> u64 {
        self.0.lock().unwrap().u64(range)
    }

    /// Any of a range, each order of magnitude as likely.
    pub fn spread(&self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = ((*range.start()).max(1) as f64, *range.end() as f64);
        let place = self.0.lock().unwrap().f64();
        ((low * (high / low).powf(place)) as u64).clamp(*range.start(), *range.end())
    }

    /// In any order.
    pub fn shuffle<T>(&self, all: &mut [T]) {
        self.0.lock().unwrap().shuffle(all);
    }

    /// One of several.
    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.0.lock().unwrap().usize(0..of.len())]
    }
}

/// FNV-1a over the name, mixed with the seed: a number that is the same in every run.
pub fn mixed(seed: u64, what: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    what.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
