//! Records in a bucket of a real nats-server.

use async_nats::jetstream;

use super::*;

/// A record of a new job in a bucket of a real nats-server; none where there is no server.
async fn record() -> Option<(Record, Token)> {
    let Ok(url) = std::env::var("NATS_URL") else {
        eprintln!("skipped: no NATS_URL");
        return None;
    };
    let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
    crate::streams::provision(&jetstream, 1).await.unwrap();
    let jobs = jetstream.get_key_value(schemas::names::bucket::JOBS);
    let jobs = jobs.await.unwrap();
    let id = Token::from(uuid::Uuid::new_v4());
    Some((open(&jobs, &id).await, id))
}

async fn open(jobs: &kv::Store, id: &Token) -> Record {
    let tenant = "record".parse().unwrap();
    Record::open(jobs, &tenant, id, b"body").await.unwrap()
}

fn worker(name: &str) -> Token {
    name.parse().unwrap()
}

#[tokio::test]
async fn an_attempt_whose_write_was_cut_off_can_be_given_back() {
    let Some((mut record, id)) = record().await else {
        return;
    };
    let before = record.revision;
    record.begin(&worker("worker-1")).await.unwrap();
    assert!(record.last_attempt_at().is_some());
    // The server stored it, and its answer was not waited for.
    record.revision = before;
    let end = record.end(AttemptEndKind::Returned, None, "the worker ends");
    end.await.unwrap();
    let found = open(&record.bucket, &id).await;
    assert_eq!((found.counted(), found.attempt()), (0, 2));
    assert_eq!(found.last_attempt_at(), None);
}

#[tokio::test]
async fn an_attempt_of_another_worker_is_not_given_back() {
    let Some((mut record, id)) = record().await else {
        return;
    };
    let mut other = open(&record.bucket, &id).await;
    other.begin(&worker("worker-2")).await.unwrap();
    let begun = record.begin(&worker("worker-1")).await;
    assert!(matches!(begun, Err(RecordError::Raced)));
    let given_back = record.end(AttemptEndKind::Returned, None, "the worker ends");
    assert!(matches!(given_back.await, Err(RecordError::Raced)));
    assert_eq!(open(&record.bucket, &id).await.counted(), 1);
}

#[tokio::test]
async fn an_attempt_that_ended_after_the_record_was_opened_is_not_lost() {
    let Some((mut record, id)) = record().await else {
        return;
    };
    record.begin(&worker("worker-1")).await.unwrap();
    let mut next = open(&record.bucket, &id).await;
    assert!(next.lost().is_some());
    let end = record.end(AttemptEndKind::Returned, None, "the worker ends");
    end.await.unwrap();
    next.refresh().await.unwrap();
    assert_eq!((next.lost(), next.counted(), next.attempt()), (None, 0, 2));
    next.begin(&worker("worker-2")).await.unwrap();
}

#[tokio::test]
async fn whoever_takes_a_job_over_writes_that_its_worker_was_lost() {
    let Some((mut record, id)) = record().await else {
        return;
    };
    assert_eq!(record.mark_lost().await.unwrap(), None);
    record.begin(&worker("worker-1")).await.unwrap();
    // Its own attempt is not lost.
    assert_eq!(record.mark_lost().await.unwrap(), None);
    let mut next = open(&record.bucket, &id).await;
    let lost = next.lost().unwrap();
    assert_eq!(next.mark_lost().await.unwrap().as_ref(), Some(&lost));
    assert_eq!((lost.number, lost.worker), (1, worker("worker-1")));
    assert_eq!(next.lost(), None);
    assert_eq!((next.counted(), next.attempt()), (1, 2));
    let again = open(&record.bucket, &id).await.mark_lost().await.unwrap();
    assert_eq!(again, None);
}
