//! What the tests of this crate share: repositories made with the host's git, servers on loopback that prove who they are, a resolver
//! with a table.
#![allow(
    clippy::unwrap_used,
    reason = "clippy's exemption for tests covers test functions, not what they share"
)]

pub(crate) mod bench;
pub(crate) mod repository;
pub(crate) mod server;
