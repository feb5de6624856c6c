//! One life of a process: from its start until it is stopped or dies. Whoever makes an exchange for a process that has
//! died waits for ever, as the process would not see the answer.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::world::World;

/// One life of a process.
#[derive(Debug)]
pub struct Life {
    /// Which process.
    pub process: usize,
    /// Such as `p0.3`: the third life of the first process.
    pub name: String,
    /// Whether its clock is right.
    pub right_clock: bool,
    /// When it was over; the greatest number while it is not.
    over_at: AtomicU64,
    died: Notify,
}

impl Life {
    pub fn new(process: usize, number: u32, right_clock: bool) -> Self {
        let name = format!("p{process}.{number}");
        Self { process, name, right_clock, over_at: AtomicU64::new(u64::MAX), died: Notify::new() }
    }

    pub fn is_over(&self) -> bool {
        self.over_at() != u64::MAX
    }

    pub fn over_at(&self) -> u64 {
        self.over_at.load(Ordering::Relaxed)
    }

    /// It dies, now.
    pub fn die(&self, world: &World, why: &'static str) {
        if !self.is_over() {
            world.count(why);
            world.note(None, format!("{} dies: {why}", self.name));
            self.end(world);
        }
    }

    /// It is over.
    pub fn end(&self, world: &World) {
        self.over_at.fetch_min(world.now(), Ordering::Relaxed);
        self.died.notify_waiters();
    }

    /// Waits until it is over.
    pub async fn over(&self) {
        let died = self.died.notified();
        tokio::pin!(died);
        died.as_mut().enable();
        if !self.is_over() {
            died.await;
        }
    }

    /// Goes on only while it lives.
    pub async fn go_on(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}
