//! How much one guest may ask of its proxy. None of these is configuration: no honest client comes near them.

use std::time::Duration;

/// 8 KiB: what common servers accept as a whole request head. A `CONNECT` of npm has about 200 bytes.
pub(crate) const HEAD_BYTES: usize = 8 * 1024;

/// 10 s from the opened stream to a whole head. Under software emulation a guest takes about one.
pub(crate) const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// 10 s for a name: twice the 5 s after which the system resolver asks its next server (resolv.conf(5), `timeout`).
pub(crate) const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// 10 s for one address: Linux sends its SYN at 0, 1, 3 and 7 s.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// 4 addresses of a name are tried, so that a request is answered within a minute.
pub(crate) const ADDRESSES: usize = 4;

/// 64 streams at once. npm opens 15 connections to a host by default (its `maxsockets`).
pub(crate) const TUNNELS: usize = 64;
