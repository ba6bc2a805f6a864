//! What sets a guest up: the declared inputs go in, the setup steps run, and while they do there may be a way out. The bakery freezes
//! what comes of it; a worker runs a job in it at once.
//!
//! ```text
//! definition, tenant, registries ─▶ way_out ─▶ policy, variables ─╮
//!                                                                 ▼
//! archive ─▶ inputs ─────────────────────────▶ guest ─▶ port open ─▶ steps ─▶ port closed ─▶ counters
//! ```
//!
//! What always holds: a guest that is set up has no way out any more and no tunnel open, whether its steps succeeded or not; nothing is
//! reached that the operator did not allow; nothing here knows what becomes of the guest.

mod error;
mod network;
mod news;
mod room;
mod steps;
mod transcript;
mod way_out;

pub use error::SetupError;
pub use network::{Registries, Registry, way_out};
pub use news::{Happened, News, Silent};
pub use room::Room;
pub use steps::{LostStep, Setup, StepFailure, longest};
pub use transcript::Transcript;
