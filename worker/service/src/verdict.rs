//! Why a job ended: the reason, and a sentence for a person. The status follows from the reason.

use schemas::reason::{Reason, Status};
use schemas::result::Termination;
use schemas::{Token, artifact::Artifact};
use setup::SetupError;
use source::SourceError;
use store::StoreError;
use vm::VmError;

use crate::park::FailedBake;

/// A filesystem with less room than this is full: what failed on it most likely failed for that.
const FULL_BELOW_BYTES: u64 = 1 << 20;

/// 2 KiB: some twenty lines of output.
const QUOTED_BYTES: usize = 2 << 10;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in one sentence.
    pub message: String,
    /// Another attempt would end the same, whatever the reason says.
    for_good: bool,
}

impl Verdict {
    /// A verdict for `reason`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            for_good: false,
        }
    }

    /// The same, but not tried again: the job itself asked for this end.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self {
            for_good: true,
            ..self
        }
    }

    /// All went well.
    pub fn success() -> Self {
        Self::new(Reason::Completed, "every step succeeded")
    }

    /// The host's own trouble, with its causes.
    pub fn host(reason: Reason, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(reason, bus::telemetry::Causes(error).to_string())
    }

    /// Whether another attempt could end differently: only the host's own trouble is tried again.
    pub fn is_retried(&self) -> bool {
        match self.reason.status() {
            Status::Error => !self.for_good,
            Status::Success | Status::Failure | Status::Timeout | Status::Cancellation => false,
        }
    }
}

/// Why a step was told to end before its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All steps together ran past `timeouts.run_s`.
    Run,
    /// It was silent for `timeouts.idle_s`.
    Idle,
}

/// What a step's end means for the job; `None` if the next step may run. `problem` is why it never started, where it did not.
pub fn of_step(
    name: &Token,
    termination: Termination,
    cut: Option<Cut>,
    disk_free_bytes: u64,
    problem: Option<&str>,
) -> Option<Verdict> {
    let full = disk_free_bytes < FULL_BELOW_BYTES;
    let verdict = |reason, what: String| Some(Verdict::new(reason, format!("step {name} {what}")));
    match (termination, cut) {
        (Termination::Exited { code: 0 }, _) => None,
        (Termination::Exited { code }, _) if full => verdict(
            Reason::DiskFull,
            format!("exited with {code}, with the disk full"),
        ),
        (Termination::Exited { code }, _) => {
            verdict(Reason::StepExitNonzero, format!("exited with {code}"))
        }
        (Termination::Signalled { signal }, _) => verdict(
            Reason::StepSignalled,
            format!("was ended by signal {signal}"),
        ),
        (Termination::OutOfMemory, _) => verdict(Reason::OutOfMemory, "used up the memory".into()),
        (Termination::TimedOut, Some(Cut::Run)) => verdict(
            Reason::RunTimeout,
            "ran when the time for all steps was over".into(),
        ),
        (Termination::TimedOut, Some(Cut::Idle)) => {
            verdict(Reason::IdleTimeout, "was silent for too long".into())
        }
        (Termination::TimedOut, None) => {
            verdict(Reason::StepTimeout, "ran past its timeout".into())
        }
        (Termination::Cancelled, _) => verdict(Reason::Cancelled, "was cancelled".into()),
        (Termination::NotRun, _) => {
            let problem = problem.unwrap_or("no reason is known");
            verdict(
                Reason::StepNotStarted,
                format!("could not be started: {problem}"),
            )
        }
    }
}

/// A guest whose agent is gone: whose fault that is, the end of its VMM says.
pub fn of_lost_guest(exit: vm::Exit) -> Verdict {
    match exit {
        vm::Exit::PoweredOff | vm::Exit::Killed => {
            Verdict::new(Reason::GuestDied, "the guest died")
        }
        vm::Exit::VmmFailed(problem) => Verdict::new(Reason::VmmDied, problem),
    }
}

/// A bake that failed, for a job that waited for it.
pub fn of_failed_bake(environment: &Token, bake: &FailedBake) -> Verdict {
    let reason = match bake.reason.as_str() {
        "unknown_environment" => Reason::UnknownEnvironment,
        "invalid_source" => Reason::InvalidJob,
        // The words of bakes are an open set: whatever else it was, the bake failed.
        _ => Reason::BakeFailed,
    };
    let message = &bake.message;
    Verdict::new(
        reason,
        format!("the bake of environment {environment} failed: {message}"),
    )
}

