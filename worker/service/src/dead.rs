//! Dead letters: what is kept of a job that ran out of attempts, for the operator.

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Message};
use jiff::Timestamp;
use schemas::Token;
use schemas::dead::{DeadLetter, DeadLetterSchema};
use schemas::names::dead_subject;
use schemas::record::Attempt;

use crate::report::PUBLISH_FOR;
use crate::verdict::Verdict;

/// The letter of a job whose last attempt ended so.
pub fn letter(
    message: &Message,
    job_id: &Token,
    verdict: &Verdict,
    attempts: &[Attempt],
) -> DeadLetter {
    DeadLetter {
        schema: DeadLetterSchema,
        job_id: job_id.clone(),
        subject: message.subject.to_string(),
        body: String::from_utf8_lossy(&message.payload).into_owned(),
        reason: verdict.reason.into(),
        message: verdict.message.clone(),
        attempts: attempts.to_vec(),
        time: Timestamp::now(),
    }
}

/// Publishes it. Whoever does so again, after an error or a crash, changes nothing: the stream keeps the last of a job.
pub async fn publish(
    jetstream: &jetstream::Context,
    tenant: &Token,
    letter: &DeadLetter,
) -> Result<(), PublishError> {
    let body = serde_json::to_vec(letter).expect("a letter of plain fields is JSON");
    let (body, job_id) = (bytes::Bytes::from(body), &letter.job_id);
    bus::retry::with(PUBLISH_FOR, "publish the dead letter", || {
        let message = PublishMessage::build()
            .payload(body.clone())
            .message_id(format!("dead-{tenant}-{job_id}"));
        let sent = jetstream.send_publish(dead_subject(tenant, job_id), message);
        async {
            sent.await
                .map_err(bus::retry::Failure::Transient)?
                .await
                .map_err(bus::retry::Failure::Transient)
        }
    })
    .await?;
    Ok(())
}
