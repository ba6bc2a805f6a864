//! What the sentence was concluded from, one fact a row.

use schemas::worker::WorkerState;
use serde::Serialize;

use super::facts::{Facts, condition};
use crate::logs::in_words;
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
    let mut rows = Vec::new();
    let mut add = |about, text| rows.push(Row { about, text });
    if let Some(queued) = facts.queued() {
        let limit = queued
            .queue_s
            .map_or_else(String::new, |queue_s| format!(", for at most {queue_s} s"));
        add(
            "queued",
            format!(
                "since {:.0} on {} as message {}{limit}",
                queued.since, queued.subject, queued.sequence
            ),
        );
    }
    if let Some(holder) = facts.holder.name() {
        add("holder", one_line(holder));
    }
    for (index, attempt) in facts.attempts().iter().enumerate() {
        let words = in_words(index + 1, attempt);
        add(
            "attempt",
            format!("{words}, begun {:.0}", attempt.started_at),
        );
    }
    if let Some(event) = &facts.event {
        let message = event.message.as_deref().map(one_line).unwrap_or_default();
        add(
            "event",
            format!("{} {:.0} {message}", event.kind, event.time),
        );
    }
    if let Some(cap) = facts.cap {
        add(
            "cap",
            format!("{} of {} places held", cap.held, cap.concurrency),
        );
    }
    let serving = facts
        .queued()
        .and_then(|queued| facts.serving(&queued.subject));
    for one in serving.unwrap_or_default() {
        add("worker", worker(one));
    }
    rows
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
