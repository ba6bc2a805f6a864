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

/// 16 refusals at once for want of a tunnel. A stream beyond them is closed without an answer: it is a guest that does not stop asking.
pub(crate) const REFUSALS: usize = 16;

/// 10 s to take an answer, which fits into any socket's buffer: a guest that reads at all has it at once.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// 5 min without a byte either way end a tunnel: a client or registry that is gone without a word must not keep one of the tunnels. It is
/// npm's own limit for an answer (its `fetch-timeout`), so who waits for longer has given up.
pub(crate) const IDLE: Duration = Duration::from_mins(5);
