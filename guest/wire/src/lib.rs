//! What host and agent say to each other, over one byte stream.
//!
//! The stream is a virtio-serial port (or any other reliable byte stream). It carries *frames* ([`frame`]); frames belong
//! to *channels*, so that many conversations share the stream; a channel carries *messages* ([`message`]) and raw bytes.
//!
//! ```text
//! host                                   agent
//!  │ Hello{version, nonce}                 │   opens a session; ends whatever session was there
//!  ├──────────────────────────────────────▶│
//!  │◀──────────────────────────────────────┤   Hello{version, the same nonce}
//!  │ Open(7, Exec{…})                      │   a channel opened by the host: ids below 2^31
//!  ├──────────────────────────────────────▶│
//!  │◀───────────── Data(7, stdout, "hi\n") ┤   Data and Message use up the receiver's window …
//!  │ Credit(7, 4)                          │
//!  ├──────────────────────────────────────▶│   … which the receiver opens again as it consumes
//!  │◀─────────────── Message(7, Ended{…})  ┤
//!  │◀──────────────────────── Close(7)     ┤   this side says no more; both closed: the channel is gone
//!  │◀──────────── Open(2^31+1, Tunnel)     ┤   a channel opened by the guest: ids from 2^31
//! ```
//!
//! What always holds: no frame is longer than [`frame::MAX_PAYLOAD`]; a side never has more than [`frame::WINDOW`] bytes
//! of a channel on the way; a host that receives anything else ends the session, for it trusts nothing a guest says.

pub mod frame;
pub mod message;

pub use frame::{Decoder, Frame, FrameError, Kind, Lane};
pub use message::{
    Command, Digest, Ended, Entry, EntryKind, ExecSpec, Found, Hello, ListSpec, Open, Probed,
    PutSpec, PutSummary, ReadSpec, Settled, SurveySpec, Surveyed, Termination, Thaw, ToGuest,
    ToHost, Usage, User,
};
