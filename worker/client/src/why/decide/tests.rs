//! Every standing, from the facts that lead to it.

mod held;

use jiff::{SignedDuration, Timestamp};
use schemas::event::{Event, EventSchema};
use schemas::record::{Attempt, AttemptEndKind, JobRecord};
use schemas::worker::{WorkerCondition, WorkerSchema};
use schemas::{Open, Reason, Sha256Digest, Trust};

use super::super::facts::Cap;
use super::*;
use crate::job_name::JobName;
use crate::queue::Queued;
use crate::summary::tests::result;

/// A job that waits, with one worker that has no slot for it.
fn queued() -> Facts {
    Facts {
        now: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60),
        result: None,
        record: None,
        cancelled: false,
        holder: Holder::Nobody,
        event: None,
        place: Place::Queued(Queued {
            subject: "build.job.default.untrusted.5.acme".parse().unwrap(),
            sequence: 7,
            since: Timestamp::UNIX_EPOCH,
            queue_s: Some(3600),
            before: Vec::new(),
        }),
        ahead: Some(2),
        workers: Some(vec![worker("w1", WorkerCondition::Ready)]),
        cap: None,
        not_known: Vec::new(),
    }
}

fn worker(name: &str, condition: WorkerCondition) -> WorkerState {
    WorkerState {
        schema: WorkerSchema,
        name: name.parse().unwrap(),
        pool: "default".parse().unwrap(),
        trust: vec![Trust::Untrusted],
        class: "qemu-a".parse().unwrap(),
        slots: 2,
        slot_vcpu: 1,
        slot_memory_mib: 1024,
        running: 2,
        parked: 0,
        snapshots: Vec::new(),
        state: condition.into(),
        reason: Some("no space left".to_owned()),
        time: Timestamp::UNIX_EPOCH,
    }
}

