//! A worker's jobs, on a real nats-server and an S3 server in this process. The guests are directories.
//!
//! Needs `NATS_URL`, as `dev with` gives it; without, each test says that it was skipped.

mod attempts;
mod cancelling;
mod caps;
mod draining;
mod hanging;
mod ownership;
mod parking;
mod places;
mod readers;
mod refusals;
mod repeats;
mod rig;
mod traced;
