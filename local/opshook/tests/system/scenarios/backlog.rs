//! A backlog as the function writes it where nobody works on messages: made once, and copied into each run's outbox.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::id::IdSource;
use emit_retry::App;
use serde_json::Value;
use tower::ServiceExt;

use super::stage::{event, post};
use crate::simulation::engine::Engine;
use crate::simulation::plan::{MINUTE, Plan};
use crate::simulation::process::config;
use crate::simulation::row::number;
use crate::simulation::world::World;

/// The largest backlog of any scenario.
const MOST: usize = 2_000;

/// The rows of the first so many messages, oldest first; all are accepted within the first minute of a run.
pub fn rows(count: usize) -> Vec<Value> {
    static ROWS: OnceLock<Vec<Value>> = OnceLock::new();
    let rows = ROWS.get_or_init(|| std::thread::spawn(write).join().unwrap());
    rows[..count].to_vec()
}

fn write() -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(Plan::quiet(0, 1, MINUTE));
        let engine = Engine::new(&world).await;
        let app = emit_retry::app(App {
            config: config(world.plan.retention_days),
            store: engine.observer(),
            clock: world.clock(|_| 0),
            ids: Arc::new(IdSource::seeded(0)),
            dispatcher: None,
        });
        for number in 0..MOST as u64 {
            let answer = app.clone().oneshot(post(&event(number, "good.example"))).await.unwrap();
            assert_eq!(answer.status(), 202);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut rows = engine.rows("outbox");
        rows.sort_by_key(|row| number(row, "accepted_at"));
        assert_eq!(rows.len(), MOST);
        rows
    })
}
