//! How the process exits.
//!
//! | code | when |
//! | --- | --- |
//! | 0 | `success` only |
//! | the step's | `failure` of a step that exited with a code above 0 |
//! | 1 | any other `failure` |
//! | 64 | the job or the command line is invalid |
//! | 66 | nothing is known of the job |
//! | 70 | `error`, and trouble of this program's own |
//! | 75 | the job has no result yet |
//! | 124 | `timeout` |
//! | 130 | `cancellation`, and an interrupt from the keyboard |

use std::process::ExitCode;

use bus::telemetry::Causes;
use schemas::{FieldError, JobResult, Reason, Status};

use crate::interrupt::Interrupted;

/// `EX_USAGE` of `sysexits.h`.
const INVALID: u8 = 64;
/// `EX_SOFTWARE` of `sysexits.h`.
const ERROR: u8 = 70;
/// `EX_NOINPUT` of `sysexits.h`.
const NOT_FOUND: u8 = 66;
/// `EX_TEMPFAIL` of `sysexits.h`.
const NOT_YET: u8 = 75;
/// What `timeout` exits with.
const TIMEOUT: u8 = 124;
/// What a shell reports of a process that an interrupt ended.
const CANCELLED: u8 = 130;

/// The code for a result.
pub(crate) fn code(result: &JobResult) -> u8 {
    match result.status {
        Status::Success => 0,
        Status::Failure if result.reason.known() == Some(&Reason::InvalidJob) => INVALID,
        Status::Failure => result
            .exit_code
            .and_then(|code| u8::try_from(code).ok())
            .filter(|code| *code > 0)
            .unwrap_or(1),
        Status::Timeout => TIMEOUT,
        Status::Cancellation => CANCELLED,
        Status::Error => ERROR,
    }
}

/// Says what is wrong with the command line; help and version are not wrong.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to do when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() {
        INVALID.into()
    } else {
        ExitCode::SUCCESS
    }
}

/// Says why there is no result.
pub(crate) fn trouble(error: &anyhow::Error) -> ExitCode {
    eprintln!("sourdough: {}", Causes(error.as_ref()));
    // Only the job itself: a result that cannot be read holds such an error too, as a cause.
    if error.is::<FieldError>() {
        INVALID.into()
    } else {
        ERROR.into()
    }
}

/// Says what was interrupted, and how to come back to it.
pub(crate) fn interrupted(what: &Interrupted) -> ExitCode {
    eprintln!("sourdough: {what}");
    CANCELLED.into()
}

/// Says that there is nothing of that name.
pub(crate) fn not_found(what: &str) -> ExitCode {
    eprintln!("sourdough: {what}");
    NOT_FOUND.into()
}

/// Says that what was asked for may come.
pub(crate) fn not_yet(what: &str) -> ExitCode {
    eprintln!("sourdough: {what}");
    NOT_YET.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::result;

    #[test]
    fn every_outcome_has_its_code() {
        for (reason, exit_code, expected) in [
            (Reason::Completed, Some(0), 0),
            (Reason::StepExitNonzero, Some(3), 3),
            (Reason::StepExitNonzero, Some(255), 255),
            (Reason::StepSignalled, None, 1),
            (Reason::OutOfMemory, None, 1),
            (Reason::ArtifactMissing, None, 1),
            (Reason::GuestDied, None, 1),
            (Reason::IdConflict, None, 1),
            (Reason::UnknownEnvironment, None, 1),
            (Reason::InvalidJob, None, 64),
            (Reason::StepTimeout, None, 124),
            (Reason::RunTimeout, None, 124),
            (Reason::IdleTimeout, None, 124),
            (Reason::QueueExpired, None, 124),
            (Reason::Cancelled, None, 130),
            (Reason::HostFailed, None, 70),
            (Reason::SourceUnavailable, None, 70),
        ] {
            assert_eq!(code(&result(reason, exit_code)), expected, "{reason}");
        }
    }

    #[test]
    fn no_failure_exits_with_0() {
        for odd in [Some(0), Some(-1), Some(256), None] {
            assert_eq!(code(&result(Reason::StepExitNonzero, odd)), 1, "{odd:?}");
        }
    }
}
