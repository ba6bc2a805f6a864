//! What each user of `deploy/nats/server.conf` can do and what it is refused, on a real server.
//!
//! What is allowed is done with the code that does it in the programs, and the server must have refused nothing of it; what is refused is
//! seen as the server's word about it.

mod refused;
mod replies;
mod server;

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use bus::follow::{Followed, follow};
use bus::jobs::Record;
use bus::lease::Leases;
use bus::permissions::Role;
use bus::{results, streams, watch};
use futures_util::{StreamExt as _, TryStreamExt as _};
use nkeys::KeyPair;
use schemas::names::{self, bucket, stream};
use schemas::{JobResult, JobSubject, Sha256Digest, Token, Trust};
use tokio::sync::mpsc;
use tokio::time::timeout;

use server::{Server, User};

const ID: &str = "0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11";
const RESULT: &[u8] = include_bytes!("../../../schemas/examples/result.json");
/// 10 s for what takes a millisecond on an idle machine.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn nobody_connects_without_a_key_that_the_server_knows() -> Result<()> {
    let server = Server::start().await?;
    ensure!(!server.lets_in(None).await, "without a key");
    let stranger = KeyPair::new_user().seed()?;
    ensure!(!server.lets_in(Some(stranger)).await, "with another key");
    Ok(())
}

#[tokio::test]
async fn a_publisher_asks_for_builds_of_its_tenant_and_hears_what_came_of_them() -> Result<()> {
    let server = Server::start().await?;
    let (publisher, worker) = (server.publisher().await?, server.worker().await?);
    stored(&publisher, "build.job.default.untrusted.5.acme").await?;
    stored(&publisher, "bake.trigger.untrusted.acme.widget").await?;
    stored(
        &publisher,
        &key(bucket::CANCELS, &names::cancel_key(&acme(), &id())),
    )
    .await?;
    hears_of_its_jobs(&publisher, &worker).await?;
    publisher.was_refused_nothing().await?;
    refused::check(&publisher, refused::PUBLISHER).await
}

#[tokio::test]
async fn a_subscriber_hears_of_its_tenants_jobs_and_asks_for_none() -> Result<()> {
    let server = Server::start().await?;
    let (subscriber, worker) = (server.subscriber().await?, server.worker().await?);
    hears_of_its_jobs(&subscriber, &worker).await?;
    subscriber.was_refused_nothing().await?;
    refused::check(&subscriber, refused::SUBSCRIBER).await
}

#[tokio::test]
async fn a_tenant_is_added_while_the_server_runs_and_hears_of_its_own_jobs_alone() -> Result<()> {
    let server = Server::start().await?;
    let (acme, worker) = (server.publisher().await?, server.worker().await?);
    let other: Token = "other".parse()?;
    let publisher = Role::Publisher {
        tenant: other.clone(),
        trust: Trust::Trusted,
        pool: "default".parse()?,
    };
    let publisher = server.added(&publisher).await?;
    let subscriber = server.added(&Role::Subscriber { tenant: other }).await?;
    let mut woken = worker.client.subscribe("build.job.default.>").await?;
    worker.round_trip().await?;
    stored(&publisher, "build.job.default.trusted.5.other").await?;
    let job = timeout(SOON, woken.next()).await?.context("it goes on")?;
    ensure!(job.subject.as_str() == "build.job.default.trusted.5.other");

    let mut heard = subscriber.client.subscribe("build.event.other.*").await?;
    // Acme's, then its own: it hears one of them.
    subscriber.cannot_hear("build.event.acme.*").await?;
    for subject in ["build.event.acme.a", "build.event.other.a"] {
        stored(&worker, subject).await?;
    }
    let event = timeout(SOON, heard.next()).await?.context("it goes on")?;
    ensure!(event.subject.as_str() == "build.event.other.a");
    publisher
        .cannot_publish("build.job.default.trusted.5.acme")
        .await?;
    // Whoever was connected before the tenant came is connected still.
    stored(&acme, "build.job.default.untrusted.5.acme").await?;
    for user in [&acme, &worker] {
        let connects = &user.client.statistics().connects;
        ensure!(connects.load(Ordering::Relaxed) == 1, "cut off");
    }
    worker.was_refused_nothing().await
}

