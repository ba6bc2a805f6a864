//! What is done to workers, servers and jobs.

use std::fmt;
use std::time::Duration;

use super::dice::Dice;
use crate::fleet::Guests;

/// 2 to 5 s between two faults: a worker that was killed has just begun its next job.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// Shorter than a lease: nobody else has the jobs of the worker meanwhile.
const SHORT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// Longer than a lease, and than a message is out.
const LONG: (Duration, Duration) = (Duration::from_secs(31), Duration::from_secs(35));

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// `SIGKILL`, and another start.
    WorkerKilled,
    /// `SIGSTOP`, and `SIGCONT` before its leases are over.
    WorkerPaused,
    /// The same long after they are over.
    WorkerFrozen,
    /// `SIGKILL`, and another start with the same store.
    NatsRestarted,
    /// The same.
    S3Restarted,
    /// A put in the bucket of cancels.
    JobCancelled,
    /// `SIGKILL` of the process that runs a guest.
    VmmKilled,
}

impl Fault {
    /// One of those that such guests can have.
    pub(super) fn roll(guests: Guests, dice: &mut Dice) -> Self {
        let vmm = match guests {
            // It is no process of its own.
            Guests::Fake => 0,
            Guests::Real => 6,
        };
        dice.choose(&[
            (Self::WorkerKilled, 4),
            (Self::WorkerPaused, 3),
            (Self::WorkerFrozen, 1),
            (Self::NatsRestarted, 3),
            (Self::S3Restarted, 1),
            (Self::JobCancelled, 3),
            (Self::VmmKilled, vmm),
        ])
    }

    /// How long a worker stands still.
    pub(super) fn lasts(self, dice: &mut Dice) -> Duration {
        let (least, most) = match self {
            Self::WorkerFrozen => LONG,
            Self::WorkerPaused => SHORT,
            Self::WorkerKilled
            | Self::NatsRestarted
            | Self::S3Restarted
            | Self::JobCancelled
            | Self::VmmKilled => return Duration::ZERO,
        };
        dice.between(least, most)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::WorkerKilled => "worker killed and started again",
            Self::WorkerPaused => "worker frozen for less than a lease",
            Self::WorkerFrozen => "worker frozen for longer than a lease",
            Self::NatsRestarted => "nats-server killed and started again",
            Self::S3Restarted => "S3 killed and started again",
            Self::JobCancelled => "job cancelled",
            Self::VmmKilled => "VMM killed",
        })
    }
}
