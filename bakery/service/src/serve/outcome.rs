//! What came of one request: the event that says so, and what becomes of its message.

use std::time::Duration;

use async_nats::jetstream::Message;
use bus::telemetry::Causes;
use bytes::Bytes;
use schemas::bake::{BakeEventKind, BakeRequest};
use schemas::names::{self, BakeSubject};
use schemas::result::LogRef;
use schemas::{FieldError, ObjectUri, Sha256Digest};
use setup::Transcript;
use store::Fault;
use tracing::{error, info, warn};

use super::Server;
use super::baking::{Failed, Request};
use crate::bakery::{Baked, Order};
use crate::error::BakeError;
use crate::events::{Author, Events};
use crate::news::{News, Reporter};

/// 10 s: a server that is started again is back by then.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// 1 s: another bakery takes it at once.
pub(super) const ABANDONED_FOR: Duration = Duration::from_secs(1);

/// 5: trouble that lasts longer than that needs a person, who should hear of it.
const MAX_TRIES: u64 = 5;

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done with.
    Settled,
    /// It comes again after this time.
    Again(Duration),
}

impl Outcome {
    /// This, once its event is stored. A message is not acknowledged before: who waits for the event would wait for ever.
    pub(super) fn once<E>(self, told: Result<(), E>) -> Self {
        match (self, told) {
            (Self::Again(delay), _) => Self::Again(delay),
            (Self::Settled, Ok(())) => Self::Settled,
            (Self::Settled, Err(_)) => Self::Again(AGAIN_AFTER),
        }
    }
}

/// Bakes what the message asks for, and tells what came of it.
pub(super) async fn handle(server: &Server, message: &Message) -> Outcome {
    let order = match order(&message.subject, &message.payload) {
        Ok(order) => order,
        Err(problem) => {
            // Nobody can hear of it: events are told apart by what this body does not have.
            warn!(subject = %message.subject, %problem, "not a bake request");
            return Outcome::Settled;
        }
    };
    let events = events(server, &order);
    let (tenant, environment) = (&order.tenant, &order.request.environment);
    info!(%tenant, %environment, request = %order.request.request_id, "bake requested");
    let taken = format!("bakery of class {} took the request", server.bakery.class());
    events
        .tell(News::new(BakeEventKind::Requested, taken))
        .await;
    let request = Request::new(&order, &events, message);
    match Box::pin(server.bake(&request)).await {
        Ok(baked) => {
            info!(%tenant, %environment, key = %baked.key, found = baked.found, "baked");
            Outcome::Settled.once(events.tell_surely(published(baked)).await)
        }
        Err(failed) if matches!(failed.error, BakeError::Ending) => abandon(server, message).await,
        Err(failed) => tell_failure(&request, &failed).await,
    }
}

/// How often a message was delivered.
pub(super) fn tries(message: &Message) -> u64 {
    let delivered = message.info().map_or(1, |info| info.delivered);
    u64::try_from(delivered).unwrap_or(1)
}

/// Tells that the bakery ends and the bake goes elsewhere.
pub(super) async fn abandon(server: &Server, message: &Message) -> Outcome {
    if let Ok(order) = order(&message.subject, &message.payload) {
        let news = News::new(
            BakeEventKind::Retrying,
            "the bakery ends; another takes over",
        );
        events(server, &order).tell(news).await;
    }
    Outcome::Again(ABANDONED_FOR)
}

async fn tell_failure(request: &Request<'_>, failed: &Failed) -> Outcome {
    let (order, error) = (request.order, &failed.error);
    let sentence = Causes(error).to_string();
    let (tenant, environment) = (&order.tenant, &order.request.environment);
    let reason = error.reason();
    let outcome = after(error.fault(), request.tries);
    let news = match outcome {
        Outcome::Again(delay) => {
            error!(%tenant, %environment, reason, error = sentence, "bake failed, trying again");
            let again = format!("{sentence}; trying again in {} s", delay.as_secs());
            News::new(BakeEventKind::Retrying, again)
        }
        Outcome::Settled => {
            warn!(%tenant, %environment, reason, error = sentence, "bake failed");
            News {
                key: failed.key,
                step: error.step().cloned(),
                output: error.transcript().map(Transcript::end),
                log: failed.log.clone(),
                ..News::new(BakeEventKind::Failed, sentence)
            }
        }
    };
    let telling = request.events.tell_surely(news.because(reason));
    outcome.once(telling.await)
}

/// What becomes of a message whose bake failed for the `tries`th time.
pub(super) fn after(fault: Fault, tries: u64) -> Outcome {
    match fault {
        Fault::Job | Fault::Message => Outcome::Settled,
        Fault::Host if tries >= MAX_TRIES => Outcome::Settled,
        Fault::Host => Outcome::Again(AGAIN_AFTER),
    }
}

