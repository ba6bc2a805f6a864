//! The harness: a whole stack on one machine, made of real servers, for the end-to-end cases, the demo and the bench.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`state`] | the one directory that everything is kept in |
//! | [`launch`] | what to start, and how long it lives |
//! | [`process`] | a child with a log, that is killed when its owner goes |
//! | [`running`] | a process that runs on its own, and how to stop it |
//! | [`wait`] | until something is so, with a deadline |
//! | [`ports`] | TCP ports that nobody uses |
//! | [`tools`] | the pinned server binaries |
//! | [`python`] | a Python with a NATS client |
//! | [`nats`], [`s3`] | a running nats-server, a running `SeaweedFS` |
//!
//! What always holds: everything listens on loopback only, is stopped by process id, and writes nowhere but into the state
//! directory (`SeaweedFS`'s sockets in `/tmp` excepted, which are removed).

pub mod launch;
pub mod nats;
pub mod ports;
pub mod process;
pub mod python;
pub mod running;
pub mod s3;
pub mod state;
pub mod tools;
pub mod wait;
mod weed;
