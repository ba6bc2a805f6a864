//! The commands about a job, against a real nats-server; what a worker would write, the tests write.
//!
//! Needs `NATS_URL`, as `dev with` gives it; without, each test says that it was skipped.

mod cancel;
mod dead;
mod fixture;
mod logs;
mod result;
mod submit;
mod why;
mod wire;