#[tokio::test]
async fn a_worker_takes_jobs_and_reports() -> Result<()> {
    let server = Server::start().await?;
    let (worker, bakery) = (server.worker().await?, server.bakery().await?);
    let subject = a_job_with_a_consumer(&server, &bakery).await?;
    let _woken = worker.client.subscribe("build.job.default.>").await?;
    let jobs = worker.jetstream.get_stream(stream::JOBS).await?;
    let message = take(&jobs, &subject.consumer()).await?;
    message
        .double_ack()
        .await
        .map_err(anyhow::Error::from_boxed)?;

    let leases = Leases::open(&worker.jetstream).await?;
    for key in [
        names::job_lease(&acme(), &id()),
        names::cap_lease(&acme(), 0),
    ] {
        let mut lease = leases.take(&key, "w1").await?.context("it is free")?;
        lease.renew().await?;
        lease.release().await;
    }
    let records = worker.jetstream.get_key_value(bucket::JOBS).await?;
    let opened = Record::open(&records, &acme(), &id(), b"{}").await;
    opened?.begin(&"w1".parse()?).await?;
    reads_every_bucket(&worker).await?;
    let workers = worker.jetstream.get_key_value(bucket::WORKERS).await?;
    workers.put("w1", "{}".into()).await?;
    workers.delete("w1").await?;
    let snapshots = worker.jetstream.get_key_value(bucket::SNAPSHOTS).await?;
    snapshots
        .delete(names::snapshot_pointer(&Sha256Digest::of("a")))
        .await?;
    let commit = "ab".repeat(20).parse()?;
    let archive = names::git_pointer(&acme(), Trust::Trusted, &commit, "plain");
    snapshots.put(archive, "{}".into()).await?;
    for watched in ["$KV.build-leases.cap.>", "$KV.build-snapshots.key.*"] {
        let _heard = worker.client.subscribe(watched).await?;
    }

    stored(&worker, "bake.request.class.trusted.acme.widget").await?;
    worker.jetstream.get_stream(stream::BAKE_EVENTS).await?;
    stored(&bakery, "bake.event.acme.widget").await?;
    follows(&worker, stream::BAKE_EVENTS, "bake.event.acme.widget").await?;
    for of_job in [
        "build.event.acme.a",
        "build.log.acme.a",
        "build.dead.acme.a",
    ] {
        stored(&worker, of_job).await?;
    }
    let result = JobResult::parse(RESULT)?;
    results::publish_once(&worker.jetstream, &result).await?;
    results::publish_once(&worker.jetstream, &result).await?;
    worker.was_refused_nothing().await?;
    refused::check(&worker, refused::WORKER).await
}

#[tokio::test]
async fn a_bakery_takes_requests_and_keeps_the_queue_of_jobs() -> Result<()> {
    let server = Server::start().await?;
    let bakery = server.bakery().await?;
    let class = "class".parse()?;
    stored(&bakery, "bake.request.class.trusted.acme.widget").await?;
    for (name, config) in [
        (stream::BAKE_REQUESTS, streams::bake_consumer(&class)),
        (stream::BAKE_TRIGGERS, streams::trigger_consumer()),
    ] {
        let work = bakery.jetstream.get_stream_no_info(name).await?;
        work.create_consumer(config).await?;
    }
    let requests = bakery
        .jetstream
        .get_stream_no_info(stream::BAKE_REQUESTS)
        .await?;
    let request = take(&requests, "bakery-class").await?;
    request.ack().await.map_err(anyhow::Error::from_boxed)?;
    stored(&bakery, "bake.event.acme.widget").await?;
    reads_every_bucket(&bakery).await?;
    let snapshots = bakery.jetstream.get_key_value(bucket::SNAPSHOTS).await?;
    for key in [
        "key.a",
        "template.class.node",
        "failed.a",
        "recent.class.trusted.acme.widget",
    ] {
        snapshots.put(key, "{}".into()).await?;
    }
    let leases = Leases::open(&bakery.jetstream).await?;
    let lease = leases.take(names::JANITOR_LEASE, "b1").await?;
    lease.context("it is free")?.release().await;
    keeps_the_queue(&server, &bakery).await?;
    bakery.was_refused_nothing().await?;
    refused::check(&bakery, refused::BAKERY).await
}

