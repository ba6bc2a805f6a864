//! What a job did so far. Bucket: [`crate::names::bucket::JOBS`], key: [`crate::names::job_record`].
//!
//! What always holds: attempts are only ever added, and an attempt that has an end keeps it, so its place in the list is its number.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::field_error::{self, FieldError};
use crate::open::Open;
use crate::reason::Reason;
use crate::token::Token;

/// Longest record that is read: the default `max_payload` of a NATS server.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Longest [`AttemptEnd`] message that is kept: a record has several, and is read at every claim.
const MAX_MESSAGE_BYTES: usize = 2 << 10;

/// Which body owns the job's id, and each try at it. May grow: readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobRecord {
    /// Digest of the body that owns the id: the first that was seen with it.
    pub sha256: Sha256Digest,
    /// Every try, in order; the first has number 1.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// One try at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// The worker that tries.
    pub worker: Token,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended without a result; absent while it runs, and for the one that gave the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<AttemptEnd>,
}

/// How an attempt ended that gave no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptEnd {
    /// In which way.
    pub kind: Open<AttemptEndKind>,
    /// Why, where the host failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Open<Reason>>,
    /// The same in one sentence for a person.
    pub message: String,
    /// When that was written down.
    pub time: Timestamp,
}

/// In which way an attempt ended that gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEndKind {
    /// The host failed.
    Failed,
    /// The worker was told to end, and gave the job back: does not count against the job's attempts.
    Returned,
    /// The worker was never heard of again; whoever took the job over wrote this.
    Lost,
}

impl JobRecord {
    /// For a body that was never tried.
    pub fn new(sha256: Sha256Digest) -> Self {
        Self {
            sha256,
            attempts: Vec::new(),
        }
    }

    /// Reads a value of the bucket.
    pub fn parse(body: &[u8]) -> Result<Self, FieldError> {
        field_error::parse(body, MAX_RECORD_BYTES)
    }

    /// Attempts that count.
    pub fn counted(&self) -> u32 {
        let counted = self.attempts.iter().filter(|attempt| attempt.counts());
        u32::try_from(counted.count()).unwrap_or(u32::MAX)
    }
}

impl Attempt {
    /// One that begins.
    pub fn begin(worker: Token, started_at: Timestamp) -> Self {
        Self {
            worker,
            started_at,
            end: None,
        }
    }

    /// Whether it counts against the job's attempts: all do but those that were given back.
    pub fn counts(&self) -> bool {
        let kind = self.end.as_ref().and_then(|end| end.kind.known());
        kind != Some(&AttemptEndKind::Returned)
    }
}

impl AttemptEnd {
    /// An end of that kind, now. What is too long of `message` is cut.
    pub fn now(kind: AttemptEndKind, reason: Option<Reason>, message: &str) -> Self {
        let cut = message.floor_char_boundary(MAX_MESSAGE_BYTES);
        Self {
            kind: kind.into(),
            reason: reason.map(Open::from),
            message: message[..cut].to_owned(),
            time: Timestamp::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_counts_but_those_that_were_given_back() {
        let mut record = JobRecord::new(Sha256Digest::of(b"body"));
        let ends = [
            Some(AttemptEndKind::Returned),
            Some(AttemptEndKind::Lost),
            Some(AttemptEndKind::Failed),
            None,
        ];
        for kind in ends {
            let mut attempt = Attempt::begin("w1".parse().unwrap(), Timestamp::now());
            attempt.end = kind.map(|kind| AttemptEnd::now(kind, None, "because"));
            record.attempts.push(attempt);
        }
        assert_eq!(record.counted(), 3);
        let body = serde_json::to_vec(&record).unwrap();
        assert_eq!(JobRecord::parse(&body).unwrap(), record);
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let long = "ü".repeat(MAX_MESSAGE_BYTES);
        let end = AttemptEnd::now(AttemptEndKind::Failed, Some(Reason::HostFailed), &long);
        assert_eq!(end.message.len(), MAX_MESSAGE_BYTES);
    }
}
