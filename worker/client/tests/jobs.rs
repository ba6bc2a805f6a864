//! The commands about a job, against a real nats-server; what a worker would write, the test writes.
//!
//! Needs `NATS_URL`, as `dev with` gives it; without, each test says that it was skipped.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::{self, kv};
use bus::lease::Leases;
use bus::streams::provision;
use bytes::Bytes;
use jiff::Timestamp;
use schemas::dead::DeadLetter;
use schemas::event::EventKind;
use schemas::log::{ChunkHeader, LogStream};
use schemas::names::{
    bucket, cancel_key, dead_subject, event_subject, job_lease, job_record, log_subject,
    report_subject, stream,
};
use schemas::record::{Attempt, JobRecord};
use schemas::{Job, JobResult, Sha256Digest, Token};
use serde_json::{Value, json};

const JOB: &str = include_str!("../../../schemas/examples/job.json");
const RESULT: &[u8] = include_bytes!("../../../schemas/examples/result.json");
const DEAD: &[u8] = include_bytes!("../../../schemas/examples/dead-letter.json");

/// A tenant of its own on the server.
struct Fixture {
    url: String,
    jetstream: jetstream::Context,
    tenant: Token,
}

/// What the program did.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Fixture {
    /// None where there is no server.
    async fn start() -> Result<Option<Self>> {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return Ok(None);
        };
        let jetstream = jetstream::new(async_nats::connect(&url).await?);
        provision(&jetstream, 1).await?;
        let tenant = uuid::Uuid::new_v4().simple().to_string().parse()?;
        Ok(Some(Self {
            url,
            jetstream,
            tenant,
        }))
    }

    async fn run(&self, arguments: &[&str]) -> Result<Said> {
        let mut program = self.command(arguments);
        let Output {
            status,
            stdout,
            stderr,
        } = tokio::task::spawn_blocking(move || program.output()).await??;
        Ok(Said {
            code: status.code(),
            out: String::from_utf8(stdout)?,
            err: String::from_utf8(stderr)?,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sourdough"));
        program
            .args(arguments)
            .args(["--nats", &self.url, "--tenant", self.tenant.as_str()])
            // Nobody answers there.
            .args(["--s3-endpoint", "http://127.0.0.1:1"])
            .env("AWS_ACCESS_KEY_ID", "user")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_MAX_ATTEMPTS", "1");
        program
    }

    /// Queues the golden job with an id of its own.
    async fn queue(&self) -> Result<Token> {
        let job = Job {
            id: uuid::Uuid::now_v7(),
            ..Job::parse(JOB.as_bytes())?
        };
        let subject = format!("build.job.{}.untrusted.5.{}", self.tenant, self.tenant);
        self.publish(subject, serde_json::to_vec(&job)?).await?;
        Ok(job.id.into())
    }

    async fn publish(&self, subject: String, body: Vec<u8>) -> Result<()> {
        self.jetstream.publish(subject, body.into()).await?.await?;
        Ok(())
    }

    async fn finish(&self, id: &Token) -> Result<()> {
        let result = JobResult {
            job_id: id.clone(),
            tenant: self.tenant.clone(),
            log: None,
            past_attempts: Vec::new(),
            ..JobResult::parse(RESULT)?
        };
        let subject = report_subject(&self.tenant, id);
        self.publish(subject, serde_json::to_vec(&result)?).await
    }

    async fn bucket(&self, name: &str) -> Result<kv::Store> {
        Ok(self.jetstream.get_key_value(name).await?)
    }

    /// Writes an attempt that has begun on `w1`.
    async fn begin(&self, id: &Token) -> Result<()> {
        let mut record = JobRecord::new(Sha256Digest::of("body"));
        record
            .attempts
            .push(Attempt::begin("w1".parse()?, Timestamp::now()));
        let key = job_record(&self.tenant, id);
        let jobs = self.bucket(bucket::JOBS).await?;
        jobs.put(key, serde_json::to_vec(&record)?.into()).await?;
        Ok(())
    }

    async fn chunk(&self, id: &Token, seq: u64, bytes: &'static str, eof: bool) -> Result<()> {
        let header = ChunkHeader {
            attempt: 1,
            step: None,
            stream: LogStream::Stdout,
            seq,
            time: Timestamp::now(),
            eof,
        };
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in header.to_pairs() {
            headers.insert(name, value);
        }
        let subject = log_subject(&self.tenant, id);
        let bytes = Bytes::from_static(bytes.as_bytes());
        let published = self.jetstream.publish_with_headers(subject, headers, bytes);
        published.await?.await?;
        Ok(())
    }

    async fn standing(&self, id: &Token) -> Result<Value> {
        let said = self.run(&["why", id.as_str(), "--json"]).await?;
        serde_json::from_str(&said.out).with_context(|| said.err)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_says_whether_there_is_anything_to_cancel() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let cancels = fixture.bucket(bucket::CANCELS).await?;
    let unknown = uuid::Uuid::now_v7().to_string();
    let key = |id: &str| Ok::<_, anyhow::Error>(cancel_key(&fixture.tenant, &id.parse()?));
    let said = fixture.run(&["cancel", &unknown]).await?;
    ensure!((said.code, said.out.as_str()) == (Some(66), "not found\n"));
    ensure!(cancels.get(key(&unknown)?).await?.is_none());
    let said = fixture
        .run(&["cancel", &unknown, "--even-if-unknown"])
        .await?;
    ensure!((said.code, said.out.as_str()) == (Some(0), "cancelling\n"));
    ensure!(cancels.get(key(&unknown)?).await?.is_some());

    let queued = fixture.queue().await?;
    let said = fixture.run(&["cancel", queued.as_str()]).await?;
    ensure!((said.code, said.out.as_str()) == (Some(0), "cancelling\n"));
    ensure!(cancels.get(key(queued.as_str())?).await?.is_some());
    ensure!(fixture.standing(&queued).await?["standing"]["state"] == "cancelling");

    fixture.finish(&queued).await?;
    let said = fixture.run(&["cancel", queued.as_str(), "--json"]).await?;
    let answer: Value = serde_json::from_str(&said.out)?;
    ensure!(answer["answer"] == "already_finished" && answer["status"] == "failure");
    let waited = fixture.run(&["cancel", queued.as_str(), "--wait"]).await?;
    ensure!(waited.code == Some(1), "as the job did: {}", waited.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_printed_once_there_is_one() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let id = fixture.queue().await?;
    let said = fixture.run(&["result", id.as_str()]).await?;
    ensure!(said.code == Some(75) && said.out.is_empty());
    ensure!(said.err.contains("has no result yet") && said.err.contains("sourdough why"));
    let said = fixture
        .run(&["wait", id.as_str(), "--timeout", "1"])
        .await?;
    ensure!(said.code == Some(75) && said.err.contains("no result after 1 s"));

    let mut waiting = fixture.command(&["wait", id.as_str(), "--json"]);
    let waiting = waiting.stdout(Stdio::piped()).spawn()?;
    fixture.finish(&id).await?;
    let waited = tokio::task::spawn_blocking(|| waiting.wait_with_output()).await??;
    let said = fixture.run(&["result", id.as_str(), "--json"]).await?;
    ensure!(said.code == Some(1) && waited.status.code() == Some(1));
    ensure!(waited.stdout == said.out.as_bytes());
    ensure!(JobResult::parse(said.out.as_bytes())?.job_id == id);
    ensure!(
        said.err
            .starts_with("status     failure: step_exit_nonzero")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_shown_as_far_as_it_goes_and_followed_to_the_result() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let id = fixture.queue().await?;
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(said.code == Some(75) && said.err.contains("has no log yet"));
    fixture.chunk(&id, 1, "one\n", false).await?;
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(
        (said.code, said.out.as_str()) == (Some(0), "one\n"),
        "{}",
        said.err
    );
    ensure!(said.err.contains("this is the log so far"));

    let mut following = fixture.command(&["logs", "-f", id.as_str()]);
    following.stdout(Stdio::piped()).stderr(Stdio::piped());
    let following = following.spawn()?;
    fixture.chunk(&id, 2, "two\n", true).await?;
    let result = JobResult {
        job_id: id.clone(),
        tenant: fixture.tenant.clone(),
        attempt: 1,
        ..JobResult::parse(RESULT)?
    };
    let subject = report_subject(&fixture.tenant, &id);
    fixture
        .publish(subject, serde_json::to_vec(&result)?)
        .await?;
    let output = tokio::task::spawn_blocking(|| following.wait_with_output()).await??;
    let err = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{err}");
    ensure!(output.stdout == b"one\ntwo\n", "{err}");

    // S3 is away, so the live log is what there is.
    let said = fixture.run(&["logs", id.as_str()]).await?;
    ensure!(said.out == "one\ntwo\n", "{}", said.err);
    ensure!(said.err.contains("cannot be read") && said.err.contains("attempt 1 on "));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_job_stands_follows_what_happens_to_it() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let unknown = fixture.run(&["why", "no-such-job"]).await?;
    ensure!(unknown.code == Some(66) && unknown.out.contains("has no job no-such-job"));
    let (first, id) = (fixture.queue().await?, fixture.queue().await?);
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["state"] == "no_worker", "{said}");

    let worker = json!({
        "name": fixture.tenant, "pool": fixture.tenant, "trust": ["untrusted"], "class": "qemu-a",
        "slots": 2, "running": 1, "parked": 0, "snapshots": [], "state": "ready", "time": Timestamp::now(),
    });
    let workers = fixture.bucket(bucket::WORKERS).await?;
    let state = worker.to_string();
    workers.put(fixture.tenant.as_str(), state.into()).await?;
    let said = fixture.standing(&id).await?;
    ensure!(
        said["standing"]
            == json!({
                "state": "waiting", "ahead": 1, "serving": {"workers": 1, "slots": 2, "running": 1}
            }),
        "{said}"
    );

    // Whoever is held by a worker is not ahead.
    let leases = Leases::open(&fixture.jetstream).await?;
    let hold = async |id: &Token| leases.take(&job_lease(&fixture.tenant, id), "w1").await;
    hold(&first).await?.context("a free lease")?;
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["ahead"] == 0, "{said}");

    let tenants = fixture.bucket(bucket::TENANTS).await?;
    let limits = json!({"name": fixture.tenant, "concurrency": 1}).to_string();
    tenants.put(fixture.tenant.as_str(), limits.into()).await?;
    let cap = schemas::names::cap_lease(&fixture.tenant, 0);
    leases.take(&cap, "w1").await?.context("a free place")?;
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["state"] == "at_cap", "{said}");

    let held = hold(&id).await?.context("a free lease")?;
    let event = json!({
        "job_id": id, "attempt": 1, "seq": 1, "time": Timestamp::now(),
        "kind": EventKind::Parked, "message": "waits for the bake of environment widget",
    });
    let subject = event_subject(&fixture.tenant, &id);
    fixture.publish(subject, event.to_string().into()).await?;
    let said = fixture.run(&["why", id.as_str()]).await?;
    ensure!(
        said.out.contains("is parked with w1") && said.out.contains("bake of environment widget")
    );
    let mut event = event;
    event["kind"] = json!(EventKind::Forked);
    let subject = event_subject(&fixture.tenant, &id);
    fixture.publish(subject, event.to_string().into()).await?;
    fixture.begin(&id).await?;
    let said = fixture.standing(&id).await?;
    ensure!(
        said["standing"]["state"] == "running" && said["standing"]["worker"] == "w1",
        "{said}"
    );
    held.release().await;
    let said = fixture.standing(&id).await?;
    ensure!(said["standing"]["state"] == "lost", "{said}");
    fixture.finish(&id).await?;
    let said = fixture.standing(&id).await?;
    ensure!(
        said["standing"]["state"] == "finished" && said["not_known"] == json!([]),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_listed_shown_and_replayed_under_a_new_id() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let job = Job::parse(JOB.as_bytes())?;
    let id = Token::from(job.id);
    let subject = format!(
        "build.job.{}.untrusted.5.{}",
        fixture.tenant, fixture.tenant
    );
    let letter = DeadLetter {
        job_id: id.clone(),
        subject: subject.clone(),
        body: JOB.to_owned(),
        ..DeadLetter::parse(DEAD)?
    };
    let dead = dead_subject(&fixture.tenant, &id);
    fixture
        .publish(dead.clone(), serde_json::to_vec(&letter)?)
        .await?;
    let said = fixture.run(&["dead", "list"]).await?;
    ensure!(
        said.out.lines().count() == 1 && said.out.contains(id.as_str()),
        "{}",
        said.out
    );
    let said = fixture.run(&["dead", "show", id.as_str()]).await?;
    ensure!(
        said.out.contains("attempt 1 on w1: the worker w1 was lost"),
        "{}",
        said.out
    );
    let said = fixture.run(&["dead", "show", "no-such-job"]).await?;
    ensure!(said.code == Some(66) && said.err.contains("no dead job no-such-job"));

    let said = fixture.run(&["dead", "replay", id.as_str()]).await?;
    ensure!(said.code == Some(0), "{}", said.err);
    let jobs = fixture.jetstream.get_stream(stream::JOBS).await?;
    let stored = jobs.direct_get_last_for_subject(subject).await?;
    let replayed = Job::parse(&stored.payload)?;
    ensure!(said.out == format!("{}\n", replayed.id) && replayed.id != job.id);
    ensure!(replayed.labels["replay_of"] == id.as_str());

    let broken = DeadLetter {
        body: "[1]".to_owned(),
        ..letter
    };
    fixture.publish(dead, serde_json::to_vec(&broken)?).await?;
    let said = fixture.run(&["dead", "replay", id.as_str()]).await?;
    ensure!(
        said.code == Some(70) && said.err.contains("is not a JSON object"),
        "{}",
        said.err
    );
    Ok(())
}
