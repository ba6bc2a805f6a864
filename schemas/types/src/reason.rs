//! How a build ended: a closed set of statuses, and the reasons that lead to each.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a build ended; the words are those of OpenTelemetry's `cicd.pipeline.result`. Closed: a reader may match it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every step exited with 0 and every required artifact was read out.
    Success,
    /// The user can mend it.
    Failure,
    /// Some limit of time was reached.
    Timeout,
    /// Somebody asked for the end.
    Cancellation,
    /// Ours: the host's trouble, after the retries.
    Error,
}

/// Makes [`Reason`], its words and the status of each from one table, so that they cannot differ.
macro_rules! reasons {
    ($($status:ident { $($(#[$doc:meta])* $reason:ident = $word:literal,)+ })+) => {
        /// Why a build ended as it did. The set may grow: readers hold it in an [`crate::Open`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Reason {
            $($($(#[$doc])* #[serde(rename = $word)] $reason,)+)+
        }

        impl Reason {
            /// Every reason, in the order of the table in the messages' documentation.
            pub const ALL: &[Self] = &[$($(Self::$reason,)+)+];

            /// The status that it leads to.
            pub fn status(self) -> Status {
                match self {
                    $($(Self::$reason)|+ => Status::$status,)+
                }
            }

            /// The word in messages.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$reason => $word,)+)+
                }
            }
        }
    };
}

reasons! {
    Success {
        /// All went well.
        Completed = "completed",
    }
    Failure {
        /// A step exited with a code above 0.
        StepExitNonzero = "step_exit_nonzero",
        /// A step was ended by a signal that was not ours.
        StepSignalled = "step_signalled",
        /// A step could not be started: no such program, or no such directory.
        StepNotStarted = "step_not_started",
        /// The guest had no more memory for a step.
        OutOfMemory = "out_of_memory",
        /// The guest's disk was full.
        DiskFull = "disk_full",
        /// A required artifact matched no file.
        ArtifactMissing = "artifact_missing",
        /// An artifact is larger than it may be.
        ArtifactLimit = "artifact_limit",
        /// The agent in the guest vanished: the job's own doing, since the VMM lives.
        GuestDied = "guest_died",
        /// The body is not a job.
        InvalidJob = "invalid_job",
        /// Another body has this id.
        IdConflict = "id_conflict",
        /// The tenant has no environment of that name.
        UnknownEnvironment = "unknown_environment",
        /// The source does not hash to what the job says.
        SourceDigestMismatch = "source_digest_mismatch",
        /// The environment's setup failed.
        BakeFailed = "bake_failed",
        /// No worker can ever run it.
        NoCapacity = "no_capacity",
    }
    Timeout {
        /// A step ran past its `timeout_s`.
        StepTimeout = "step_timeout",
        /// The steps together ran past `timeouts.run_s`.
        RunTimeout = "run_timeout",
        /// A step was silent for `timeouts.idle_s`.
        IdleTimeout = "idle_timeout",
        /// It was in the queue for longer than `timeouts.queue_s`.
        QueueExpired = "queue_expired",
    }
    Cancellation {
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
    Error {
        /// The source cannot be read.
        SourceUnavailable = "source_unavailable",
        /// The snapshot is absent or damaged.
        SnapshotUnavailable = "snapshot_unavailable",
        /// An artifact or the log could not be stored.
        UploadFailed = "upload_failed",
        /// The host failed in another way.
        HostFailed = "host_failed",
        /// The VMM ended by itself.
        VmmDied = "vmm_died",
        /// The host failed at every attempt.
        MaxAttempts = "max_attempts",
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Status {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
            Self::Cancellation => "cancellation",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_messages_and_on_screens_are_the_same() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(
                serde_json::to_value(reason.status()).unwrap(),
                reason.status().as_str()
            );
        }
    }
}
