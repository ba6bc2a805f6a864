//! The queue as a worker sees it: which jobs there are, whose turn it is, and taking one.

pub mod caps;

use async_nats::jetstream::Message;

use caps::Cap;

/// A job that was taken.
#[derive(Debug)]
pub struct Taken {
    /// The delivery.
    pub message: Message,
    /// Its tenant's place among the jobs that may run at a time; none for a tenant without a cap.
    pub cap: Option<Cap>,
}
