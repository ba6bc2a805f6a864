//! Connections to the outside: NATS and its streams, S3, and telemetry.
//!
//! Nothing here knows what a build is. What is connected to is named in `schemas`; here is how: with backoff at the start, and with a
//! word about it in the log, so that a service whose server is away waits instead of dying.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`nats`] | the connection |
//! | [`streams`] | every stream and bucket with its settings, and what makes them |
//! | [`follow`] | the messages of a stream as they come, each once |
//! | [`results`] | the one result of a job: publish it once, fetch it, wait for it |
//! | [`objects`] | S3 |
//! | [`jobs`] | the record of a job: who owns its id, and each attempt at it |
//! | [`lease`] | who does a piece of work, of all who could |
//! | [`log_end`] | the end of a log whose worker was lost |
//! | [`watch`] | waiting for a key of a bucket |
//! | [`permissions`] | who may do what on the NATS server |
//! | [`retry`] | backoff |
//! | [`telemetry`] | logs, traces, and errors with their causes in one line |
//! | [`trace`] | a trace that goes on in another process |
//! | `testing` | an S3 server and a collector of spans for tests, behind a feature |

pub mod follow;
pub mod jobs;
pub mod lease;
pub mod log_end;
pub mod nats;
pub mod objects;
pub mod permissions;
pub mod results;
pub mod retry;
pub mod streams;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod watch;