#[tokio::test]
async fn an_operator_defines_and_looks_and_replays() -> Result<()> {
    let server = Server::start().await?;
    let (operator, worker) = (server.operator().await?, server.worker().await?);
    for (bucket, key) in [
        (bucket::TENANTS, "acme"),
        (bucket::ENVIRONMENTS, "template.node"),
        (bucket::ENVIRONMENTS, "environment.acme.widget"),
        (bucket::CANCELS, "acme.a"),
    ] {
        let store = operator.jetstream.get_key_value(bucket).await?;
        store.put(key, "{}".into()).await?;
    }
    reads_every_bucket(&operator).await?;
    stored(&worker, "build.dead.acme.a").await?;
    let dead = operator.jetstream.get_stream(stream::DEAD).await?;
    let letter = dead
        .direct_get_next_for_subject("build.dead.*.*", Some(1))
        .await?;
    stored(&operator, "build.job.default.untrusted.5.acme").await?;
    dead.delete_message(letter.sequence).await?;
    let jobs = operator.jetstream.get_stream(stream::JOBS).await?;
    jobs.direct_get_next_for_subject(JobSubject::FILTER, Some(1))
        .await?;
    jobs.consumer_names().try_collect::<Vec<_>>().await?;
    operator.was_refused_nothing().await?;
    refused::check(&operator, refused::OPERATOR).await
}

/// What a user of a tenant reads of its jobs.
async fn hears_of_its_jobs(user: &User, worker: &User) -> Result<()> {
    for (stored_in, subject) in [
        (stream::EVENTS, "build.event.acme.a"),
        (stream::LOGS, "build.log.acme.a"),
    ] {
        let mut heard = user.client.subscribe(subject).await?;
        user.round_trip().await?;
        stored(worker, subject).await?;
        timeout(SOON, heard.next()).await?.context("it goes on")?;
        let all = user.jetstream.get_stream_no_info(stored_in).await?;
        all.direct_get_last_for_subject(subject).await?;
    }
    let records = worker.jetstream.get_key_value(bucket::JOBS).await?;
    Record::open(&records, &acme(), &id(), b"{}").await?;
    let stream = format!("KV_{}", bucket::JOBS);
    let records = user.jetstream.get_stream_no_info(stream).await?;
    let record = key(bucket::JOBS, &names::job_record(&acme(), &id()));
    records.direct_get_last_for_subject(record).await?;

    let (acme, id) = (acme(), id());
    let heard = results::wait(&user.client, &user.jetstream, &acme, &id);
    let result = JobResult::parse(RESULT)?;
    let (heard, stored) = tokio::join!(
        timeout(SOON, heard),
        results::publish_once(&worker.jetstream, &result)
    );
    stored?;
    ensure!(heard??.job_id == result.job_id);
    let fetched = results::fetch(&user.jetstream, &acme, &id).await?;
    fetched.context("it is stored")?;
    Ok(())
}

