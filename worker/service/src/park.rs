//! Waiting for a bake, without a slot.
//!
//! ```text
//! failed not long ago? ──yes─────────────────────────────────────────────────────────────▶ Failed
//!     │ no
//! watch pointer and failure ─ request the bake ─┬─ the pointer appears ──────────────────▶ LookAgain
//!                             ▲     60 s        ├─ a failure is written, or told ─────────▶ Failed
//!                             ╰─────────────────┤
//!                                               ╰─ timeouts.queue_s is over ─────────────▶ Failed
//! ```
//!
//! What always holds: the watch begins before the bake is requested, and gives what stood there before it began, so no end
//! of a bake is missed; a server that is away costs time and nothing else.

mod failed;
mod wanted;

use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::kv::{Entry, Watch};
use async_nats::jetstream::message::PublishMessage;
use bus::follow::{Followed, follow};
use bus::retry::{Failure, Policy, with};
use futures_util::StreamExt;
use jiff::Timestamp;
use schemas::Token;
use schemas::bake::{BakeEvent, BakeEventKind, BakeFailure, BakeRequest, BakeRequestSchema};
use schemas::event::EventKind;
use schemas::names::{self, BakeSubject, stream};
use schemas::reason::Reason;
use schemas::result::LogRef;
use schemas::source::{ArchiveSource, Source};
use store::NoProgress;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

pub use failed::FailedBake;
use failed::read_failure;

use crate::events::Events;
use crate::resolve::{Missing, Wanted};
use crate::services::Services;
use crate::verdict::{self, Verdict};

/// 1 min between two requests of one bake: a bakery may have lost the first with its disk, or its failure was another job's.
/// Most change nothing, since the stream takes one message of an id within its two minutes, and a bakery that finds the
/// snapshot bakes none.
const REQUEST_EVERY: Duration = Duration::from_mins(1);

/// Events of bakes that wait to be read.
const EVENTS_AHEAD: usize = 64;

/// A job that waits for a bake.
pub struct Parked<'a> {
    /// What it shares with others.
    pub services: &'a Services,
    /// Whose it is.
    pub tenant: &'a Token,
    /// What it waits for.
    pub missing: &'a Missing,
    /// Whether the environment came with the job, so that no bakery knows it.
    pub inline: bool,
    /// Where its source lies.
    pub source: &'a ArchiveSource,
    /// Where it is said that it waits.
    pub events: &'a Events,
    /// Until when.
    pub until: Instant,
}

/// How the wait ended.
#[derive(Debug, PartialEq)]
pub enum Waited {
    /// The snapshot is there, or another one is wanted now.
    LookAgain,
    /// There will be none, and the job has this verdict. The bake's own log, where it has one.
    Failed(Verdict, Option<LogRef>),
}

