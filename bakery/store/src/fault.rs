//! Who can mend a failure.

/// The owner of a failure: what decides whether a job is told, retried, or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The job's own: the build's author can mend it. It is a result, not retried.
    Job,
    /// The host's, or something that the host depends on: retried elsewhere or later.
    Host,
    /// The message asks for what cannot be had: refused, not retried.
    Message,
}
