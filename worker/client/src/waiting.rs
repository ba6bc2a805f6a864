//! What is told of a job that does not run yet: that it waits for a bake, and how far that is.

use async_nats::jetstream::Message;
use bus::follow::{self, Followed};
use schemas::event::{Event, EventKind};
use schemas::names::{event_subject, stream};
use tokio::sync::mpsc;

use crate::hear::hear;
use crate::job_name::JobName;
use crate::live::Source;
use crate::summary::one_line;

/// Sends every event of the job to `events`, until nobody listens.
pub(crate) async fn follow(source: Source, job: JobName, events: mpsc::Sender<Event>) {
    let jetstream = match source {
        Source::Stream(jetstream) => jetstream,
        Source::Heard(heard) => return hear(heard, event, events).await,
    };
    let followed = Followed {
        stream: stream::EVENTS,
        subject: event_subject(&job.tenant, &job.id),
        name: format!("events-{}-{}", job.id, std::process::id()),
        next_sequence: 1,
    };
    let read = |message: &Message| event(message);
    follow::follow(jetstream, followed, read, events).await;
}

fn event(message: &async_nats::Message) -> Option<Event> {
    Event::parse(&message.payload).ok()
}

/// What was told last, so that nothing is told twice: a job is parked again whenever another worker takes it.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    told: Option<String>,
}

impl Waiting {
    /// The line for an event, if it has one.
    pub(crate) fn line(&mut self, event: &Event) -> Option<String> {
        let message = event.message.as_deref().map(one_line);
        let line = match event.kind.known()? {
            EventKind::Parked => {
                let message = message.unwrap_or_else(|| "waits for a bake".to_owned());
                format!("parked: {message}")
            }
            EventKind::Baking => format!("baking: {}", message.unwrap_or_default()),
            EventKind::Retrying => {
                format!("trying again: {}", message.unwrap_or_default())
            }
            EventKind::Queued
            | EventKind::Claimed
            | EventKind::Forked
            | EventKind::SourceReady
            | EventKind::StepStarted
            | EventKind::StepFinished
            | EventKind::ArtifactUploaded
            | EventKind::EgressDenied
            | EventKind::Returned
            | EventKind::Cancelling
            | EventKind::Refused
            | EventKind::Finished => return None,
        };
        if self.told.as_ref() == Some(&line) {
            return None;
        }
        self.told = Some(line.clone());
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use schemas::Open;
    use schemas::event::EventSchema;

    use super::*;

    fn event(kind: EventKind, message: Option<&str>) -> Event {
        Event {
            schema: EventSchema,
            job_id: "job".parse().unwrap(),
            attempt: 1,
            seq: 1,
            time: jiff::Timestamp::UNIX_EPOCH,
            kind: Open::Known(kind),
            step: None,
            message: message.map(str::to_owned),
        }
    }

    #[test]
    fn a_wait_is_told_in_words_and_once() {
        let mut waiting = Waiting::default();
        let parked = event(
            EventKind::Parked,
            Some("waits for the bake of environment widget"),
        );
        let line = waiting.line(&parked);
        assert_eq!(
            line.as_deref(),
            Some("parked: waits for the bake of environment widget")
        );
        assert_eq!(waiting.line(&parked), None);
        assert_eq!(waiting.line(&event(EventKind::StepStarted, None)), None);
        let baking = event(EventKind::Baking, Some("setup step deps: 4.0 s\u{1b}[2J"));
        let line = waiting.line(&baking).unwrap();
        assert!(line.starts_with("baking: setup step deps") && !line.contains('\u{1b}'));
        assert!(waiting.line(&parked).is_some(), "it waits again");
    }
}