/// What the janitor does with the queue of jobs.
async fn keeps_the_queue(server: &Server, bakery: &User) -> Result<()> {
    let subject = a_job_with_a_consumer(server, bakery).await?;
    let jobs = bakery.jetstream.get_stream(stream::JOBS).await?;
    jobs.info_with_subjects(JobSubject::FILTER)
        .await?
        .try_collect::<Vec<_>>()
        .await?;
    jobs.consumer_names().try_collect::<Vec<_>>().await?;
    jobs.consumer_info(subject.consumer()).await?;
    let next = jobs
        .direct_get_next_for_subject(JobSubject::FILTER, Some(1))
        .await?;
    jobs.get_raw_message(next.sequence).await?;
    let records = bakery.jetstream.get_key_value(bucket::JOBS).await?;
    Record::open(&records, &acme(), &id(), b"{}").await?;
    // A worker that died has left its log open.
    for of_job in ["build.event.acme.a", "build.log.acme.a"] {
        stored(bakery, of_job).await?;
    }
    let logs = bakery.jetstream.get_stream_no_info(stream::LOGS).await?;
    logs.direct_get_last_for_subject("build.log.acme.a").await?;
    results::publish_once(&bakery.jetstream, &JobResult::parse(RESULT)?).await?;
    results::fetch(&bakery.jetstream, &acme(), &id()).await?;
    jobs.delete_message(next.sequence).await?;
    jobs.delete_consumer(&subject.consumer()).await?;
    Ok(())
}

async fn a_job_with_a_consumer(server: &Server, bakery: &User) -> Result<JobSubject> {
    let subject: JobSubject = "build.job.default.untrusted.5.acme".parse()?;
    stored(&server.publisher().await?, &subject.to_string()).await?;
    let jobs = bakery.jetstream.get_stream_no_info(stream::JOBS).await?;
    jobs.create_consumer(streams::job_consumer(&subject))
        .await?;
    Ok(subject)
}

/// Every key one by one, as a list and as it changes.
async fn reads_every_bucket(user: &User) -> Result<()> {
    for definition in streams::BUCKETS {
        let store = user.jetstream.get_key_value(definition.name).await?;
        store.entry("a.b").await?;
        store.keys().await?.try_collect::<Vec<_>>().await?;
        drop(timeout(SOON, watch::begin(&store, ">")).await?);
        drop(store.watch_many_with_history(["a.b", "a.c"]).await?);
    }
    Ok(())
}

/// The first message of a subject, through a consumer of its own.
async fn follows(user: &User, stream: &'static str, subject: &str) -> Result<Message> {
    let (sender, mut messages) = mpsc::channel(1);
    let followed = Followed {
        stream,
        subject: subject.to_owned(),
        name: format!("follow-{}", nuid()),
        next_sequence: 1,
    };
    let whole = |message: &Message| Some(message.clone());
    tokio::spawn(follow(user.jetstream.clone(), followed, whole, sender));
    let message = timeout(SOON, messages.recv()).await;
    message
        .with_context(|| format!("follow {subject}"))?
        .context("it goes on")
}

async fn take(stream: &Stream<impl Sized>, consumer: &str) -> Result<Message> {
    let consumer: PullConsumer = stream
        .get_consumer(consumer)
        .await
        .map_err(anyhow::Error::from_boxed)?;
    let mut messages = consumer.fetch().max_messages(1).messages().await?;
    let message = timeout(SOON, messages.next()).await?;
    message
        .context("there is one")?
        .map_err(anyhow::Error::from_boxed)
}

/// Publishes, and sees it stored.
async fn stored(user: &User, subject: &str) -> Result<()> {
    let message = PublishMessage::build().payload("{}".into());
    let published = user
        .jetstream
        .send_publish(subject.to_owned(), message)
        .await?;
    let acknowledged = published.await;
    acknowledged.with_context(|| format!("publish to {subject}"))?;
    Ok(())
}

fn key(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

fn nuid() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn acme() -> Token {
    "acme".parse().expect("a word")
}

fn id() -> Token {
    ID.parse().expect("a word")
}
