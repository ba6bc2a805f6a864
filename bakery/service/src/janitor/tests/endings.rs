//! Jobs that a janitor ends, and those that it leaves alone.

use bus::jobs::Record;
use schemas::names::{job_lease, stream};
use schemas::reason::{Reason, Status};
use schemas::record::AttemptEndKind;
use schemas::result::{StepResult, StepStatus};

use super::AN_HOUR;
use super::rig::{Rig, Running, job, until};
use crate::janitor::ending::Looked;
use crate::janitor::waiting::Due;

fn expired(sequence: u64) -> Due {
    Due {
        sequence,
        cancelled: false,
    }
}

fn cancelled(sequence: u64) -> Due {
    Due {
        sequence,
        cancelled: true,
    }
}

#[tokio::test]
async fn a_job_that_no_worker_ever_saw_gets_one_result_when_its_time_is_over() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let running = Running::start(rig.janitor.clone());
    let (id, body) = job(1);
    rig.publish(&body).await;
    let result = rig.result(&id).await;
    rig.drained().await;
    running.end().await;
    let reason = result.reason.known();
    assert_eq!(reason, Some(&Reason::QueueExpired));
    assert_eq!((result.status, result.attempt), (Status::Timeout, 1));
    assert_eq!(result.worker, rig.janitor.name);
    assert!(result.timing.queued_at < result.timing.finished_at);
    assert!(!result.steps.is_empty() && result.past_attempts.is_empty());
    let never_ran = |step: &StepResult| step.status == StepStatus::Skip;
    assert!(result.steps.iter().all(never_ran));
    assert_eq!(rig.count(stream::RESULTS).await, 1);
    assert_eq!(rig.count(stream::EVENTS).await, 1);
}

#[tokio::test]
async fn a_queued_job_is_ended_when_it_is_cancelled_also_where_the_cancel_came_first() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let [(before, first), (after, second), (other, third)] = [(); 3].map(|()| job(AN_HOUR));
    rig.cancel(&before).await;
    rig.publish(&second).await;
    let kept = rig.publish(&third).await;
    let running = Running::start(rig.janitor.clone());
    rig.publish(&first).await;
    rig.cancel(&after).await;
    for id in [&before, &after] {
        let result = rig.result(id).await;
        assert_eq!(result.reason.known(), Some(&Reason::Cancelled));
    }
    let queue = rig.janitor.queue().await;
    until(async || (rig.count(stream::JOBS).await == 1).then_some(())).await;
    running.end().await;
    queue.get_raw_message(kept).await.unwrap();
    let jetstream = &rig.janitor.jetstream;
    let result = bus::results::fetch(jetstream, &rig.tenant, &other).await;
    assert_eq!(result.unwrap(), None);
}

#[tokio::test]
async fn a_job_that_a_worker_holds_is_left_alone() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (id, body) = job(1);
    let sequence = rig.publish(&body).await;
    let key = job_lease(&rig.tenant, &id);
    let held = rig.janitor.leases.take(&key, "worker-1").await.unwrap();
    let ending = rig.janitor.ending().await;
    for due in [cancelled(sequence), expired(sequence)] {
        let looked = ending.look(due).await.unwrap();
        assert!(matches!(looked, Looked::Again(_)));
    }
    assert_eq!(rig.count(stream::RESULTS).await, 0);
    held.unwrap().release().await;
    let looked = ending.look(cancelled(sequence)).await.unwrap();
    assert_eq!(looked, Looked::Gone);
    let result = rig.result(&id).await;
    assert_eq!(result.reason.known(), Some(&Reason::Cancelled));
    // And the lease was given back.
    let lease = rig.janitor.leases.take(&key, "worker-1").await.unwrap();
    assert!(lease.is_some());
}

#[tokio::test]
async fn a_job_that_had_an_attempt_does_not_expire_but_can_be_cancelled() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (id, body) = job(1);
    let sequence = rig.publish(&body).await;
    let record = Record::open(&rig.janitor.records, &rig.tenant, &id, &body).await;
    let begun = record.unwrap().begin(&"worker-1".parse().unwrap()).await;
    begun.unwrap();
    let ending = rig.janitor.ending().await;
    let looked = ending.look(expired(sequence)).await.unwrap();
    assert!(matches!(looked, Looked::Again(_)));
    assert_eq!(rig.count(stream::JOBS).await, 1);
    let looked = ending.look(cancelled(sequence)).await.unwrap();
    assert_eq!(looked, Looked::Gone);
    let result = rig.result(&id).await;
    assert_eq!(result.attempt, 1);
    let lost = result.past_attempts[0].end.as_ref().unwrap();
    assert_eq!(lost.kind.known(), Some(&AttemptEndKind::Lost));
    // Its log says so too.
    assert_eq!(rig.count(stream::LOGS).await, 1);
}

#[tokio::test]
async fn a_body_that_is_no_job_and_one_whose_id_is_anothers_get_results_of_their_own() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (id, body) = job(AN_HOUR);
    Record::open(&rig.janitor.records, &rig.tenant, &id, &body)
        .await
        .unwrap();
    let bodies = [
        (b"no job".to_vec(), Reason::InvalidJob),
        (
            format!(r#"{{"id":"{id}"}}"#).into_bytes(),
            Reason::IdConflict,
        ),
    ];
    let ending = rig.janitor.ending().await;
    for (body, reason) in bodies {
        let sequence = rig.publish(&body).await;
        let looked = ending.look(expired(sequence)).await.unwrap();
        assert_eq!(looked, Looked::Gone);
        let name = format!("invalid-{sequence}").parse().unwrap();
        assert_eq!(rig.result(&name).await.reason.known(), Some(&reason));
    }
    assert_eq!(rig.count(stream::JOBS).await, 0);
    assert_eq!(rig.count(stream::RESULTS).await, 2);
}

#[tokio::test]
async fn a_body_with_an_id_that_is_no_job_has_its_result_under_that_id() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (id, _) = job(AN_HOUR);
    let body = format!(r#"{{"id":"{id}","steps":7}}"#);
    let sequence = rig.publish(body.as_bytes()).await;
    let ending = rig.janitor.ending().await;
    ending.look(expired(sequence)).await.unwrap();
    let result = rig.result(&id).await;
    assert_eq!(result.reason.known(), Some(&Reason::InvalidJob));
}

#[tokio::test]
async fn a_message_whose_job_has_its_result_is_deleted_without_another() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (_, body) = job(AN_HOUR);
    let ending = rig.janitor.ending().await;
    for _ in 0..2 {
        let sequence = rig.publish(&body).await;
        for _ in 0..2 {
            let looked = ending.look(cancelled(sequence)).await.unwrap();
            assert_eq!(looked, Looked::Gone);
        }
    }
    assert_eq!(rig.count(stream::JOBS).await, 0);
    assert_eq!(rig.count(stream::RESULTS).await, 1);
    assert_eq!(rig.count(stream::EVENTS).await, 1);
}

#[tokio::test]
async fn a_message_whose_subject_is_no_jobs_is_removed_and_holds_up_no_other() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let malformed = "build.job.default.maybe.5.acme".to_owned();
    rig.publish_to(malformed, b"anything").await;
    let (id, body) = job(AN_HOUR);
    rig.publish(&body).await;
    rig.cancel(&id).await;
    let running = Running::start(rig.janitor.clone());
    rig.result(&id).await;
    rig.drained().await;
    running.end().await;
    assert_eq!(rig.count(stream::RESULTS).await, 1);
}
