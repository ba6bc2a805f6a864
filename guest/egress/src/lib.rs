//! The only way out of a guest: a policy, a proxy that enforces it, and a log of what it decided.
//!
//! A guest has no network card. Its agent offers an HTTP proxy on the guest's loopback and carries each connection over the
//! agent channel to the host, which gives it to [`Proxy::serve`]: one stream, one `CONNECT`, one tunnel.
//!
//! ```text
//! guest                    host
//! npm ──▶ agent ═ channel ═▶ Proxy ── head ──▶ Policy ── resolve ──▶ address rules ── connect ──▶ registry
//!                              │        400/405/431     403                   403             502
//!                              ╰──▶ Log (one Entry for each decision, counters)
//! ```
//!
//! The host itself leaves by the same rules, with [`connect`].
//!
//! What always holds:
//!
//! - The [`Policy`] is a table of phases, fixed before the guest starts. [`Phase`] only moves forward.
//! - Nothing is reached but an exact host and port of the current phase, at an address that is public or that the operator allows. A
//!   policy for an audit lists every host; no guest gets one.
//! - When the phase changes, every open tunnel is cut and accounted for before [`Proxy::advance`] or [`Proxy::close`] returns.
//! - A request is bounded in bytes and in time, and so is the time for its answer. The number of streams at once is bounded, and a tunnel
//!   without a byte either way ends. How much a tunnel carries is counted and not bounded, and so is how long: until its phase ends.

mod address;
mod endpoint;
mod head;
mod limits;
mod log;
mod outside;
mod policy;
mod proxy;
mod reason;
mod request;
mod resolve;
mod tunnel;

pub use address::is_public;
pub use endpoint::{Endpoint, EndpointError, Host};
pub use log::{Counters, Entry, Log};
pub use outside::{ConnectError, connect};
pub use policy::{Phase, Policy, Rule};
pub use proxy::{PhaseError, Proxy};
pub use reason::Reason;
pub use resolve::{Resolver, SystemResolver};
