//! Jobs that somebody has or had, and those of which little is known.

use super::*;

#[test]
fn a_job_that_somebody_holds_runs_or_is_prepared_or_parked() {
    let held = Facts {
        holder: Holder::One("w1".to_owned()),
        ..queued()
    };
    assert_eq!(
        said(&held),
        "job j1 is with w1, which prepares it or ends it"
    );
    let running = Facts {
        record: Some(record(&[None])),
        ..held.clone()
    };
    let since = "since 1970-01-01T00:00:00Z, attempt 1";
    assert_eq!(said(&running), format!("job j1 runs on w1 {since}"));
    let silent = Facts {
        workers: Some(vec![]),
        ..running.clone()
    };
    assert!(said(&silent).contains("w1, which says nothing more, since"));
    for kind in [EventKind::Parked, EventKind::Baking] {
        let parked = Facts {
            event: Some(event(kind)),
            ..held.clone()
        };
        assert!(said(&parked).contains("is parked with w1 and takes no slot: waits for the bake"));
    }
    let forked = Facts {
        event: Some(event(EventKind::Forked)),
        ..running
    };
    assert!(matches!(decide(&forked), Standing::Running { .. }));
}

#[test]
fn a_job_whose_worker_is_gone_is_lost_until_it_is_taken_over() {
    let lost = Facts {
        record: Some(record(&[Some(AttemptEndKind::Failed), None])),
        event: Some(event(EventKind::StepStarted)),
        ..queued()
    };
    assert!(said(&lost).contains("lost its worker w1 in attempt 2"));
}

#[test]
fn a_cancelled_job_is_cancelling_until_it_has_a_result() {
    let cancelled = Facts {
        cancelled: true,
        ..queued()
    };
    assert_eq!(decide(&cancelled), Standing::Cancelling { holder: None });
    let held = Facts {
        holder: Holder::One("w1".to_owned()),
        ..cancelled
    };
    assert_eq!(said(&held), "job j1 is cancelled, and w1 ends it");
    let ended = Facts {
        result: Some(result(Reason::Cancelled, None)),
        ..held
    };
    assert!(matches!(decide(&ended), Standing::Finished { .. }));
}

#[test]
fn a_job_that_is_nowhere_was_never_there_or_has_vanished() {
    let absent = Facts {
        place: Place::Absent,
        ahead: None,
        ..queued()
    };
    assert_eq!(decide(&absent), Standing::NotFound);
    let cancelled = Facts {
        cancelled: true,
        ..absent.clone()
    };
    assert_eq!(decide(&cancelled), Standing::NotFound);
    let known = Facts {
        record: Some(record(&[])),
        ..absent
    };
    assert_eq!(decide(&known), Standing::Vanished);
    // Acknowledged, and not yet let go.
    let held = Facts {
        holder: Holder::One("w1".to_owned()),
        ..known
    };
    assert!(matches!(decide(&held), Standing::Claimed { .. }));
}

#[test]
fn what_could_not_be_asked_is_not_concluded_from() {
    let blind = Facts {
        place: Place::Unknown,
        ahead: None,
        workers: None,
        ..queued()
    };
    assert_eq!(decide(&blind), Standing::Unseen);
    // Whether anybody has it is not known, so it is not lost either.
    let running = Facts {
        holder: Holder::Unknown,
        record: Some(record(&[None])),
        ..blind.clone()
    };
    assert!(said(&running).starts_with("job j1 runs on w1 since"));
    let parked = Facts {
        event: Some(event(EventKind::Parked)),
        record: Some(record(&[])),
        ..running
    };
    assert!(said(&parked).starts_with("job j1 is parked and takes no slot: waits"));
    let seen = Facts {
        record: Some(record(&[])),
        ..blind
    };
    let waiting = Standing::Waiting {
        ahead: None,
        serving: None,
    };
    assert_eq!(decide(&seen), waiting);
}