/// Stores the output of the setup; none where there was none. That it cannot be stored is not what failed the bake.
pub(super) async fn stored(
    server: &Server,
    request: &Request<'_>,
    transcript: Transcript,
) -> Option<LogRef> {
    let (bytes, truncated) = transcript.into_whole();
    if bytes.is_empty() {
        return None;
    }
    let bucket = &server.objects.buckets().logs;
    let Order { tenant, trust, .. } = request.order;
    let key = names::bake_log_object(tenant, *trust, request.sequence, request.tries);
    let (digest, size_bytes) = (Sha256Digest::of(&bytes), bytes.len() as u64);
    if let Err(error) = server.objects.put(bucket, &key, Bytes::from(bytes)).await {
        error!(error = %Causes(&error), "the output of a setup is not stored");
        return None;
    }
    Some(LogRef {
        uri: ObjectUri::new(bucket, &key).ok()?,
        digest: digest.into(),
        size_bytes,
        truncated,
        chunks_lost: 0,
    })
}

fn published(baked: Baked) -> News {
    let (sentence, reason) = if baked.found {
        ("the snapshot was there already", Some("found"))
    } else {
        ("the snapshot can be forked", None)
    };
    let news = News::new(BakeEventKind::Published, sentence).with_key(baked.key);
    match reason {
        Some(reason) => news.because(reason),
        None => news,
    }
}

fn events(server: &Server, order: &Order) -> Events {
    Events::new(
        server.jetstream.clone(),
        &order.tenant,
        &order.request.environment,
        order.request.request_id.clone(),
        Author {
            class: server.bakery.class().clone(),
            trust: order.trust,
        },
    )
}

/// Reads a message. What its subject says counts; the body may only repeat it.
fn order(subject: &str, body: &[u8]) -> Result<Order, FieldError> {
    let subject: BakeSubject = subject
        .parse()
        .map_err(|problem: schemas::TextError| FieldError::new("subject", problem.to_string()))?;
    let request = BakeRequest::parse(body)?;
    let differs = |field: &str| {
        let problem = "must be what the subject says, or absent";
        Err(FieldError::new(field, problem))
    };
    if request
        .tenant
        .as_ref()
        .is_some_and(|tenant| *tenant != subject.tenant)
    {
        return differs("tenant");
    }
    if request.trust.is_some_and(|trust| trust != subject.trust) {
        return differs("trust");
    }
    if request.environment != subject.environment {
        return differs("environment");
    }
    Ok(Order {
        tenant: subject.tenant,
        trust: subject.trust,
        request,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body() -> Value {
        let digest = Sha256Digest::of("source");
        let uri = format!("s3://build-sources/acme/{digest}.tar.zst");
        let archive = json!({"uri": uri, "digest": {"sha256": digest}});
        json!({"request_id": "r1", "environment": "widget", "source": {"archive": archive}})
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<Order, String> {
        let mut body = body();
        change(&mut body);
        let subject = "bake.request.fake-1-none-0123abcd.untrusted.acme.widget";
        order(subject, body.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn tenant_and_trust_come_from_the_subject() {
        let order = read(|_| {}).unwrap();
        assert_eq!(order.tenant.as_str(), "acme");
        assert_eq!(order.trust, schemas::Trust::Untrusted);
    }

    #[test]
    fn a_body_that_contradicts_its_subject_is_refused() {
        for (field, value) in [
            ("tenant", "evil"),
            ("trust", "trusted"),
            ("environment", "other"),
        ] {
            let refused = read(|body| body[field] = json!(value)).unwrap_err();
            assert_eq!(
                refused,
                format!("{field}: must be what the subject says, or absent")
            );
        }
    }

    #[test]
    fn a_message_is_not_acknowledged_before_its_event_is_stored() {
        let lost = Err("no server");
        assert_eq!(Outcome::Settled.once(Ok::<_, &str>(())), Outcome::Settled);
        assert_eq!(Outcome::Settled.once(lost), Outcome::Again(AGAIN_AFTER));
        let abandoned = Outcome::Again(ABANDONED_FOR);
        assert_eq!(abandoned.once(lost), abandoned);
    }

    #[test]
    fn only_the_hosts_trouble_is_tried_again_and_not_for_ever() {
        assert_eq!(after(Fault::Job, 1), Outcome::Settled);
        assert_eq!(after(Fault::Message, 1), Outcome::Settled);
        assert_eq!(after(Fault::Host, 4), Outcome::Again(AGAIN_AFTER));
        assert_eq!(after(Fault::Host, 5), Outcome::Settled);
    }
}
