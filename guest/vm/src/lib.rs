//! Virtual machines that run commands: the traits every driver implements, the client of the agent inside, a fake, and the
//! suite that every driver passes.
//!
//! What always holds: nothing here knows what a build is. A VM runs commands, takes files and gives files; whoever asks
//! knows why. Nothing a guest says is trusted: see [`session`].

pub mod agent;
pub mod conformance;
pub mod driver;
pub mod extents;
pub mod fake;
pub mod identity;
pub mod kill_switch;
pub mod lifetime;
pub mod search;
pub mod serving;
pub mod session;
pub mod slot;
pub mod snapshot;
pub mod tunnel;

pub use agent::{AgentClient, AgentError, ExecEvent, Execution, FileRead, Output, ProxyPort, Put};
pub use driver::{BakeVm, BootSpec, Driver, Exit, HostProfile, Vm, VmError};
pub use identity::Identity;
pub use kill_switch::KillSwitch;
pub use lifetime::Lifetime;
pub use serving::Serving;
pub use session::{Channel, SessionError};
pub use slot::Slot;
pub use snapshot::{Machine, SnapshotFiles};
pub use tunnel::Tunnel;