/// A record of attempts that ended so, or have not.
fn record(ends: &[Option<AttemptEndKind>]) -> JobRecord {
    let mut record = JobRecord::new(Sha256Digest::of("body"));
    for end in ends {
        let mut attempt = Attempt::begin("w1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let message = "the disk is full";
        attempt.end = end.map(|kind| AttemptEnd::now(kind, Some(Reason::HostFailed), message));
        record.attempts.push(attempt);
    }
    record
}

fn event(kind: EventKind) -> Event {
    Event {
        schema: EventSchema,
        job_id: "j1".parse().unwrap(),
        attempt: 1,
        seq: 1,
        time: Timestamp::UNIX_EPOCH,
        kind: Open::Known(kind),
        step: None,
        message: Some("waits for the bake of widget".to_owned()),
    }
}

fn said(facts: &Facts) -> String {
    let job = JobName {
        tenant: "acme".parse().unwrap(),
        id: "j1".parse().unwrap(),
    };
    decide(facts).sentence(&job)
}

/// For each line of the table in the documentation, facts that it holds for, and no line before it.
fn of_each_line() -> Vec<Facts> {
    let held = Facts {
        holder: Holder::One("w1".to_owned()),
        ..queued()
    };
    let absent = Facts {
        place: Place::Absent,
        ..queued()
    };
    let failed = Some(record(&[Some(AttemptEndKind::Failed)]));
    let late = queued().now + SignedDuration::from_hours(1);
    let at_cap = Cap {
        concurrency: 1,
        held: 1,
    };
    let resting = vec![worker("w1", WorkerCondition::Paused)];
    vec![
        Facts {
            result: Some(result(Reason::Completed, Some(0))),
            ..absent.clone()
        },
        absent.clone(),
        Facts {
            record: failed.clone(),
            ..absent
        },
        Facts {
            cancelled: true,
            ..held.clone()
        },
        Facts {
            event: Some(event(EventKind::Parked)),
            ..held.clone()
        },
        Facts {
            record: Some(record(&[None])),
            ..held.clone()
        },
        held,
        Facts {
            record: Some(record(&[None])),
            ..queued()
        },
        Facts {
            place: Place::Unknown,
            ..queued()
        },
        Facts {
            now: late,
            ..queued()
        },
        Facts {
            workers: Some(vec![]),
            ..queued()
        },
        Facts {
            workers: Some(resting),
            ..queued()
        },
        Facts {
            cap: Some(at_cap),
            ..queued()
        },
        Facts {
            record: failed,
            ..queued()
        },
        queued(),
    ]
}

#[test]
fn the_table_above_is_what_is_decided() {
    let lines = include_str!("../decide.rs").lines();
    let rows = lines.filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
    let documented = rows
        .filter_map(|row| row.rsplit_once(" | "))
        .map(|(_, word)| word);
    // Below the heads and the rule.
    let documented: Vec<_> = documented.skip(2).collect();
    let decided: Vec<_> = of_each_line()
        .iter()
        .map(|facts| {
            let standing = serde_json::to_value(decide(facts)).unwrap();
            standing["state"].as_str().unwrap().replace('_', " ")
        })
        .collect();
    assert_eq!(decided, documented);
}

#[test]
fn a_job_that_waits_is_told_what_for() {
    let waiting = queued();
    let one = "job j1 waits for a slot: workers 1, slots 2, running 2";
    let ahead = "; ahead of it, of its tenant and priority: 2";
    assert_eq!(said(&waiting), format!("{one}{ahead}"));
    let next = Facts {
        ahead: Some(0),
        ..queued()
    };
    let first = "; it is the next of its tenant and priority";
    assert_eq!(said(&next), format!("{one}{first}"));
    let capped = |held| Facts {
        cap: Some(Cap {
            concurrency: 3,
            held,
        }),
        ..queued()
    };
    assert_eq!(said(&capped(2)), said(&waiting));
    let full = "job j1 waits, since its tenant runs as many jobs as it may, 3";
    assert_eq!(said(&capped(3)), format!("{full}{ahead}"));
    let again = Facts {
        record: Some(record(&[
            Some(AttemptEndKind::Returned),
            Some(AttemptEndKind::Failed),
        ])),
        ..queued()
    };
    let tried = "job j1 will be tried again (attempts that count: 1): the disk is full";
    assert_eq!(said(&again), format!("{tried}{ahead}"));
}

#[test]
fn a_job_that_no_worker_takes_is_told_why_none_does() {
    let with = |workers: Vec<WorkerState>| Facts {
        workers: Some(workers),
        ..queued()
    };
    let trusted = WorkerState {
        trust: vec![Trust::Trusted],
        ..worker("w2", WorkerCondition::Ready)
    };
    let none = "none that is alive takes untrusted jobs of pool default";
    assert!(said(&with(vec![])).contains(none));
    assert!(said(&with(vec![trusted])).contains("(alive for others: 1)"));
    let resting = with(vec![
        worker("w1", WorkerCondition::Paused),
        worker("w2", WorkerCondition::Draining),
    ]);
    let each = "w1 is paused (no space left); w2 is draining (no space left)";
    assert!(said(&resting).ends_with(each), "{}", said(&resting));
    let unknown = Facts {
        workers: None,
        ahead: None,
        ..queued()
    };
    assert_eq!(said(&unknown), "job j1 waits for a slot");
}

#[test]
fn a_job_that_waited_too_long_is_expired_unless_an_attempt_counts() {
    let late = Facts {
        now: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(3601),
        ..queued()
    };
    assert_eq!(decide(&late), Standing::Expired { queue_s: 3600 });
    let given_back = Facts {
        record: Some(record(&[Some(AttemptEndKind::Returned)])),
        ..late.clone()
    };
    assert_eq!(decide(&given_back), Standing::Expired { queue_s: 3600 });
    let tried = Facts {
        record: Some(record(&[Some(AttemptEndKind::Failed)])),
        ..late
    };
    assert!(matches!(decide(&tried), Standing::Retrying { .. }));
}