impl Parked<'_> {
    /// Requests the bake and waits for its end, for no longer than the job may.
    pub async fn wait(&self) -> Waited {
        tokio::select! {
            waited = Box::pin(self.bake_ended()) => waited,
            () = Box::pin(self.prepare()) => unreachable!("it waits for the others"),
            () = tokio::time::sleep_until(self.until) => {
                let message = format!(
                    "it waited for the bake of {} longer than timeouts.queue_s allows",
                    self.missing.in_words()
                );
                Waited::Failed(Verdict::new(Reason::QueueExpired, message), None)
            }
        }
    }

    /// Fetches the template's snapshot: most chunks of the environment's are in it, and are copied from there once the bake has
    /// ended, which takes a fraction of the time.
    async fn prepare(&self) {
        if let Some(template) = &self.missing.template
            && let Err(error) = self.services.store.fetch(template, &NoProgress).await
        {
            warn!(error = %bus::telemetry::Causes(&error), "the template's snapshot was not fetched ahead");
        }
        std::future::pending::<()>().await;
    }

    async fn bake_ended(&self) -> Waited {
        let before = self.failure_before().await;
        if let Some((failure, _)) = &before
            && failure.retry_at > Timestamp::now()
        {
            return self.failed(failure.into());
        }
        let answered = before.map_or(0, |(_, revision)| revision);
        let withdrawn = self.withdrawn().await;
        let request_id = self.missing.request_id(self.source);
        let (sender, mut heard) = mpsc::channel(EVENTS_AHEAD);
        // Never ends by itself, and with this future.
        let following = self.follow(sender).await;
        tokio::pin!(following);
        let mut request = interval(REQUEST_EVERY);
        request.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut watch = Box::pin(self.watch()).await;
            loop {
                tokio::select! {
                    entry = watch.next() => {
                        // A watch that breaks is begun again.
                        let Some(Ok(entry)) = entry else { break };
                        if let Some(waited) = self.read_entry(&entry, answered) {
                            return waited;
                        }
                    }
                    Some(event) = heard.recv() => {
                        if self.missing.is_about(&event, &request_id)
                            && let Some(waited) = self.read_event(&event).await
                        {
                            return waited;
                        }
                    }
                    _ = request.tick() => self.request(&request_id, withdrawn).await,
                    () = &mut following => {}
                }
            }
        }
    }

    /// Why the last bake of the key failed, and since which write that is known.
    async fn failure_before(&self) -> Option<(BakeFailure, u64)> {
        let Wanted::Key(key) = &self.missing.wanted else {
            return None;
        };
        let entry = self.entry(&names::bake_failure(key)).await?;
        read_failure(&entry).map(|failure| (failure, entry.revision))
    }

    /// The mark that the key's pointer left when it was taken away; 0 where it never had one.
    async fn withdrawn(&self) -> u64 {
        let Wanted::Key(key) = &self.missing.wanted else {
            return 0;
        };
        let entry = self.entry(&names::snapshot_pointer(key)).await;
        entry.map_or(0, |entry| entry.revision)
    }

    async fn entry(&self, name: &str) -> Option<Entry> {
        let entry = with(Policy::FOREVER, "read what is known of a bake", || {
            let entry = self.services.snapshots.entry(name.to_owned());
            async { entry.await.map_err(Failure::Transient) }
        });
        entry.await.ok().flatten()
    }

    /// The pointer and the failure, as they are now and as they change.
    async fn watch(&self) -> Watch {
        let keys = self.missing.watched();
        let watch = with(Policy::FOREVER, "watch for a snapshot", || {
            let watch = self.services.snapshots.watch_many_with_history(keys.iter());
            async { watch.await.map_err(Failure::Transient) }
        });
        Box::pin(watch)
            .await
            .expect("a policy without end gives no error")
    }

    /// The events of bakes of the environment from now on, into `sender`.
    async fn follow(&self, sender: mpsc::Sender<BakeEvent>) -> impl Future<Output = ()> + use<> {
        let jetstream = self.services.jetstream.clone();
        let last = with(Policy::FOREVER, "look at the events of bakes", || {
            let stored = jetstream.get_stream(stream::BAKE_EVENTS);
            async { stored.await.map_err(Failure::Transient) }
        });
        let last = last.await.expect("a policy without end gives no error");
        let followed = Followed {
            stream: stream::BAKE_EVENTS,
            subject: names::bake_event_subject(self.tenant, &self.missing.environment.name),
            name: format!("parked-{}", Uuid::now_v7()),
            next_sequence: last.cached_info().state.last_sequence + 1,
        };
        let read = |message: &Message| BakeEvent::parse(&message.payload).ok();
        follow(jetstream, followed, read, sender)
    }

    /// Publishes the request. One that does not get away is sent again with the next.
    async fn request(&self, request_id: &Token, withdrawn: u64) {
        let Missing {
            class,
            trust,
            environment,
            wanted,
            ..
        } = self.missing;
        let subject = BakeSubject {
            class: class.clone(),
            trust: *trust,
            tenant: self.tenant.clone(),
            environment: environment.name.clone(),
        };
        let request = BakeRequest {
            schema: BakeRequestSchema,
            request_id: request_id.clone(),
            tenant: None,
            trust: None,
            environment: environment.name.clone(),
            definition: self.inline.then(|| Box::new(environment.clone())),
            source: Source::Archive(self.source.clone()),
            key: wanted.key(),
            again: false,
        };
        let id = wanted.message_id(&subject, &request, withdrawn);
        let body = serde_json::to_vec(&request).expect("a request of plain fields is JSON");
        let message = PublishMessage::build().payload(body.into()).message_id(&id);
        let jetstream = &self.services.jetstream;
        let published = async {
            jetstream
                .send_publish(subject.to_string(), message)
                .await?
                .await
        };
        match published.await {
            Ok(ack) if ack.duplicate => {}
            Ok(_) => info!(message_id = id, %request_id, "bake requested"),
            Err(error) => warn!(message_id = id, %error, "bake not requested, trying again"),
        }
    }

    fn read_entry(&self, entry: &Entry, answered: u64) -> Option<Waited> {
        if let Wanted::Key(key) = &self.missing.wanted
            && entry.key == names::bake_failure(key)
        {
            let failure = read_failure(entry).filter(|_| entry.revision > answered)?;
            return Some(self.failed((&failure).into()));
        }
        let ended = self.missing.is_ended_by(entry.operation, &entry.value);
        ended.then_some(Waited::LookAgain)
    }

    async fn read_event(&self, event: &BakeEvent) -> Option<Waited> {
        match event.kind.known()? {
            BakeEventKind::Requested
            | BakeEventKind::Started
            | BakeEventKind::StepFinished
            | BakeEventKind::Transferring
            | BakeEventKind::Retrying => {
                let message = event.message.clone();
                self.events.say(EventKind::Baking, None, message).await;
                None
            }
            // The pointer says so, and says it to those as well whose request was one too many.
            BakeEventKind::Published => None,
            BakeEventKind::Failed => Some(self.failed(event.into())),
        }
    }

    fn failed(&self, bake: FailedBake) -> Waited {
        match bake.reason.as_str() {
            // The template or the definition changed since: it has another key now.
            "key_mismatch" => Waited::LookAgain,
            _ => Waited::Failed(
                verdict::of_failed_bake(&self.missing.environment.name, &bake),
                bake.log,
            ),
        }
    }
}

#[cfg(test)]
mod tests;
