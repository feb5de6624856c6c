//! What must never hold up the rest, each as a scenario of its own: the real emit-retry, on one and on several processes
//! under paused time, before an endpoint that is narrow, dead, or refuses some messages for ever. Nothing else fails here;
//! `simulation` mixes it with all other faults.
//!
//! Each run prints a line with its figures. `OPSHOOK_TEST_SEEDS` plays every case with so many seeds, from
//! `OPSHOOK_TEST_SEED` on; without it a part of the cases is played with one.

mod backlog;
mod endpoint;
mod many_bad;
mod narrow;
mod one_bad;
mod outage;
mod stage;
mod table;
mod trickle;