/// A setup that failed in the job's own fork of the template. What the guest's end was, its VMM says.
pub fn of_failed_setup(environment: &Token, error: &SetupError) -> Verdict {
    let message = format!(
        "environment {environment}: {}",
        bus::telemetry::Causes(error)
    );
    match error {
        SetupError::Step(failure) => {
            let end = failure.transcript.end();
            let end = last_bytes(end.trim_end());
            let output = if end.is_empty() {
                "it wrote nothing".to_owned()
            } else {
                format!("its output ends with:\n{end}")
            };
            Verdict::new(Reason::BakeFailed, format!("{message}; {output}"))
        }
        SetupError::Source(error) => Verdict::from(error),
        SetupError::UnknownRegistry { .. }
        | SetupError::HostNotAllowed { .. }
        | SetupError::Host { .. }
        | SetupError::Agent { .. } => Verdict::new(Reason::BakeFailed, message),
    }
}

/// As much of the end as a sentence may quote; the rest is in the log.
fn last_bytes(text: &str) -> &str {
    let from = text.len().saturating_sub(QUOTED_BYTES);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or(text.len())..]
}

/// A required artifact that matched nothing.
pub fn of_missing(artifact: &Artifact) -> Verdict {
    let globs: Vec<_> = artifact.paths.iter().map(ToString::to_string).collect();
    let message = format!(
        "artifact {} matches no file: {}",
        artifact.name,
        globs.join(", ")
    );
    Verdict::new(Reason::ArtifactMissing, message)
}

impl From<&SourceError> for Verdict {
    fn from(error: &SourceError) -> Self {
        Verdict::host(error.reason(), error)
    }
}

impl From<&StoreError> for Verdict {
    fn from(error: &StoreError) -> Self {
        Verdict::host(Reason::SnapshotUnavailable, error)
    }
}

impl From<&VmError> for Verdict {
    fn from(error: &VmError) -> Self {
        let reason = match error {
            VmError::Snapshot { .. } => Reason::SnapshotUnavailable,
            VmError::Start { .. }
            | VmError::Vmm { .. }
            | VmError::Silent { .. }
            | VmError::Agent { .. }
            | VmError::Io { .. } => Reason::HostFailed,
        };
        Verdict::host(reason, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(termination: Termination, cut: Option<Cut>, free: u64) -> Option<Reason> {
        let name = "build".parse().unwrap();
        of_step(&name, termination, cut, free, None).map(|verdict| verdict.reason)
    }

    #[test]
    fn every_end_of_a_step_has_its_reason() {
        let room = 1 << 30;
        let table = [
            (Termination::Exited { code: 0 }, None, room, None),
            (Termination::Exited { code: 0 }, None, 0, None),
            (
                Termination::Exited { code: 3 },
                None,
                room,
                Some(Reason::StepExitNonzero),
            ),
            (
                Termination::Exited { code: 3 },
                None,
                0,
                Some(Reason::DiskFull),
            ),
            (
                Termination::Signalled { signal: 9 },
                None,
                room,
                Some(Reason::StepSignalled),
            ),
            (
                Termination::OutOfMemory,
                None,
                room,
                Some(Reason::OutOfMemory),
            ),
            (Termination::TimedOut, None, room, Some(Reason::StepTimeout)),
            (
                Termination::TimedOut,
                Some(Cut::Run),
                room,
                Some(Reason::RunTimeout),
            ),
            (
                Termination::TimedOut,
                Some(Cut::Idle),
                room,
                Some(Reason::IdleTimeout),
            ),
            (Termination::Cancelled, None, room, Some(Reason::Cancelled)),
            (
                Termination::NotRun,
                None,
                room,
                Some(Reason::StepNotStarted),
            ),
        ];
        for (termination, cut, free, reason) in table {
            assert_eq!(
                step(termination, cut, free),
                reason,
                "{termination:?} {cut:?} {free}"
            );
        }
    }

    #[test]
    fn a_failed_bake_is_the_jobs_end_whatever_its_word() {
        let of = |reason: &str| {
            let bake = FailedBake {
                reason: reason.into(),
                message: "setup step deps exited with 1".into(),
                log: None,
            };
            of_failed_bake(&"widget".parse().unwrap(), &bake)
        };
        assert_eq!(of("step_failed").reason, Reason::BakeFailed);
        assert_eq!(of("a word of tomorrow").reason, Reason::BakeFailed);
        assert_eq!(of("unknown_environment").reason, Reason::UnknownEnvironment);
        assert_eq!(
            of("step_failed").message,
            "the bake of environment widget failed: setup step deps exited with 1"
        );
        assert!(!of("host_failed").is_retried());
    }

    #[test]
    fn the_end_of_an_output_is_quoted_at_a_character() {
        assert_eq!(last_bytes("short"), "short");
        let long = "é".repeat(QUOTED_BYTES) + "x";
        let end = last_bytes(&long);
        assert!(end.ends_with("éx") && end.len() <= QUOTED_BYTES && end.len() > QUOTED_BYTES - 4);
    }

    #[test]
    fn a_vmm_that_fails_is_ours_and_a_guest_that_dies_is_not() {
        assert!(of_lost_guest(vm::Exit::VmmFailed("signal 9".into())).is_retried());
        assert!(!of_lost_guest(vm::Exit::PoweredOff).is_retried());
    }
}
