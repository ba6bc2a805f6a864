//! What can go wrong with a bake: whose fault it is, and in one word for the event.

use std::io;
use std::path::{Path, PathBuf};

use schemas::{FieldError, Sha256Digest, Token};
use source::SourceError;
use store::{Fault, StoreError};
use vm::{AgentError, VmError};

use crate::definitions::DefinitionsError;
use crate::program::ProgramError;
use crate::steps::StepFailure;

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
    /// The environment names a registry that this bakery's operator does not allow.
    #[error("network.registries: {name} is not in the configuration of this bakery")]
    UnknownRegistry {
        /// The registry.
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
    /// A setup step did not succeed.
    #[error(transparent)]
    Step(Box<StepFailure>),
    /// The agent inside would not, or is gone.
    #[error("{doing}")]
    Agent {
        /// What was asked of the guest.
        doing: String,
        /// Why not.
        #[source]
        source: AgentError,
    },
    /// The VMM ended by itself.
    #[error("the VMM failed: {problem}")]
    VmmDied {
        /// What it said.
        problem: String,
    },
    /// The VM could not be started or frozen.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The definitions.
    #[error(transparent)]
    Definitions(#[from] DefinitionsError),
    /// A program of the host.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// There is no kernel.
    #[error("kernel: {problem}")]
    Kernel {
        /// Why not.
        problem: String,
    },
    /// A root filesystem cannot be made on this host as it is set up.
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
            // For some of them the operator of this bakery must do something: time alone mends none.
            Self::UnknownRegistry { .. }
            | Self::Root { .. }
            | Self::Step(_)
            | Self::Agent { .. } => Fault::Job,
            Self::Source(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Definitions(error) => error.fault(),
            Self::VmmDied { .. }
            | Self::Vm(_)
            | Self::Program(_)
            | Self::Kernel { .. }
            | Self::Disk { .. } => Fault::Host,
        }
    }

    /// The word in the event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::UnknownEnvironment { .. } => "unknown_environment",
            Self::UnknownTemplate { .. } => "unknown_template",
            Self::UnknownRegistry { .. } => "unknown_registry",
            Self::Key { .. } => "key_mismatch",
            Self::Root { .. } => "root_refused",
            Self::Step(_) => "step_failed",
            Self::Agent { .. } => "guest_died",
            Self::VmmDied { .. } => "vmm_died",
            Self::Source(error) => match error.fault() {
                Fault::Job | Fault::Message => "invalid_source",
                Fault::Host => "source_unavailable",
            },
            Self::Definitions(error) => match error.fault() {
                Fault::Job | Fault::Message => "invalid_definition",
                Fault::Host => "host_failed",
            },
            Self::Vm(_)
            | Self::Store(_)
            | Self::Program(_)
            | Self::Kernel { .. }
            | Self::Disk { .. } => "host_failed",
        }
    }

    /// Whether it may only have looked like the guest's own end, and the VMM was what ended.
    pub(crate) fn is_session_end(&self) -> bool {
        let (Self::Agent { source, .. } | Self::Source(SourceError::Agent(source))) = self else {
            return false;
        };
        source.is_session_end()
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

    /// For `map_err`: the guest did not do it.
    pub(crate) fn agent(doing: impl Into<String>) -> impl FnOnce(AgentError) -> Self {
        let doing = doing.into();
        |source| Self::Agent { doing, source }
    }
}
