//! The worker: claims a job, forks its snapshot, runs its steps, collects what came of them, reports once.
//!
//! ```text
//! serve ─▶ queue ─▶ claim ─▶ lifecycle ⇄ attempt ─┬─ resolve    environment, source, snapshot
//!                                                 ├─ park       waiting for a bake
//!                                                 ├─ build      fork, setup if cold, tree, steps
//!                                                 ├─ artifacts  list, read, upload
//!                                                 ├─ log        live, spooled, stored
//!                                                 └─ report     one result, then the acknowledgement
//! ```
//!
//! What always holds: what happens next is decided in [`lifecycle`], which knows no socket and no clock; the result is
//! stored before the job is acknowledged; a worker keeps nothing that matters.

pub mod alive;
pub mod artifacts;
pub mod attempt;
pub mod breaker;
pub mod build;
pub mod cancels;
pub mod capacity;
pub mod claim;
pub mod config;
pub mod dead;
pub mod events;
pub mod fitness;
pub mod lifecycle;
pub mod log;
pub mod park;
pub mod presence;
pub mod queue;
pub mod report;
pub mod resolve;
pub mod scratch;
pub mod serve;
pub mod services;
pub mod state_dir;
pub mod steps;
pub mod verdict;
