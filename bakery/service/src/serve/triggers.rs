//! Triggers: a source changed, so its environment is requested for every host class that has a worker. The snapshot is there before the job.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use async_nats::jetstream::Message;
use async_nats::jetstream::kv;
use async_nats::jetstream::message::PublishMessage;
use async_trait::async_trait;
use bus::telemetry::Causes;
use futures_util::TryStreamExt as _;
use schemas::bake::{BakeEventKind, BakeRequest, BakeRequestSchema, BakeTrigger};
use schemas::names::{BakeSubject, BakeTriggerSubject};
use schemas::{HostClass, Source, Token, WorkerState};
use source::SourceError;
use store::Fault;
use tracing::{info, warn};

use super::Server;
use super::outcome::{self, Outcome};
use super::queue::Handler;
use crate::events::{Author, Events};
use crate::news::News;

/// Turns triggers into requests.
pub(super) struct Triggers(pub(super) Arc<Server>);

/// A trigger, and from whom it is.
struct Triggered {
    subject: BakeTriggerSubject,
    source: Source,
    request_id: Token,
    /// Its place in the stream of triggers.
    sequence: u64,
}

#[async_trait]
impl Handler for Triggers {
    async fn handle(&self, message: &Message) -> Outcome {
        let triggered = match read(message) {
            Ok(triggered) => triggered,
            Err(problem) => {
                warn!(subject = %message.subject, problem, "not a trigger");
                return Outcome::Settled;
            }
        };
        let events = self.events(&triggered);
        match self.request(&triggered).await {
            Ok(classes) => {
                let (tenant, environment) =
                    (&triggered.subject.tenant, &triggered.subject.environment);
                info!(%tenant, %environment, classes = classes.len(), "triggered");
                if classes.is_empty() {
                    let sentence = "no worker is alive, so there is no host class to bake for";
                    let news = News::new(BakeEventKind::Failed, sentence).because("no_worker");
                    return Outcome::Settled.once(events.tell_surely(news).await);
                }
                Outcome::Settled
            }
            Err(error) => self.failed(message, &error, &events).await,
        }
    }

    async fn abandon(&self, _message: &Message) -> Outcome {
        Outcome::Again(outcome::ABANDONED_FOR)
    }
}

impl Triggers {
    /// Fetches the source, so that it lies in the object store, and asks every class for its environment.
    async fn request(&self, triggered: &Triggered) -> Result<BTreeSet<HostClass>, TriggerError> {
        let server = &self.0;
        let source = server
            .resolve(&triggered.subject, &triggered.source)
            .await?;
        let classes = alive(&server.workers).await.map_err(TriggerError::Nats)?;
        for class in &classes {
            let publishing = server.publish_request(triggered, &source, class);
            publishing.await.map_err(TriggerError::Nats)?;
        }
        Ok(classes)
    }

    async fn failed(&self, message: &Message, error: &TriggerError, events: &Events) -> Outcome {
        let sentence = Causes(error).to_string();
        let outcome = outcome::after(error.fault(), outcome::tries(message));
        warn!(subject = %message.subject, error = sentence, "trigger failed");
        let news = match outcome {
            Outcome::Settled => News::new(BakeEventKind::Failed, sentence),
            Outcome::Again(_) => News::new(BakeEventKind::Retrying, sentence),
        };
        outcome.once(events.tell_surely(news.because(error.reason())).await)
    }

    fn events(&self, triggered: &Triggered) -> Events {
        Events::new(
            self.0.jetstream.clone(),
            &triggered.subject.tenant,
            &triggered.subject.environment,
            triggered.request_id.clone(),
            Author {
                class: self.0.bakery.class().clone(),
                trust: triggered.subject.trust,
            },
        )
    }
}

impl Server {
    /// Where the source lies once it is in the object store.
    async fn resolve(
        &self,
        subject: &BakeTriggerSubject,
        source: &Source,
    ) -> Result<Source, SourceError> {
        let scratch = tempfile::tempdir_in(self.work()).map_err(SourceError::Spool)?;
        let (tenant, trust) = (&subject.tenant, subject.trust);
        let fetching = self.sources.fetch(tenant, trust, source, scratch.path());
        let fetched = Box::pin(fetching).await?;
        Ok(Source::Archive(fetched.stored))
    }

