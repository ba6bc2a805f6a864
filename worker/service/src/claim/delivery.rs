//! One delivery of a message: where it was published, its place in the stream, since when it waits.

use async_nats::jetstream::Message;
use jiff::Timestamp;
use schemas::Token;
use schemas::job::Job;
use schemas::names::JobSubject;
use schemas::result::Timing;

use super::ClaimError;
use crate::report::{Gathered, Subject};
use crate::services::Services;

/// The parts of a delivery.
pub(super) struct Delivery {
    pub(super) subject: JobSubject,
    pub(super) queued_at: Timestamp,
    sequence: u64,
}

impl Delivery {
    pub(super) fn of(message: &Message) -> Result<Self, ClaimError> {
        let info = message
            .info()
            .map_err(|error| ClaimError::Delivery(error.to_string()))?;
        let queued_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos());
        Ok(Self {
            subject: message
                .subject
                .parse()
                .map_err(|_| ClaimError::Subject(message.subject.to_string()))?,
            sequence: info.stream_sequence,
            queued_at: queued_at.map_err(|error| ClaimError::Delivery(error.to_string()))?,
        })
    }

    /// The name that the result of a body without a usable id has.
    pub(super) fn invalid_name(&self) -> Token {
        format!("invalid-{}", self.sequence)
            .parse()
            .expect("a word and a number make a token")
    }

    /// Whose result it will be.
    pub(super) fn of_job(&self, services: &Services, job_id: Token, attempt: u32) -> Subject {
        Subject {
            tenant: self.subject.tenant.clone(),
            trust: self.subject.trust,
            job_id,
            attempt,
            worker: services.config.name.clone(),
        }
    }

    /// What is known at the claim.
    pub(super) fn gathered(&self, job: Option<&Job>) -> Gathered {
        let steps = job.map_or(&[][..], |job| &job.steps);
        Gathered {
            planned: steps.iter().map(|step| step.name.clone()).collect(),
            timing: Timing {
                queued_at: Some(self.queued_at),
                claimed_at: Some(Timestamp::now()),
                ..Timing::default()
            },
            ..Gathered::default()
        }
    }
}
