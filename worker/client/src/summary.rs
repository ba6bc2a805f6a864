//! A result in six lines for a person:
//!
//! ```text
//! status     failure: step_exit_nonzero, step test exited with 1
//! job        0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11, attempt 2 on w1, 10.6 s
//! ran in     widget on node, fork, qemu with tcg, snapshot sha256:ab12…
//! steps      build success in 8.1 s; test failure (exit 1) in 0.9 s
//! artifacts  dist/widget.tar.gz 81231 bytes sha256:ab12…
//! log        44120 bytes, s3://build-logs/acme/0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11/1.log
//! ```

use std::fmt::Write as _;

use schemas::JobResult;
use schemas::result::{ArtifactRef, StepResult, StepStatus, Termination};

/// Artifacts that are named; of more, only the number is.
const NAMED_ARTIFACTS: usize = 4;

/// What stands where there is nothing to say.
const NOTHING: &str = "none";

/// The six lines.
pub(crate) fn lines(result: &JobResult) -> [String; 6] {
    [
        format!(
            "status     {}: {}, {}",
            result.status,
            result.reason,
            one_line(&result.message)
        ),
        format!(
            "job        {}, attempt {} on {}{}",
            result.job_id,
            result.attempt,
            result.worker,
            took(result)
        ),
        format!("ran in     {}", ran_in(result)),
        format!("steps      {}", joined(result.steps.iter().map(step))),
        format!("artifacts  {}", artifacts(result)),
        format!("log        {}", log(result)),
    ]
}

fn took(result: &JobResult) -> String {
    let (Some(from), Some(to)) = (result.timing.queued_at, result.timing.finished_at) else {
        return String::new();
    };
    format!(", {:.1} s", to.duration_since(from).as_secs_f64())
}

fn ran_in(result: &JobResult) -> String {
    let Some(used) = &result.environment else {
        return NOTHING.to_owned();
    };
    let start = match used.start {
        schemas::result::Start::Fork => "fork",
        schemas::result::Start::Cold => "cold",
    };
    format!(
        "{} on {}, {start}, {} with {}, snapshot sha256:{}",
        used.name, used.template, used.driver, used.accelerator, used.snapshot.sha256
    )
}

fn step(step: &StepResult) -> String {
    let status = match step.status {
        StepStatus::Success => "success",
        StepStatus::Failure => "failure",
        StepStatus::Timeout => "timeout",
        StepStatus::Cancellation => "cancellation",
        StepStatus::Skip => return format!("{} not run", step.name),
    };
    let how = match step.termination {
        Termination::Exited { code: 0 }
        | Termination::TimedOut
        | Termination::Cancelled
        | Termination::NotRun => String::new(),
        Termination::Exited { code } => format!(" (exit {code})"),
        Termination::Signalled { signal } => format!(" (signal {signal})"),
        Termination::OutOfMemory => " (out of memory)".to_owned(),
    };
    let tenths = step.duration_ms / 100;
    format!(
        "{} {status}{how} in {}.{} s",
        step.name,
        tenths / 10,
        tenths % 10
    )
}

fn artifacts(result: &JobResult) -> String {
    if let Some(manifest) = &result.artifacts_manifest {
        return format!("{}, listed in {}", manifest.count, manifest.uri);
    }
    let mut text = joined(result.artifacts.iter().take(NAMED_ARTIFACTS).map(artifact));
    if result.artifacts.len() > NAMED_ARTIFACTS {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "; and {} more",
            result.artifacts.len() - NAMED_ARTIFACTS
        );
    }
    text
}

fn artifact(artifact: &ArtifactRef) -> String {
    format!(
        "{} {} bytes sha256:{}",
        one_line(artifact.path.as_str()),
        artifact.size_bytes,
        artifact.digest.sha256
    )
}

fn log(result: &JobResult) -> String {
    let Some(log) = &result.log else {
        return NOTHING.to_owned();
    };
    let truncated = if log.truncated {
        ", cut at its limit"
    } else {
        ""
    };
    format!("{} bytes{truncated}, {}", log.size_bytes, log.uri)
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        NOTHING.to_owned()
    } else {
        parts.join("; ")
    }
}

/// The text on one line, whatever it came from: it may have been written by the build.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use schemas::Reason;

    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../schemas/examples/result.json");

    /// The golden result with another end.
    pub(crate) fn result(reason: Reason, exit_code: Option<i32>) -> JobResult {
        let golden = JobResult::parse(GOLDEN).expect("golden messages parse");
        JobResult {
            status: reason.status(),
            reason: reason.into(),
            exit_code,
            ..golden
        }
    }

    #[test]
    fn a_result_is_told_in_six_lines() {
        let digest = "ab12cd34".repeat(8);
        let expected = [
            "status     failure: step_exit_nonzero, step test exited with 1".to_owned(),
            "job        0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11, attempt 2 on w1, 10.6 s".to_owned(),
            format!("ran in     widget on node, fork, qemu with tcg, snapshot sha256:{digest}"),
            "steps      build success in 8.1 s; test failure (exit 1) in 0.9 s".to_owned(),
            format!("artifacts  dist/widget.tar.gz 81231 bytes sha256:{digest}"),
            "log        44120 bytes, s3://build-logs/acme/0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11/1.log".to_owned(),
        ];
        assert_eq!(lines(&result(Reason::StepExitNonzero, Some(1))), expected);
    }

    #[test]
    fn a_job_that_never_ran_is_told_in_six_lines_too() {
        let golden = include_bytes!("../../../schemas/examples/result.invalid-job.json");
        let lines = lines(&JobResult::parse(golden).unwrap());
        assert_eq!(lines[0], "status     failure: invalid_job, id: is missing");
        assert_eq!(
            lines[2..]
                .iter()
                .filter(|line| line.ends_with("none"))
                .count(),
            4
        );
    }

    #[test]
    fn what_a_build_wrote_cannot_add_a_line() {
        let result = JobResult {
            message: "a\nstatus     success\u{1b}[2J".to_owned(),
            ..result(Reason::StepSignalled, None)
        };
        assert!(lines(&result)[0].chars().all(|c| !c.is_control()));
    }
}
