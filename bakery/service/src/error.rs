//! What can go wrong with a bake: whose fault it is, and in one word for the event.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::lease::LeaseError;
use bus::objects::ObjectsError;
use schemas::bake::BakeFailure;
use schemas::{FieldError, Sha256Digest, Token};
use setup::{SetupError, Transcript};
use source::SourceError;
use store::{Fault, StoreError};
use vm::VmError;

use crate::definitions::DefinitionsError;
use crate::history::HistoryError;
use crate::program::ProgramError;

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    /// The request contradicts itself.
    #[error("bake request: {0}")]
    Request(FieldError),
    /// The tenant has no environment of that name.
    #[error("tenant {tenant} has no environment {name}")]
    UnknownEnvironment {
        /// The tenant.
        tenant: Token,
        /// The environment that was asked for.
        name: Token,
    },
    /// The environment's template is not defined.
    #[error("there is no template {name}")]
    UnknownTemplate {
        /// The template that the environment names.
        name: Token,
    },
    /// The request names another key than its parts give.
    #[error("the key of this bake is {found}, the request says {wanted}")]
    Key {
        /// The key in the request.
        wanted: Sha256Digest,
        /// The key of the parts.
        found: Sha256Digest,
    },
    /// The guest could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// What was frozen may not be published.
    #[error("the snapshot is not fit to be published: {problem}")]
    Gate {
        /// What the check before the publication found.
        problem: String,
    },
    /// The VMM ended by itself.
    #[error("the VMM failed: {problem}")]
    VmmDied {
        /// What it said.
        problem: String,
    },
    /// The guest outlived all its time limits, and was killed.
    #[error("the guest was still there after {limit:?}, and was killed")]
    Outlived {
        /// All of them together.
        limit: Duration,
    },
    /// The VM could not be started or frozen.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The last bake of the key failed, and it is left alone until then.
    #[error("{} (baking it is not tried again before {}, unless somebody asks for it)", .0.message, .0.retry_at)]
    Remembered(Box<BakeFailure>),
    /// What is remembered of bakes.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Whose turn it is.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The bakery was asked to end in the middle of it.
    #[error("the bakery ends; another takes over")]
    Ending,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object store, asked for a root archive.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The definitions.
    #[error(transparent)]
    Definitions(#[from] DefinitionsError),
    /// A program of the host. What it finds fault with in a definition is [`Self::Root`].
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// There is no kernel.
    #[error("kernel: {problem}")]
    Kernel {
        /// Why not.
        problem: String,
    },
    /// A root filesystem cannot be made of this definition, or not on this host as it is set up.
    #[error("root filesystem: {problem}")]
    Root {
        /// Why not, and what to do.
        problem: String,
    },
    /// The host's own disk.
    #[error("{doing} {}", path.display())]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BakeError {
    /// Who can mend it. What the host's fault is is tried again.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Request(_)
            | Self::UnknownEnvironment { .. }
            | Self::UnknownTemplate { .. }
            | Self::Key { .. } => Fault::Message,
            // Of a root, because the operator of this bakery must do something: time alone mends it not. Of the gate, because a canary that
            // is found would be found again, and a guest whose forks are alike stays so: a host that tried again would only hide it.
            Self::Root { .. } | Self::Gate { .. } | Self::Remembered(_) => Fault::Job,
            Self::Setup(error) => error.fault(),
            Self::Source(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Definitions(error) => error.fault(),
            Self::History(error) => error.fault(),
            Self::VmmDied { .. }
            | Self::Outlived { .. }
            | Self::Lease(_)
            | Self::Ending
            | Self::Vm(_)
            | Self::Objects(_)
            | Self::Program(_)
            | Self::Kernel { .. }
            | Self::Disk { .. } => Fault::Host,
        }
    }

    /// The word in the event.
    pub fn reason(&self) -> &str {
        match self {
            Self::Remembered(failure) => &failure.reason,
            Self::Request(_) => "invalid_request",
            Self::UnknownEnvironment { .. } => "unknown_environment",
            Self::UnknownTemplate { .. } => "unknown_template",
            Self::Key { .. } => "key_mismatch",
            Self::Root { .. } => "root_refused",
            Self::Gate { .. } => "gate_failed",
            Self::Setup(error) => of_setup(error),
            Self::VmmDied { .. } => "vmm_died",
            Self::Source(error) => of_source(error),
            Self::Definitions(error) => match error.fault() {
                Fault::Job | Fault::Message => "invalid_definition",
                Fault::Host => "host_failed",
            },
            Self::Outlived { .. }
            | Self::Vm(_)
            | Self::Store(_)
            | Self::History(_)
            | Self::Lease(_)
            | Self::Ending
            | Self::Objects(_)
            | Self::Program(_)
            | Self::Kernel { .. }
            | Self::Disk { .. } => "host_failed",
        }
    }

    /// What the setup wrote, where a step of it ran when it failed.
    pub fn transcript(&self) -> Option<&Transcript> {
        self.setup().and_then(SetupError::transcript)
    }

    /// The setup step that failed, or in which the guest died.
    pub fn step(&self) -> Option<&Token> {
        if let Self::Remembered(failure) = self {
            return failure.step.as_ref();
        }
        self.setup().and_then(SetupError::step)
    }

    /// Whether it may only have looked like the guest's own end, and the VMM was what ended.
    pub(crate) fn is_session_end(&self) -> bool {
        if let Self::Source(SourceError::Agent(error)) = self {
            return error.is_session_end();
        }
        self.setup().is_some_and(SetupError::is_session_end)
    }

    /// What was wrong with a setup; none where that was not what failed.
    fn setup(&self) -> Option<&SetupError> {
        if let Self::Setup(error) = self {
            Some(error)
        } else {
            None
        }
    }

    /// No root filesystem can be made; `problem` says why, and what to do.
    pub(crate) fn root(problem: impl Into<String>) -> Self {
        Self::Root {
            problem: problem.into(),
        }
    }

    /// For `map_err`: `doing` something to `path` failed.
    pub(crate) fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk {
            doing,
            path,
            source,
        }
    }
}

/// The word for a guest that could not be set up.
fn of_setup(error: &SetupError) -> &'static str {
    match error {
        SetupError::UnknownRegistry { .. } => "unknown_registry",
        SetupError::HostNotAllowed { .. } | SetupError::Host { .. } => "host_not_allowed",
        SetupError::Step(_) => "step_failed",
        SetupError::Lost(_) | SetupError::Agent { .. } => "guest_died",
        SetupError::Source(error) => of_source(error),
    }
}

/// The word for a source that cannot be had.
fn of_source(error: &SourceError) -> &'static str {
    match error.fault() {
        Fault::Job | Fault::Message => "invalid_source",
        Fault::Host => "source_unavailable",
    }
}
