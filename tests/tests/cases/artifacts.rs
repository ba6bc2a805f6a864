//! What comes out of a build.

use anyhow::{Result, ensure};
use schemas::{Reason, Sha256Digest};
use serde_json::json;

use crate::stack::Cases;

pub(crate) async fn an_artifact_is_in_s3_byte_for_byte(cases: &mut Cases) -> Result<()> {
    let script = "mkdir -p out/b; seq 1 200000 > out/numbers; cp hello.txt out/b/run; chmod 755 out/b/run; ln -s /etc/passwd out/link";
    let mut job = cases.job(script);
    job["artifacts"] = json!([{"name": "out", "paths": ["out/**"]}]);
    let result = cases.ends_with(&job, Reason::Completed).await?;
    ensure!(result.exit_code == Some(0));
    let found: Vec<_> = result
        .artifacts
        .iter()
        .map(|artifact| (artifact.path.as_str(), artifact.mode.as_str()))
        .collect();
    ensure!(
        found == [("out/b/run", "0755"), ("out/numbers", "0644")],
        "{found:?}"
    );
    let mut numbers = String::new();
    for number in 1..=200_000 {
        numbers.push_str(&number.to_string());
        numbers.push('\n');
    }
    for (artifact, expected) in result.artifacts.iter().zip(["hello\n", &numbers]) {
        let bytes = cases.queue.object(&artifact.uri).await?;
        ensure!(
            bytes == expected.as_bytes(),
            "{}: {} bytes",
            artifact.path,
            bytes.len()
        );
        ensure!(
            artifact.digest.sha256 == Sha256Digest::of(&bytes),
            "{}",
            artifact.path
        );
        ensure!(
            artifact.size_bytes == bytes.len() as u64,
            "{}",
            artifact.path
        );
    }
    Ok(())
}

pub(crate) async fn a_required_artifact_that_nothing_matches_is_a_failure(
    cases: &mut Cases,
) -> Result<()> {
    let mut job = cases.job("true");
    job["artifacts"] = json!([{"name": "dist", "paths": ["dist/**"]}]);
    let result = cases.ends_with(&job, Reason::ArtifactMissing).await?;
    ensure!(result.exit_code.is_none(), "0 is for success only");
    ensure!(result.message.contains("dist"), "{}", result.message);
    cases.output_of("true").await.map(drop)
}

pub(crate) async fn an_artifact_that_is_not_required_may_be_missing(
    cases: &mut Cases,
) -> Result<()> {
    let mut job = cases.job("true");
    job["artifacts"] = json!([{"name": "dist", "paths": ["dist/**"], "required": false}]);
    let result = cases.ends_with(&job, Reason::Completed).await?;
    ensure!(result.artifacts.is_empty());
    ensure!(result.log.is_none(), "a job without output stores no log");
    Ok(())
}
