//! A publisher that talks to the servers itself: bodies in, results and objects out. What it hears of a job by the way is in [`crate::heard`].

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, stream::Info};
use async_nats::{Client, HeaderMap};
use aws_sdk_s3::primitives::ByteStream;
use bus::results;
use schemas::names::{source_object, stream};
use schemas::{JobResult, JobSubject, ObjectUri, Priority, Sha256Digest, Token, Trust};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::archive;
use crate::stack::{Servers, TENANT};

/// 10 min for a job of a test: the first of an environment waits for two bakes under emulation.
const RESULT_DEADLINE: Duration = Duration::from_mins(10);

/// The bucket for sources.
pub(crate) const SOURCES: &str = "build-sources";

/// A publisher.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    jetstream: jetstream::Context,
    s3: aws_sdk_s3::Client,
    /// Whose jobs it publishes.
    pub tenant: Token,
    trust: Trust,
    pool: Token,
    priority: Priority,
}

impl Queue {
    /// A publisher for the tenant of a stack, of jobs whose author is not trusted.
    pub async fn open(servers: &Servers) -> Result<Self> {
        let url = servers.nats.url();
        let client = async_nats::connect(url).await;
        let client = client.with_context(|| format!("connect to {url}"))?;
        Ok(Self {
            jetstream: jetstream::new(client.clone()),
            client,
            s3: servers.s3.client(),
            tenant: Token::parse(TENANT).expect("a plain word is a token"),
            trust: Trust::Untrusted,
            pool: Token::parse("default").expect("a plain word is a token"),
            priority: Priority::default(),
        })
    }

    /// The same for jobs whose author is trusted so far.
    #[must_use]
    pub fn of_author(&self, trust: Trust) -> Self {
        Self {
            trust,
            ..self.clone()
        }
    }

    /// The same for jobs of another tenant.
    #[must_use]
    pub fn of_tenant(&self, tenant: &Token) -> Self {
        Self {
            tenant: tenant.clone(),
            ..self.clone()
        }
    }

    /// The same for jobs that other workers run.
    #[must_use]
    pub fn in_pool(&self, pool: &Token) -> Self {
        Self {
            pool: pool.clone(),
            ..self.clone()
        }
    }

    /// The same for jobs of another priority.
    #[must_use]
    pub fn at_priority(&self, priority: Priority) -> Self {
        Self {
            priority,
            ..self.clone()
        }
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same with streams.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Objects.
    pub fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }

    /// Stores a tree of files and gives the `source` of a job that builds it.
    pub async fn store_source(&self, files: &[(&str, &str)]) -> Result<Value> {
        let packed = archive::pack(files)?;
        let digest = Sha256Digest::of(&packed);
        let key = source_object(&self.tenant, &digest);
        let object = self.s3.put_object().bucket(SOURCES).key(&key);
        let storing = object.body(ByteStream::from(packed)).send();
        // Boxed, since the futures of an AWS client are large.
        Box::pin(storing).await.context("store a source")?;
        Ok(source(&format!("s3://{SOURCES}/{key}"), &digest))
    }

    /// Stores an archive that is no source of a tenant's, and gives its place and digest as a definition has them.
    pub async fn store_archive(&self, packed: Vec<u8>) -> Result<Value> {
        let digest = Sha256Digest::of(&packed);
        let key = format!("archives/{digest}.tar.zst");
        let object = self.s3.put_object().bucket(SOURCES).key(&key);
        let storing = object.body(ByteStream::from(packed)).send();
        Box::pin(storing).await.context("store an archive")?;
        Ok(source(&format!("s3://{SOURCES}/{key}"), &digest))
    }

    /// Where this tenant's jobs go.
    pub fn subject(&self) -> JobSubject {
        JobSubject {
            pool: self.pool.clone(),
            trust: self.trust,
            priority: self.priority,
            tenant: self.tenant.clone(),
        }
    }

    /// Publishes a body, whatever it is, and gives its sequence in the stream.
    pub async fn publish(&self, body: impl Into<bytes::Bytes>) -> Result<u64> {
        self.publish_with(HeaderMap::new(), body).await
    }

    /// The same with headers, which a job needs none of.
    pub async fn publish_with(
        &self,
        headers: HeaderMap,
        body: impl Into<bytes::Bytes>,
    ) -> Result<u64> {
        let (subject, body) = (self.subject().to_string(), body.into());
        let stored = self.jetstream.publish_with_headers(subject, headers, body);
        let stored = stored.await;
        let stored = stored.context("publish a job")?.await;
        Ok(stored.context("publish a job")?.sequence)
    }

    /// Publishes a job and waits for its result.
    pub async fn run(&self, job: &Value) -> Result<JobResult> {
        self.publish(job.to_string()).await?;
        self.result(job_id(job)?).await
    }

    /// Waits for the result that is filed under `job_id`.
    pub async fn result(&self, job_id: &str) -> Result<JobResult> {
        let job_id = Token::parse(job_id).context("read a job's id")?;
        let waiting = results::wait(&self.client, &self.jetstream, &self.tenant, &job_id);
        let result = tokio::time::timeout(RESULT_DEADLINE, waiting).await;
        let result = result
            .with_context(|| format!("job {job_id}: no result within {RESULT_DEADLINE:?}"))?;
        result.with_context(|| format!("wait for the result of job {job_id}"))
    }

    /// Jobs that nobody has acknowledged.
    pub async fn waiting_jobs(&self) -> Result<u64> {
        let jobs = self.jetstream.get_stream(stream::JOBS).await;
        let Info { state, .. } = jobs.context("look at the queue")?.cached_info().clone();
        Ok(state.messages)
    }

    /// The bytes of an object.
    pub async fn object(&self, uri: &ObjectUri) -> Result<bytes::Bytes> {
        let object = self.s3.get_object().bucket(uri.bucket()).key(uri.key());
        let object = object.send().await.with_context(|| format!("open {uri}"))?;
        let body = object.body.collect().await;
        Ok(body.with_context(|| format!("read {uri}"))?.into_bytes())
    }
}

/// The `source` of a job, as JSON.
pub fn source(uri: &str, digest: &Sha256Digest) -> Value {
    json!({"archive": {"uri": uri, "digest": {"sha256": digest.to_string()}}})
}

/// A job with one shell step, as JSON; cases change what they are about.
pub fn job(source: &Value, environment: &str, script: &str) -> Value {
    json!({
        "schema": "sourdough/job/v1",
        "id": Uuid::now_v7().to_string(),
        "source": source,
        "environment": {"name": environment},
        "steps": [{"name": "build", "sh": script, "timeout_s": 300}],
    })
}

/// The id that a result is filed under.
pub fn job_id(job: &Value) -> Result<&str> {
    job["id"].as_str().context("a job has an id")
}
