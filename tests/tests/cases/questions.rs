//! What is asked of the stack after a job, and of what it left: by every case.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::left::processes_that_name;
use e2e::queue;
use e2e::wait;
use futures_util::{FutureExt as _, StreamExt as _};
use schemas::{JobResult, Reason};
use serde_json::Value;

use crate::stack::Cases;

/// 30 s for what a worker does after it has published a result: acknowledge, and end the VM.
const SETTLED_DEADLINE: Duration = Duration::from_secs(30);

/// 15 min for the last of all templates: they are baked one after the other.
const TEMPLATE_DEADLINE: Duration = Duration::from_mins(15);

/// How long the republished result of a job may take that has it already.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

impl Cases {
    /// Runs a job that must end for `reason`, and looks at what is left of it.
    pub(crate) async fn ends_with(&self, job: &Value, reason: Reason) -> Result<JobResult> {
        let job_id = queue::job_id(job)?;
        self.body_ends_with(job.to_string(), job_id, reason).await
    }

    /// Publishes a body whose result must be filed under `job_id` and give `reason`; there must be one result, the queue must
    /// be empty and no VM may be left.
    pub(crate) async fn body_ends_with(
        &self,
        body: String,
        job_id: &str,
        reason: Reason,
    ) -> Result<JobResult> {
        let mut heard = self.queue.hear_results(job_id).await?;
        self.queue.publish(body).await?;
        let result = self.queue.result(job_id).await?;
        ensure!(
            result.reason.known() == Some(&reason) && result.status == reason.status(),
            "expected {}: {reason}, got {}: {}, {}",
            reason.status(),
            result.status,
            result.reason,
            result.message
        );
        ensure!(
            !result.message.is_empty(),
            "a result says in words what happened"
        );
        self.is_settled().await?;
        // It was stored already, so it is on its way.
        let first = tokio::time::timeout(HEARD_WITHIN, heard.next()).await;
        ensure!(matches!(first, Ok(Some(_))), "the result was not heard");
        ensure!(
            heard.next().now_or_never().is_none(),
            "a second result was heard"
        );
        Ok(result)
    }

    /// Whether a snapshot is published whose manifest, and so its definition, speaks of `text`.
    pub(crate) async fn is_published(&self, text: &str) -> Result<bool> {
        for key in self.snapshots.keys().await? {
            let manifest = self.snapshots.manifest(&key).await?;
            if manifest.to_string().contains(text) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until a template is baked, as each is without being asked for.
    pub(crate) async fn is_baked(&self, template: &str) -> Result<()> {
        let what = format!("template {template} to be baked");
        let name = format!(".{template}");
        wait::until(&what, TEMPLATE_DEADLINE, async || {
            let names = self.snapshots.names().await?;
            let is_there =
                |found: &String| found.starts_with("template.") && found.ends_with(&name);
            Ok(names.iter().any(is_there).then_some(()))
        })
        .await
    }

    /// A script that must succeed; gives what it wrote.
    pub(crate) async fn output_of(&self, script: &str) -> Result<String> {
        let result = self.ends_with(&self.job(script), Reason::Completed).await?;
        self.log(&result).await
    }

    /// The whole log of a job, as text.
    pub(crate) async fn log(&self, result: &JobResult) -> Result<String> {
        let Some(log) = &result.log else {
            return Ok(String::new());
        };
        let bytes = self.queue.object(&log.uri).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until the queue is empty and no VM runs.
    pub(crate) async fn is_settled(&self) -> Result<()> {
        wait::until("the job to be acknowledged", SETTLED_DEADLINE, async || {
            Ok((self.queue.waiting_jobs().await? == 0).then_some(()))
        })
        .await?;
        let slots = self.directory.join("worker/slots");
        wait::until(
            "every VM of the worker to be gone",
            SETTLED_DEADLINE,
            async || {
                Ok((is_empty(&slots)? && processes_that_name(&slots).is_empty()).then_some(()))
            },
        )
        .await
    }
}

fn is_empty(directory: &Path) -> Result<bool> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("list {}", directory.display())),
    }
}
