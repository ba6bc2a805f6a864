//! Jobs that are not run: each has one result that says why, is acknowledged, and no VM is forked for it.

use anyhow::{Context as _, Result, ensure};
use e2e::queue;
use schemas::{JobResult, Reason, Sha256Digest};
use serde_json::json;
use uuid::Uuid;

use crate::stack::{Cases, PLAIN};

pub(crate) async fn a_body_that_is_no_json_is_answered_under_its_sequence(
    cases: &mut Cases,
) -> Result<()> {
    let sequence = cases.queue.publish("no json \u{1b}[2J").await?;
    let result = cases.queue.result(&format!("invalid-{sequence}")).await?;
    ensure!(
        result.reason.known() == Some(&Reason::InvalidJob),
        "{}",
        result.reason
    );
    ensure!(
        result.message.chars().all(|c| !c.is_control()),
        "{:?}",
        result.message
    );
    cases.is_settled().await?;
    was_not_forked(&result)
}

pub(crate) async fn a_body_that_breaks_the_schema_is_answered_with_the_field(
    cases: &mut Cases,
) -> Result<()> {
    for (field, change) in [
        ("steps", json!([])),
        ("speed", json!("high")),
        ("artifacts", json!([{"name": "out", "paths": ["../out"]}])),
        (
            "steps",
            json!([{"name": "build", "sh": "true", "timeout_s": 0}]),
        ),
    ] {
        let mut job = cases.job("true");
        job[field] = change;
        let result = cases.ends_with(&job, Reason::InvalidJob).await?;
        ensure!(
            result.message.contains(field),
            "{field}: {}",
            result.message
        );
        was_not_forked(&result)?;
    }
    Ok(())
}

pub(crate) async fn an_environment_that_nobody_defined_is_refused(cases: &mut Cases) -> Result<()> {
    let job = queue::job(&cases.source, "nobody-defined-this", "true");
    let result = cases.ends_with(&job, Reason::UnknownEnvironment).await?;
    ensure!(
        result.message.contains("nobody-defined-this"),
        "{}",
        result.message
    );
    was_not_forked(&result)
}

pub(crate) async fn a_source_that_is_not_there_is_refused(cases: &mut Cases) -> Result<()> {
    // Never stored, since no two runs make the same one.
    let digest = Sha256Digest::of(Uuid::new_v4().as_bytes());
    let uri = format!("s3://build-sources/{}/{digest}.tar.zst", cases.queue.tenant);
    let job = queue::job(&queue::source(&uri, &digest), PLAIN, "true");
    let result = cases.ends_with(&job, Reason::InvalidJob).await?;
    ensure!(result.message.contains(&uri), "{}", result.message);
    was_not_forked(&result)
}

pub(crate) async fn a_source_with_another_digest_is_refused(cases: &mut Cases) -> Result<()> {
    let uri = cases.source["archive"]["uri"]
        .as_str()
        .context("a source has an address")?;
    let claimed = Sha256Digest::of(b"something else");
    let job = queue::job(&queue::source(uri, &claimed), PLAIN, "true");
    let result = cases.ends_with(&job, Reason::SourceDigestMismatch).await?;
    was_not_forked(&result)
}

fn was_not_forked(result: &JobResult) -> Result<()> {
    ensure!(result.timing.vm_ready_at.is_none(), "a VM was forked");
    ensure!(result.exit_code.is_none(), "nothing ran");
    ensure!(result.log.is_none(), "nothing was written");
    Ok(())
}
