//! Forks as a job sees them: through the queue, the worker and the live log.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use schemas::log::LogStream;
use schemas::{JobResult, Status};
use serde_json::{Value, json};

use crate::queue::{self, Queue};

/// What one job took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// From the worker's claim to the first byte of the step's output.
    pub(super) first_byte: Duration,
    /// From the claim to a VM that answers.
    pub(super) vm_ready: Duration,
    /// From the stored job to the result.
    pub(super) whole: Duration,
}

/// Runs `runs` jobs with one `echo`, one after the other. The first, which waits for the bake, is not among them.
pub(super) async fn measure(
    queue: &Queue,
    environment: &str,
    runs: usize,
) -> Result<Vec<Measured>> {
    let source = queue.store_source(&[("README", "bench\n")]).await?;
    one(queue, &source, environment)
        .await
        .context("the first job")?;
    let mut measured = Vec::new();
    for _ in 0..runs {
        measured.push(one(queue, &source, environment).await?);
    }
    Ok(measured)
}

async fn one(queue: &Queue, source: &Value, environment: &str) -> Result<Measured> {
    let mut job = queue::job(source, environment, "");
    job["steps"] = json!([{"name": "echo", "run": ["echo", "hello"]}]);
    let mut log = queue.follow(queue::job_id(&job)?).await?;
    let result = queue.run(&job).await?;
    ensure!(
        result.status == Status::Success,
        "{}: {}",
        result.status,
        result.message
    );
    let first = loop {
        let chunk = log.next().await?;
        if chunk.header.stream == LogStream::Stdout && !chunk.bytes.is_empty() {
            break chunk.header.time;
        }
    };
    let claimed = result
        .timing
        .claimed_at
        .context("a result says when its job was claimed")?;
    Ok(Measured {
        first_byte: between(claimed, first)?,
        vm_ready: between(
            claimed,
            result.timing.vm_ready_at.context("a VM was ready")?,
        )?,
        whole: whole(&result)?,
    })
}

fn whole(result: &JobResult) -> Result<Duration> {
    let queued = result.timing.queued_at.context("the job was queued")?;
    between(
        queued,
        result.timing.finished_at.context("the job was finished")?,
    )
}

fn between(from: jiff::Timestamp, to: jiff::Timestamp) -> Result<Duration> {
    Duration::try_from(to.duration_since(from)).context("the worker's clock went backwards")
}
