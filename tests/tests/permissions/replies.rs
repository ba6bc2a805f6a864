//! Where the server's answers go. Permissions do not see the reply of a request; the accounts of `server.conf` see to it that an answer stays
//! with whoever asked, and is never stored for others.

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DirectGetErrorKind};
use async_nats::{HeaderMap, HeaderValue};
use bus::jobs::Record;
use bus::streams;
use bytes::Bytes;
use schemas::names::{self, bucket, stream};

use crate::server::{Server, User};
use crate::{acme, id, key, stored};

/// What a build of acme can print, and another could take for a job.
const PRINTED: &[u8] = include_bytes!("../../../schemas/examples/job.json");

/// What each user of acme may look at, by stream.
const LOOKS: [(&str, &str); 4] = [
    (stream::LOGS, "build.log.acme.a"),
    (stream::EVENTS, "build.event.acme.a"),
    (stream::RESULTS, "build.report.acme.a"),
    (
        "KV_build-jobs",
        "$KV.build-jobs.job.acme.0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11",
    ),
];

/// What an untrusted publisher of acme may publish to, by stream.
const ASKS: [(&str, &str); 3] = [
    (stream::JOBS, "build.job.default.untrusted.5.acme"),
    (stream::BAKE_TRIGGERS, "bake.trigger.untrusted.acme.widget"),
    ("KV_build-cancels", "$KV.build-cancels.acme.a"),
];

/// Where neither may have anything stored: the stream, the subject, and another of the stream.
const FORBIDDEN: [(&str, &str, &str); 8] = [
    (
        stream::JOBS,
        "build.job.default.trusted.5.acme",
        "build.job.default.trusted.9.fence",
    ),
    (
        stream::JOBS,
        "build.job.default.untrusted.5.other",
        "build.job.default.trusted.9.fence",
    ),
    (
        stream::RESULTS,
        "build.report.acme.x",
        "build.report.fence.a",
    ),
    (stream::EVENTS, "build.event.acme.x", "build.event.fence.a"),
    (
        "KV_build-leases",
        "$KV.build-leases.janitor",
        "$KV.build-leases.lease.fence.a",
    ),
    (
        "KV_build-cancels",
        "$KV.build-cancels.other.a",
        "$KV.build-cancels.fence.a",
    ),
    (
        "KV_build-environments",
        "$KV.build-environments.template.node",
        "$KV.build-environments.template.fence",
    ),
    (
        "KV_build-snapshots",
        "$KV.build-snapshots.key.a",
        "$KV.build-snapshots.key.fence",
    ),
];

#[tokio::test]
async fn an_answer_to_a_publisher_is_stored_nowhere() -> Result<()> {
    let server = Server::start().await?;
    let publisher = server.publisher().await?;
    reports_of_a_job(&server).await?;
    for (_, forbidden, _) in FORBIDDEN {
        for (_, subject) in ASKS {
            asks(&publisher, subject, forbidden).await?;
        }
    }
    for (_, subject) in ASKS {
        stored(&publisher, subject).await?;
    }
    looks_with_a_reply(&publisher).await?;
    publisher.was_refused_nothing().await?;
    nothing_is_stored(&server).await
}

