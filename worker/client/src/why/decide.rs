//! From what is known of a job to where it stands. The first line that holds is the answer:
//!
//! | what is known | it stands |
//! | --- | --- |
//! | a result | finished |
//! | not in the queue, no record, no holder | not found |
//! | not in the queue, a record, no holder | vanished |
//! | a cancel | cancelling |
//! | a holder or perhaps one, and its last event is `parked` or `baking` | parked |
//! | a holder or perhaps one, and an attempt without an end | running |
//! | a holder | claimed |
//! | an attempt without an end | lost |
//! | the queue could not be looked through, and no record | unseen |
//! | no attempt that counts, and longer in the queue than it may be | expired |
//! | no worker for its pool and trust | no worker |
//! | none of them takes jobs | paused |
//! | its tenant's places are all held | at cap |
//! | an attempt that has ended | retrying |
//! | nothing of all that | waiting |

use schemas::event::EventKind;
use schemas::record::AttemptEnd;
use schemas::worker::WorkerState;

use super::facts::{Facts, Holder, condition, is_ready};
use super::standing::{Serving, Standing};
use crate::queue::Place;
use crate::summary::one_line;

/// Where the job stands.
pub(crate) fn decide(facts: &Facts) -> Standing {
    finished(facts)
        .or_else(|| absent(facts))
        .or_else(|| cancelling(facts))
        .or_else(|| held(facts))
        .or_else(|| lost(facts))
        .or_else(|| unseen(facts))
        .or_else(|| expired(facts))
        .or_else(|| no_worker(facts))
        .or_else(|| at_cap(facts))
        .or_else(|| retrying(facts))
        .unwrap_or_else(|| waiting(facts))
}

fn finished(facts: &Facts) -> Option<Standing> {
    let result = facts.result.as_ref()?;
    Some(Standing::Finished {
        status: result.status,
        reason: result.reason.clone(),
        message: result.message.clone(),
    })
}

fn absent(facts: &Facts) -> Option<Standing> {
    match (&facts.place, &facts.holder, &facts.record) {
        (Place::Absent, Holder::Nobody, None) => Some(Standing::NotFound),
        (Place::Absent, Holder::Nobody, Some(_)) => Some(Standing::Vanished),
        (Place::Absent, Holder::One(_) | Holder::Unknown, _)
        | (Place::Queued(_) | Place::Unknown, ..) => None,
    }
}

fn cancelling(facts: &Facts) -> Option<Standing> {
    facts.cancelled.then(|| Standing::Cancelling {
        holder: facts.holder.name().map(str::to_owned),
    })
}

fn held(facts: &Facts) -> Option<Standing> {
    if facts.holder == Holder::Nobody {
        return None;
    }
    let holder = facts.holder.name().map(str::to_owned);
    if let Some(event) = &facts.event
        && let Some(EventKind::Parked | EventKind::Baking) = event.kind.known()
    {
        return Some(Standing::Parked {
            holder,
            message: event
                .message
                .clone()
                .unwrap_or_else(|| event.kind.to_string()),
            since: event.time,
        });
    }
    let Some((attempt, open)) = facts.open_attempt() else {
        return holder.map(|holder| Standing::Claimed { holder });
    };
    let alive = |workers: &Vec<WorkerState>| workers.iter().any(|one| one.name == open.worker);
    Some(Standing::Running {
        worker: open.worker.clone(),
        attempt,
        since: open.started_at,
        alive: facts.workers.as_ref().map(alive),
    })
}

fn lost(facts: &Facts) -> Option<Standing> {
    let (attempt, open) = facts.open_attempt()?;
    Some(Standing::Lost {
        worker: open.worker.clone(),
        attempt,
    })
}

fn unseen(facts: &Facts) -> Option<Standing> {
    (facts.place == Place::Unknown && facts.record.is_none()).then_some(Standing::Unseen)
}

fn expired(facts: &Facts) -> Option<Standing> {
    let queued = facts.queued()?;
    let queue_s = queued.queue_s?;
    let waited = facts.now.duration_since(queued.since).as_secs();
    let over = facts.counted() == 0 && waited > i64::from(queue_s);
    over.then_some(Standing::Expired { queue_s })
}

fn no_worker(facts: &Facts) -> Option<Standing> {
    let subject = &facts.queued()?.subject;
    let serving = facts.serving(subject)?;
    if serving.is_empty() {
        return Some(Standing::NoWorker {
            subject: subject.clone(),
            others: facts.workers.as_ref().map_or(0, Vec::len),
        });
    }
    if serving.iter().any(|worker| is_ready(worker)) {
        return None;
    }
    let said = |worker: &&WorkerState| {
        let reason = worker.reason.as_deref().map(one_line);
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        format!("{} is {}{reason}", worker.name, one_line(condition(worker)))
    };
    Some(Standing::Paused {
        workers: serving.iter().map(said).collect(),
    })
}

fn at_cap(facts: &Facts) -> Option<Standing> {
    let cap = facts.cap?;
    (cap.held >= cap.concurrency).then_some(Standing::AtCap {
        concurrency: cap.concurrency,
        ahead: facts.ahead,
    })
}

fn retrying(facts: &Facts) -> Option<Standing> {
    let last: &AttemptEnd = facts.attempts().last()?.end.as_ref()?;
    Some(Standing::Retrying {
        counted: facts.counted(),
        message: last.message.clone(),
        ahead: facts.ahead,
    })
}

fn waiting(facts: &Facts) -> Standing {
    let queued = facts.queued();
    let serving = queued.and_then(|queued| facts.serving(&queued.subject));
    Standing::Waiting {
        ahead: facts.ahead,
        serving: serving.map(|workers| sum(&workers)),
    }
}

fn sum(workers: &[&WorkerState]) -> Serving {
    let mut all = Serving::default();
    for worker in workers.iter().filter(|worker| is_ready(worker)) {
        all.workers += 1;
        all.slots = all.slots.saturating_add(worker.slots);
        all.running = all.running.saturating_add(worker.running);
    }
    all
}

#[cfg(test)]
mod tests;
