//! What the sentence was concluded from, one fact a row.

use schemas::event::Event;
use schemas::record::Attempt;
use schemas::worker::WorkerState;
use serde::Serialize;

use super::facts::{Cap, Facts, condition};
use crate::logs::in_words;
use crate::queue::Queued;
use crate::summary::one_line;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// What it is about.
    pub(crate) about: &'static str,
    /// The fact.
    pub(crate) text: String,
}

/// All that is known, the job's own first.
pub(crate) fn rows(facts: &Facts) -> Vec<Row> {
    let queued = facts.queued();
    let serving = queued.and_then(|queued| facts.serving(&queued.subject));
    let attempts = facts.attempts().iter().enumerate();
    let row = |about| move |text| Row { about, text };
    let before = [
        queued.map(place).map(row("queued")),
        facts.holder.name().map(one_line).map(row("holder")),
    ];
    let after = [
        facts.event.as_ref().map(event).map(row("event")),
        facts.cap.map(cap).map(row("cap")),
    ];
    let attempts = attempts.map(|(index, one)| begun(index + 1, one));
    let workers = serving.unwrap_or_default().into_iter().map(worker);
    let all = before.into_iter().flatten();
    all.chain(attempts.map(row("attempt")))
        .chain(after.into_iter().flatten())
        .chain(workers.map(row("worker")))
        .collect()
}

fn place(queued: &Queued) -> String {
    let limit = queued
        .queue_s
        .map_or_else(String::new, |queue_s| format!(", for at most {queue_s} s"));
    format!(
        "since {:.0} on {} as message {}{limit}",
        queued.since, queued.subject, queued.sequence
    )
}

fn begun(number: usize, attempt: &Attempt) -> String {
    let words = in_words(number, attempt);
    format!("{words}, begun {:.0}", attempt.started_at)
}

fn event(event: &Event) -> String {
    let message = event.message.as_deref().map(one_line).unwrap_or_default();
    format!(
        "{} {:.0} {message}",
        one_line(&event.kind.to_string()),
        event.time
    )
}

fn cap(cap: Cap) -> String {
    format!("{} of {} places held", cap.held, cap.concurrency)
}

fn worker(worker: &WorkerState) -> String {
    let reason = worker.reason.as_deref().map(one_line);
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!(
        "{} {}, {} of {} slots, {} parked{reason}",
        worker.name,
        one_line(condition(worker)),
        worker.running,
        worker.slots,
        worker.parked
    )
}
