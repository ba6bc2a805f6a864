//! What can go wrong with a setup, and whose fault it is.

use egress::EndpointError;
use schemas::Token;
use schemas::https::HostPort;
use source::SourceError;
use store::Fault;
use vm::AgentError;

use crate::steps::{LostStep, StepFailure};
use crate::transcript::Transcript;

/// Why a guest is not set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The environment names a registry that the operator of this host does not allow.
    #[error("network.registries: {name} is not in the configuration of this host's service")]
    UnknownRegistry {
        /// The registry.
        name: Token,
    },
    /// The environment names a host that the operator does not allow its tenant.
    #[error("network.allow[{index}]: {host} is not allowed to tenant {tenant}")]
    HostNotAllowed {
        /// Its place in the list.
        index: usize,
        /// The host.
        host: HostPort,
        /// The tenant.
        tenant: Token,
    },
    /// The environment names what no request could name.
    #[error("network.allow[{index}]: {host}")]
    Host {
        /// Its place in the list.
        index: usize,
        /// The host.
        host: HostPort,
        /// What is wrong with it.
        #[source]
        source: EndpointError,
    },
    /// A setup step did not succeed.
    #[error(transparent)]
    Step(Box<StepFailure>),
    /// The guest died in a setup step.
    #[error(transparent)]
    Lost(Box<LostStep>),
    /// The agent inside would not, or is gone, and no step ran.
    #[error("{doing}")]
    Agent {
        /// What was asked of the guest.
        doing: String,
        /// Why not.
        #[source]
        source: AgentError,
    },
    /// The inputs.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl SetupError {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            // For some of them the operator must do something: time alone mends none.
            Self::UnknownRegistry { .. }
            | Self::HostNotAllowed { .. }
            | Self::Host { .. }
            | Self::Step(_)
            | Self::Lost(_)
            | Self::Agent { .. } => Fault::Job,
            Self::Source(error) => error.fault(),
        }
    }

    /// The step that ran when it failed, if one did.
    pub fn step(&self) -> Option<&Token> {
        match self {
            Self::Step(failure) => Some(&failure.step),
            Self::Lost(lost) => Some(&lost.step),
            Self::UnknownRegistry { .. }
            | Self::HostNotAllowed { .. }
            | Self::Host { .. }
            | Self::Agent { .. }
            | Self::Source(_) => None,
        }
    }

    /// What the setup wrote, where a step of it ran when it failed.
    pub fn transcript(&self) -> Option<&Transcript> {
        match self {
            Self::Step(failure) => Some(&failure.transcript),
            Self::Lost(lost) => Some(&lost.transcript),
            Self::UnknownRegistry { .. }
            | Self::HostNotAllowed { .. }
            | Self::Host { .. }
            | Self::Agent { .. }
            | Self::Source(_) => None,
        }
    }

    /// Whether it may only look like the guest's own end, and the VMM was what ended: how the VM stopped says which.
    pub fn is_session_end(&self) -> bool {
        match self {
            Self::Agent { source, .. } | Self::Source(SourceError::Agent(source)) => {
                source.is_session_end()
            }
            Self::Lost(lost) => lost.source.is_session_end(),
            Self::UnknownRegistry { .. }
            | Self::HostNotAllowed { .. }
            | Self::Host { .. }
            | Self::Step(_)
            | Self::Source(_) => false,
        }
    }

    /// For `map_err`: the guest did not do it.
    pub(crate) fn agent(doing: impl Into<String>) -> impl FnOnce(AgentError) -> Self {
        let doing = doing.into();
        |source| Self::Agent { doing, source }
    }
}
