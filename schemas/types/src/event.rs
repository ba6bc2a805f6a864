//! What happens to a job between its publication and its result. Subject: [`crate::names::event_subject`].

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field_error::{self, FieldError};
use crate::open::Open;
use crate::tag::schema_tag;
use crate::token::Token;

/// Longest event that is read: the default `max_payload` of a NATS server.
const MAX_EVENT_BYTES: usize = 1 << 20;

schema_tag!(
    /// `sourdough/event/v1`.
    EventSchema = "sourdough/event/v1"
);

/// One change of a job's state. Events may grow: readers ignore fields and kinds that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The version of this message.
    #[serde(default)]
    pub schema: EventSchema,
    /// The job.
    pub job_id: Token,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its place among the events of this attempt, from 1.
    pub seq: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub kind: Open<EventKind>,
    /// The step that it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Token>,
    /// The same in one sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The stream stored it.
    Queued,
    /// A worker took it.
    Claimed,
    /// It waits for something that is not a worker.
    Parked,
    /// Its snapshot is being baked.
    Baking,
    /// Its VM runs.
    Forked,
    /// Its source was fetched and checked.
    SourceReady,
    /// A step began.
    StepStarted,
    /// A step ended.
    StepFinished,
    /// An artifact was stored.
    ArtifactUploaded,
    /// A connection was refused.
    EgressDenied,
    /// The host failed, and it will be tried again.
    Retrying,
    /// The worker gave it back.
    Returned,
    /// Its cancellation began.
    Cancelling,
    /// It was refused.
    Refused,
    /// Its result was stored.
    Finished,
}

impl Event {
    /// Reads an event that somebody published.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_EVENT_BYTES)
    }
}

impl EventKind {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::Parked => "parked",
            Self::Baking => "baking",
            Self::Forked => "forked",
            Self::SourceReady => "source_ready",
            Self::StepStarted => "step_started",
            Self::StepFinished => "step_finished",
            Self::ArtifactUploaded => "artifact_uploaded",
            Self::EgressDenied => "egress_denied",
            Self::Retrying => "retrying",
            Self::Returned => "returned",
            Self::Cancelling => "cancelling",
            Self::Refused => "refused",
            Self::Finished => "finished",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