    async fn publish_request(
        &self,
        triggered: &Triggered,
        source: &Source,
        class: &HostClass,
    ) -> anyhow::Result<()> {
        let subject = BakeSubject {
            class: class.clone(),
            trust: triggered.subject.trust,
            tenant: triggered.subject.tenant.clone(),
            environment: triggered.subject.environment.clone(),
        };
        let request = BakeRequest {
            schema: BakeRequestSchema,
            request_id: triggered.request_id.clone(),
            tenant: None,
            trust: None,
            environment: subject.environment.clone(),
            definition: None,
            source: source.clone(),
            key: None,
            again: true,
        };
        // A trigger that is delivered again asks again for nothing; its place in the stream is nobody's choice.
        let id = format!("bake-trigger-{}-{class}", triggered.sequence);
        self.ask(&subject, &request, id).await
    }

    /// Publishes a request.
    pub(super) async fn ask(
        &self,
        subject: &BakeSubject,
        request: &BakeRequest,
        message_id: String,
    ) -> anyhow::Result<()> {
        let body = serde_json::to_vec(request).context("write a bake request")?;
        let message = PublishMessage::build()
            .message_id(message_id)
            .payload(body.into());
        let doing = || format!("publish the request to {subject}");
        let sent = self.jetstream.send_publish(subject.to_string(), message);
        sent.await.with_context(doing)?.await.with_context(doing)?;
        Ok(())
    }
}

/// Why a trigger leads to no request.
#[derive(Debug, thiserror::Error)]
enum TriggerError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("ask for the bakes that a trigger leads to")]
    Nats(#[source] anyhow::Error),
}

impl TriggerError {
    fn fault(&self) -> Fault {
        match self {
            Self::Source(error) => error.fault(),
            Self::Nats(_) => Fault::Host,
        }
    }

    fn reason(&self) -> &'static str {
        match (self, self.fault()) {
            (Self::Source(_), Fault::Job | Fault::Message) => "invalid_source",
            (Self::Source(_), Fault::Host) => "source_unavailable",
            (Self::Nats(_), _) => "host_failed",
        }
    }
}

fn read(message: &Message) -> Result<Triggered, String> {
    let subject = message.subject.parse::<BakeTriggerSubject>();
    let subject = subject.map_err(|error| error.to_string())?;
    let trigger = BakeTrigger::parse(&message.payload).map_err(|error| error.to_string())?;
    let sequence = message.info().map_or(0, |info| info.stream_sequence);
    let made_up = || format!("trigger-{sequence}").parse();
    let request_id = trigger.request_id.map_or_else(made_up, Ok);
    Ok(Triggered {
        subject,
        source: trigger.source,
        sequence,
        request_id: request_id.expect("a word and a number make a token"),
    })
}

/// The host classes of all workers that are alive. What is no worker's state is nobody's.
async fn alive(workers: &kv::Store) -> anyhow::Result<BTreeSet<HostClass>> {
    let keys = workers.keys().await.context("list the workers")?;
    let keys: Vec<String> = keys.try_collect().await.context("list the workers")?;
    let mut classes = BTreeSet::new();
    for key in keys {
        let state = workers.get(&key).await.context("look at a worker")?;
        if let Some(Ok(state)) = state.map(|body| WorkerState::parse(&body)) {
            classes.insert(state.class);
        }
    }
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream;
    use serde_json::json;

    use super::*;

    /// Needs a server: `NATS_URL` names one that stores streams.
    #[tokio::test]
    async fn every_class_that_has_a_worker_is_asked_once() {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return;
        };
        let client = async_nats::connect(url).await.unwrap();
        let config = kv::Config {
            bucket: format!("workers-{}", uuid::Uuid::now_v7()),
            ..kv::Config::default()
        };
        let workers = jetstream::new(client).create_key_value(config).await;
        let workers = workers.unwrap();
        assert!(alive(&workers).await.unwrap().is_empty());
        let classes = ["qemu-7_2-tcg-0123abcd", "qemu-8_2-kvm-89abcdef"];
        for (name, class) in [("w1", classes[0]), ("w2", classes[1]), ("w3", classes[0])] {
            let state = json!({
                "name": name, "pool": "default", "trust": ["trusted"], "class": class, "slots": 1, "running": 0,
                "parked": 0, "snapshots": [], "state": "ready", "time": "2026-01-01T00:00:00Z"
            });
            let body = serde_json::to_vec(&state).unwrap();
            workers.put(name, body.into()).await.unwrap();
        }
        workers.put("w4", "no worker".into()).await.unwrap();
        let found = alive(&workers).await.unwrap();
        let found: Vec<_> = found.iter().map(HostClass::as_str).collect();
        assert_eq!(found, classes);
    }
}
