//! A tenant on a real nats-server, the program, and what a worker would write.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, kv};
use bus::streams::provision;
use bytes::Bytes;
use jiff::Timestamp;
use schemas::event::EventKind;
use schemas::log::{ChunkHeader, LogStream};
use schemas::names::{bucket, event_subject, job_record, log_subject, report_subject};
use schemas::record::{Attempt, JobRecord};
use schemas::{Job, JobResult, Sha256Digest, Token};
use serde_json::{Value, json};

pub(crate) const JOB: &str = include_str!("../../../../schemas/examples/job.json");
pub(crate) const RESULT: &[u8] = include_bytes!("../../../../schemas/examples/result.json");

/// A tenant of its own on the server.
pub(crate) struct Fixture {
    pub(crate) url: String,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) tenant: Token,
}

/// What the program did.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Fixture {
    /// None where there is no server.
    pub(crate) async fn start() -> Result<Option<Self>> {
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

    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Said> {
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

    /// The program, where S3 is away.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_over(&self.url, arguments)
    }

    /// The same, with NATS at `url`.
    pub(crate) fn command_over(&self, url: &str, arguments: &[&str]) -> Command {
        // Nobody answers there.
        self.command_with(arguments, url, "http://127.0.0.1:1")
    }

    /// The program, with S3 at `endpoint`, as `S3Server` wants it.
    pub(crate) fn command_at(&self, arguments: &[&str], endpoint: &str) -> Command {
        self.command_with(arguments, &self.url, endpoint)
    }

    fn command_with(&self, arguments: &[&str], url: &str, endpoint: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sourdough"));
        program
            .args(arguments)
            .args(["--nats", url, "--tenant", self.tenant.as_str()])
            .args(["--s3-endpoint", endpoint])
            .env("AWS_ACCESS_KEY_ID", "user")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_MAX_ATTEMPTS", "1");
        program
    }

    /// Queues the golden job with an id of its own.
    pub(crate) async fn queue(&self) -> Result<Token> {
        let job = Job {
            id: uuid::Uuid::now_v7(),
            ..Job::parse(JOB.as_bytes())?
        };
        let subject = format!("build.job.{}.untrusted.5.{}", self.tenant, self.tenant);
        self.publish(subject, serde_json::to_vec(&job)?).await?;
        Ok(job.id.into())
    }

    pub(crate) async fn publish(&self, subject: String, body: Vec<u8>) -> Result<()> {
        self.jetstream.publish(subject, body.into()).await?.await?;
        Ok(())
    }

    pub(crate) async fn finish(&self, id: &Token) -> Result<()> {
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

    /// Writes that the job waits for a bake.
    pub(crate) async fn park(&self, id: &Token) -> Result<()> {
        let event = json!({
            "job_id": id, "attempt": 1, "seq": 1, "time": Timestamp::now(),
            "kind": EventKind::Parked, "message": "waits for the bake of environment widget",
        });
        let subject = event_subject(&self.tenant, id);
        self.publish(subject, event.to_string().into()).await
    }

    pub(crate) async fn bucket(&self, name: &str) -> Result<kv::Store> {
        Ok(self.jetstream.get_key_value(name).await?)
    }

    /// Writes an attempt that has begun on `w1`.
    pub(crate) async fn begin(&self, id: &Token) -> Result<()> {
        let mut record = JobRecord::new(Sha256Digest::of("body"));
        record
            .attempts
            .push(Attempt::begin("w1".parse()?, Timestamp::now()));
        let key = job_record(&self.tenant, id);
        let jobs = self.bucket(bucket::JOBS).await?;
        jobs.put(key, serde_json::to_vec(&record)?.into()).await?;
        Ok(())
    }

    pub(crate) async fn chunk(
        &self,
        id: &Token,
        seq: u64,
        bytes: &'static str,
        eof: bool,
    ) -> Result<()> {
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

    pub(crate) async fn standing(&self, id: &Token) -> Result<Value> {
        let said = self.run(&["why", id.as_str(), "--json"]).await?;
        serde_json::from_str(&said.out).with_context(|| said.err)
    }
}
