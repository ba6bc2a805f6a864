//! Why a job ended: the reason, and a sentence for a person. The status follows from the reason.

use schemas::reason::{Reason, Status};
use schemas::result::Termination;
use schemas::{Token, artifact::Artifact};
use setup::{SetupError, Transcript};
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
    /// What it says of this host.
    suspect: Suspect,
}

/// Whose fault a failure may be that came before any command of the guest ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// Not this host's.
    Other,
    /// This host's: its disk, its VMM, its way to the object store, a guest that does not thaw here.
    Host,
}

impl Verdict {
    /// A verdict for `reason`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            for_good: false,
            suspect: Suspect::Other,
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

    /// The same, and it is this host's fault.
    #[must_use]
    pub fn of_host(self) -> Self {
        self.suspecting(Suspect::Host)
    }

    fn suspecting(self, suspect: Suspect) -> Self {
        Self { suspect, ..self }
    }

    /// Its end was asked for.
    pub fn cancelled() -> Self {
        Self::new(Reason::Cancelled, "it was cancelled")
    }

    /// All went well.
    pub fn success() -> Self {
        Self::new(Reason::Completed, "every step succeeded")
    }

    /// The host's own trouble, with its causes.
    pub fn host(reason: Reason, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(reason, bus::telemetry::Causes(error).to_string())
    }

    /// Whose fault it may be.
    pub fn suspect(&self) -> Suspect {
        self.suspect
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
    /// The job's end was asked for.
    Cancel,
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
        (Termination::TimedOut, None | Some(Cut::Cancel)) => {
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
        // The bakery's hosts, which is no fault of the job's.
        "host_failed" | "vmm_died" => Reason::SnapshotUnavailable,
        "source_unavailable" => Reason::SourceUnavailable,
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
        SetupError::Step(_) | SetupError::Lost(_) => {
            let output = error.transcript().map_or_else(String::new, quoted_end);
            Verdict::new(Reason::BakeFailed, format!("{message}; {output}"))
        }
        SetupError::Source(error) => Verdict::from(error),
        // An agent that lives and would not, where no step ran.
        SetupError::Agent { .. } => Verdict::new(Reason::HostFailed, message),
        SetupError::UnknownRegistry { .. }
        | SetupError::HostNotAllowed { .. }
        | SetupError::Host { .. } => Verdict::new(Reason::BakeFailed, message),
    }
}

fn quoted_end(transcript: &Transcript) -> String {
    match last_bytes(transcript.end().trim_end()) {
        "" => "it wrote nothing".to_owned(),
        end => format!("its output ends with:\n{end}"),
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
        Verdict::host(error.reason(), error).suspecting(suspect_of_source(error))
    }
}

/// The object store as it is seen from here, and the disk; servers of others and what they send say nothing of this host.
fn suspect_of_source(error: &SourceError) -> Suspect {
    match error {
        SourceError::Objects { .. }
        | SourceError::Store { .. }
        | SourceError::Delete { .. }
        | SourceError::Download { .. }
        | SourceError::Spool(_) => Suspect::Host,
        SourceError::Shared(error) => suspect_of_source(error),
        SourceError::Address { .. }
        | SourceError::NotAllowed { .. }
        | SourceError::Missing { .. }
        | SourceError::Digest { .. }
        | SourceError::TooLarge { .. }
        | SourceError::Https { .. }
        | SourceError::Git { .. }
        | SourceError::Format(_)
        | SourceError::Refused(_)
        | SourceError::Input { .. }
        | SourceError::Tenant { .. }
        | SourceError::Values { .. }
        | SourceError::Agent(_) => Suspect::Other,
    }
}

impl From<&StoreError> for Verdict {
    fn from(error: &StoreError) -> Self {
        let suspect = match error {
            StoreError::Disk { .. } | StoreError::Objects { .. } | StoreError::Download { .. } => {
                Suspect::Host
            }
            // The same from everywhere.
            StoreError::NotFound { .. }
            | StoreError::Missing { .. }
            | StoreError::Corrupt { .. }
            | StoreError::NoManifest { .. }
            | StoreError::BadManifest { .. }
            | StoreError::Unpublishable { .. }
            | StoreError::Pointers { .. } => Suspect::Other,
        };
        Verdict::host(Reason::SnapshotUnavailable, error).suspecting(suspect)
    }
}

impl From<&VmError> for Verdict {
    fn from(error: &VmError) -> Self {
        let (reason, suspect) = match error {
            // The same from everywhere.
            VmError::Snapshot { .. } => (Reason::SnapshotUnavailable, Suspect::Other),
            VmError::Start { .. }
            | VmError::Vmm { .. }
            | VmError::Io { .. }
            | VmError::Silent { .. }
            | VmError::Agent { .. } => (Reason::HostFailed, Suspect::Host),
        };
        Verdict::host(reason, error).suspecting(suspect)
    }
}

#[cfg(test)]
mod tests;