#[tokio::test]
async fn an_answer_to_a_subscriber_is_stored_nowhere() -> Result<()> {
    let server = Server::start().await?;
    let subscriber = server.subscriber().await?;
    reports_of_a_job(&server).await?;
    looks_with_a_reply(&subscriber).await?;
    subscriber.was_refused_nothing().await?;
    nothing_is_stored(&server).await?;
    // Nor what a publisher of the same tenant may publish.
    for (of, subject) in ASKS {
        holds_nothing(&server, of, subject).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_jobs_headers_arrive() -> Result<()> {
    let server = Server::start().await?;
    let publisher = server.publisher().await?;
    let (subject, trace) = (
        "build.job.default.untrusted.5.acme",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    for again in [false, true] {
        let message = PublishMessage::build()
            .payload(Bytes::from_static(PRINTED))
            .message_id("once")
            .header("traceparent", trace);
        let sent = publisher.jetstream.send_publish(subject, message).await?;
        ensure!(sent.await?.duplicate == again);
    }
    let operator = server.operator().await?;
    let jobs = operator.jetstream.get_stream(stream::JOBS).await?;
    let job = jobs.direct_get_last_for_subject(subject).await?;
    ensure!(job.payload == PRINTED);
    let header = |name: &str| job.headers.get(name).map(HeaderValue::as_str);
    ensure!(header("traceparent") == Some(trace));
    ensure!(header("Nats-Msg-Id") == Some("once"));
    Ok(())
}

#[tokio::test]
async fn a_publisher_does_not_sweep_a_bucket() -> Result<()> {
    let server = Server::start().await?;
    let (publisher, operator) = (server.publisher().await?, server.operator().await?);
    // As the client library makes a bucket; `bakery init` finds it so.
    let cancels = operator.jetstream.get_stream("KV_build-cancels").await?;
    let lenient = Config {
        allow_rollup: true,
        ..cancels.cached_info().config.clone()
    };
    operator.jetstream.update_stream(lenient).await?;
    streams::provision(&operator.jetstream, 1).await?;

    let others = "$KV.build-cancels.other.a";
    stored(&operator, others).await?;
    for (_, subject) in ASKS {
        for rollup in ["all", "sub"] {
            let message = PublishMessage::build().header("Nats-Rollup", rollup);
            let sent = publisher.jetstream.send_publish(subject, message).await?;
            ensure!(sent.await.is_err(), "{subject} took a rollup");
        }
    }
    cancels.direct_get_last_for_subject(others).await?;
    Ok(())
}

/// What a worker reports of a job of acme, whose output is a job.
async fn reports_of_a_job(server: &Server) -> Result<()> {
    let worker = server.worker().await?;
    for subject in [
        "build.log.acme.a",
        "build.event.acme.a",
        "build.report.acme.a",
    ] {
        let printed = Bytes::from_static(PRINTED);
        worker.jetstream.publish(subject, printed).await?.await?;
    }
    let records = worker.jetstream.get_key_value(bucket::JOBS).await?;
    Record::open(&records, &acme(), &id(), PRINTED).await?;
    ensure!(LOOKS[3].1 == key(bucket::JOBS, &names::job_record(&acme(), &id())));
    Ok(())
}

/// Asks for everything that a user of acme may look at, to be answered where it may not publish; returns when all is answered.
async fn looks_with_a_reply(user: &User) -> Result<()> {
    for (of, subject) in LOOKS {
        let request = format!("$JS.API.DIRECT.GET.{of}.{subject}");
        for reply in FORBIDDEN.map(|(_, forbidden, _)| forbidden) {
            asks(user, &request, reply).await?;
        }
        // A publisher's own is no gain; a subscriber has none.
        for (_, reply) in ASKS {
            asks(user, &request, reply).await?;
        }
        // A stream answers in the order in which it was asked.
        let stream = user.jetstream.get_stream_no_info(of).await?;
        stream.direct_get_last_for_subject(subject).await?;
    }
    Ok(())
}

async fn asks(user: &User, subject: &str, reply: &str) -> Result<()> {
    let (subject, reply) = (subject.to_owned(), reply.to_owned());
    let headers = HeaderMap::new();
    let body = if subject.starts_with("$JS.API") {
        r#"{"no_hdr":true}"#
    } else {
        "{}"
    };
    let asked = user
        .client
        .publish_with_reply_and_headers(subject, reply, headers, body.into());
    asked.await.context("publish with a reply")
}

async fn nothing_is_stored(server: &Server) -> Result<()> {
    for (of, subject, fence) in FORBIDDEN {
        // What came before this is stored when this is.
        let may_publish = match of {
            stream::RESULTS | stream::EVENTS => server.worker().await?,
            _ => server.operator().await?,
        };
        let message = PublishMessage::build().payload("{}".into());
        let sent = may_publish.jetstream.send_publish(fence, message).await?;
        // The second result of a subject is refused: by the same queue of the stream.
        let _stored = sent.await;
        holds_nothing(server, of, subject).await?;
    }
    Ok(())
}

async fn holds_nothing(server: &Server, of: &str, subject: &str) -> Result<()> {
    let operator = server.operator().await?;
    let stream = operator.jetstream.get_stream(of).await?;
    match stream.direct_get_last_for_subject(subject).await {
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(found) => {
            let body = String::from_utf8_lossy(&found.payload).into_owned();
            anyhow::bail!("stored on {subject}: {body}")
        }
    }
}
