//! Submits a build as a person does: with `sourdough submit`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The client's program, and what it needs to find the servers.
#[derive(Debug, Clone)]
pub struct Client {
    /// `sourdough`.
    pub program: PathBuf,
    /// Added to our own environment.
    pub environment: Vec<(String, String)>,
}

/// What came of a submission.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// What the client exited with.
    pub exit_code: Option<i32>,
    /// The result message.
    pub result: Value,
}

impl Client {
    /// Builds what is committed in `directory` in `environment` and waits for the result. `arguments` name steps and
    /// artifacts. The log goes to standard error as it comes.
    pub async fn submit(
        &self,
        directory: &Path,
        environment: &str,
        arguments: &[&str],
    ) -> Result<Submitted> {
        // Not `output`, which would keep standard error to itself.
        let client = tokio::process::Command::new(&self.program)
            .args(["submit", "--json", "--environment", environment, "--dir"])
            .arg(directory)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let output = client.wait_with_output().await;
        let output = output.context("wait for sourdough submit")?;
        let result = serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "sourdough submit ended with {} and without a result",
                output.status
            )
        })?;
        Ok(Submitted {
            exit_code: output.status.code(),
            result,
        })
    }
}

impl Submitted {
    /// The SHA-256 of the artifact `path`, if it came out.
    pub fn digest_of(&self, path: &str) -> Option<&str> {
        let artifacts = self.result["artifacts"].as_array()?;
        let artifact = artifacts.iter().find(|artifact| artifact["path"] == path)?;
        artifact["digest"]["sha256"].as_str()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_artifact_is_found_by_its_path() {
        let submitted = Submitted {
            exit_code: Some(0),
            result: json!({"artifacts": [{"path": "a", "digest": {"sha256": "00ff"}}]}),
        };
        assert_eq!(submitted.digest_of("a"), Some("00ff"));
        assert_eq!(submitted.digest_of("b"), None);
    }
}
