//! The janitor on a real server: its consumers, its turn, and a server that goes away.

mod endings;
mod rig;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use bus::streams;
use futures_util::StreamExt as _;
use schemas::names::{bucket, stream};
use tokio::time::Instant;

use self::rig::{Rig, Running, job, until};
use super::consumers::EMPTY_FOR;
use super::*;

/// Long enough for every test.
const AN_HOUR: u32 = 3600;

#[tokio::test]
async fn a_new_subject_has_its_consumer_within_two_seconds_and_an_old_one_that_overlaps_is_gone() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let old = pull::Config {
        durable_name: Some("workers-default-untrusted".to_owned()),
        filter_subject: "build.job.default.untrusted.>".to_owned(),
        ..streams::job_consumer(&rig.subject())
    };
    let queue = rig.janitor.queue().await;
    queue.create_consumer(old).await.unwrap();
    let running = Running::start(rig.janitor.clone());
    rig.consumers(&[]).await;
    let published = Instant::now();
    rig.publish(&job(AN_HOUR).1).await;
    rig.consumers(&[rig.subject().consumer()]).await;
    assert!(published.elapsed().as_secs() < 2);
    running.end().await;
}

#[tokio::test]
async fn a_consumer_that_was_empty_for_a_day_is_removed_and_made_again_for_the_next_job() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let mut consumers = Consumers::new(rig.janitor.queue().await);
    let start = Instant::now();
    rig.publish(&job(AN_HOUR).1).await;
    consumers.look(start).await.unwrap();
    take(&rig).await.double_ack().await.unwrap();
    rig.drained().await;
    consumers.look(start + EMPTY_FOR).await.unwrap();
    rig.consumers(&[rig.subject().consumer()]).await;
    consumers.look(start + 2 * EMPTY_FOR).await.unwrap();
    rig.consumers(&[]).await;
    rig.publish(&job(AN_HOUR).1).await;
    consumers.look(start + 2 * EMPTY_FOR).await.unwrap();
    take(&rig).await;
}

/// Takes a job as a worker does.
async fn take(rig: &Rig) -> async_nats::jetstream::Message {
    let queue = rig.janitor.queue().await;
    let consumer = queue.get_consumer(&rig.subject().consumer()).await;
    let consumer: PullConsumer = consumer.unwrap();
    let mut batch = consumer.fetch().max_messages(1).messages().await.unwrap();
    batch.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn of_two_janitors_the_second_goes_on_when_the_first_is_asked_to_end() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let second = rig.another("bakery-2").await;
    let first = Running::start(rig.janitor.clone());
    holds(&rig, "bakery-1").await;
    let second = Running::start(second);
    first.end().await;
    holds(&rig, "bakery-2").await;
    let (id, body) = job(AN_HOUR);
    rig.cancel(&id).await;
    rig.publish(&body).await;
    assert_eq!(rig.result(&id).await.worker.as_str(), "bakery-2");
    second.end().await;
}

#[tokio::test]
async fn of_two_janitors_the_second_goes_on_when_the_first_loses_its_lease() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let first = Running::start(rig.janitor.clone());
    holds(&rig, "bakery-1").await;
    let second = Running::start(rig.another("bakery-2").await);
    let leases = rig.janitor.jetstream.get_key_value(bucket::LEASES).await;
    leases.unwrap().delete(JANITOR_LEASE).await.unwrap();
    holds(&rig, "bakery-2").await;
    let (id, body) = job(AN_HOUR);
    rig.cancel(&id).await;
    rig.publish(&body).await;
    rig.result(&id).await;
    rig.drained().await;
    assert_eq!(rig.count(stream::RESULTS).await, 1);
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_server_that_was_away_loses_no_job_and_ends_none_twice() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let running = Running::start(rig.janitor.clone());
    let (expiring, short) = job(1);
    let (cancelled, long) = job(AN_HOUR);
    rig.publish(&long).await;
    rig.publish(&short).await;
    rig.cancel(&cancelled).await;
    rig.restart().await;
    for id in [&expiring, &cancelled] {
        rig.result(id).await;
    }
    rig.drained().await;
    assert_eq!(rig.count(stream::RESULTS).await, 2);
    // And what is new is seen.
    let (new, body) = job(1);
    rig.publish(&body).await;
    rig.result(&new).await;
    running.end().await;
}

#[tokio::test]
async fn a_queue_that_was_made_anew_is_read_anew() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let running = Running::start(rig.janitor.clone());
    for _ in 0..2 {
        let (id, body) = job(AN_HOUR);
        rig.cancel(&id).await;
        rig.publish(&body).await;
        rig.result(&id).await;
    }
    rig.drained().await;
    let jetstream = &rig.janitor.jetstream;
    jetstream.delete_stream(stream::JOBS).await.unwrap();
    streams::provision(jetstream, 1).await.unwrap();
    // Its first sequence is one that was read before.
    let (id, body) = job(AN_HOUR);
    rig.cancel(&id).await;
    assert_eq!(rig.publish(&body).await, 1);
    rig.result(&id).await;
    rig.drained().await;
    running.end().await;
}

/// Waits until a bakery is the janitor.
async fn holds(rig: &Rig, name: &str) {
    let leases = rig.janitor.jetstream.get_key_value(bucket::LEASES).await;
    let leases = leases.unwrap();
    until(async || {
        let holder = leases.get(JANITOR_LEASE).await.unwrap();
        (holder.as_deref() == Some(name.as_bytes())).then_some(())
    })
    .await;
}
