//! A job that ran out of attempts, kept until the operator has looked at it. Stream: [`crate::names::stream::DEAD`], subject:
//! [`crate::names::dead_subject`].

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field_error::{self, FieldError};
use crate::open::Open;
use crate::reason::Reason;
use crate::record::Attempt;
use crate::tag::schema_tag;
use crate::token::Token;

/// Longest dead letter that is read: the default `max_payload` of a NATS server.
const MAX_DEAD_LETTER_BYTES: usize = 1 << 20;

/// The label that a replayed job has: the id of the job whose body it has.
pub const REPLAY_OF: &str = "replay_of";

schema_tag!(
    /// `sourdough/dead-letter/v1`.
    DeadLetterSchema = "sourdough/dead-letter/v1"
);

/// A job that its hosts failed too often. May grow: readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The version of this message.
    #[serde(default)]
    pub schema: DeadLetterSchema,
    /// The job.
    pub job_id: Token,
    /// Where it was published: [`crate::JobSubject`], as text.
    pub subject: String,
    /// Its body, byte for byte: JSON, and therefore text.
    pub body: String,
    /// Why the last attempt failed, as in the result.
    pub reason: Open<Reason>,
    /// The same in one sentence for a person.
    pub message: String,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// When it was given up.
    pub time: Timestamp,
}

impl DeadLetter {
    /// Reads a dead letter.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_DEAD_LETTER_BYTES)
    }
}
