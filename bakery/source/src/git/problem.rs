//! What can be wrong with a git source, as sentences for the person who sent the job.

use std::io;
use std::time::Duration;

use gix_hash::ObjectId;
use gix_object::Kind;
use schemas::https::HttpsUri;
use schemas::{HostClass, Reason, Token, TreePath};
use store::{Fault, StoreError};
use vm::{AgentError, VmError};

use crate::error::Refusal;

/// Why a commit cannot be had, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum GitProblem {
    /// The operator has not said in which template git runs.
    #[error(
        "this host fetches no git sources: bake a template with git and name it as `template` in the section [git] of its configuration"
    )]
    NoTemplate,
    /// The template is named and not there.
    #[error("template {template} is not baked for class {class}: apply and bake it")]
    NotBaked {
        /// The template.
        template: Token,
        /// The class of this host.
        class: HostClass,
    },
    /// The template cannot be had.
    #[error("fetch the template that git runs in")]
    Store(#[source] StoreError),
    /// The VM for the fetch cannot be had.
    #[error("fork the template that git runs in")]
    Vm(#[source] VmError),
    /// The VM for the fetch is of no use.
    #[error("fetch in a VM")]
    Agent(#[source] AgentError),
    /// It takes too long.
    #[error("nothing within {0:?}")]
    TimedOut(Duration),
    /// Git ended with an error.
    #[error("{doing}: {said}")]
    Failed {
        /// What it was doing, to what.
        doing: String,
        /// Its own last words, escaped.
        said: String,
        /// Whose matter that is.
        matter: Matter,
    },
    /// Git wanted to go where the operator does not let the tenant go.
    #[error("{doing}: {host}: {reason}")]
    NotLetOut {
        /// What it was doing, to what.
        doing: String,
        /// The host and the port.
        host: String,
        /// What the way out says.
        reason: egress::Reason,
    },
    /// What came is not what `git cat-file --batch` writes.
    #[error("what the fetch VM sends {0}")]
    Stream(&'static str),
    /// An object hashes to another id than its own: somebody on the way has changed it.
    #[error("object {object} hashes to {found}")]
    Id {
        /// The id that it came under.
        object: ObjectId,
        /// What its bytes hash to.
        found: ObjectId,
    },
    /// An object was made to collide with another.
    #[error("object {0} is part of a collision attack on SHA-1")]
    Collision(ObjectId),
    /// An object that the commit leads to did not come.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// An object is of another kind than what leads to it says.
    #[error("object {object} is a {found}, and should be a {wanted}")]
    Kind {
        /// The object.
        object: ObjectId,
        /// What it is.
        found: Kind,
        /// What it should be.
        wanted: Kind,
    },
    /// A commit or tree that does not read as one.
    #[error("object {object} is a malformed {kind}")]
    Malformed {
        /// The object.
        object: ObjectId,
        /// What it claims to be.
        kind: Kind,
    },
    /// A name that no file of a source has.
    #[error("the tree has {name:?} in {directory}, which {problem}")]
    Name {
        /// The directory.
        directory: TreePath,
        /// The name, invalid UTF-8 replaced, cut to a length that can be shown.
        name: String,
        /// Reads on from "which".
        problem: &'static str,
    },
    /// A mode that git does not give.
    #[error("the tree has {path} with the mode {mode:o}")]
    Mode {
        /// The file.
        path: TreePath,
        /// Its mode.
        mode: u16,
    },
    /// The tree is one that no source may have.
    #[error("the tree {0}")]
    Refused(Refusal),
    /// A submodule cannot be had.
    #[error("submodule {path}: {problem}")]
    Submodule {
        /// Where it belongs.
        path: TreePath,
        /// Why not.
        problem: SubmoduleProblem,
    },
    /// The host's own disk failed.
    #[error("spool git objects")]
    Spool(#[source] io::Error),
}

/// Whose matter it is when git fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// The repository or the commit is not there, or not for us.
    NotThere,
    /// What the server sends is not the commit.
    OtherContent,
    /// Anything else: the network, the server, the VM.
    Trouble,
}

/// Why a submodule cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmoduleProblem {
    /// Nothing says where it is.
    #[error("is not in .gitmodules")]
    NotListed,
    /// `.gitmodules` cannot be understood.
    #[error(".gitmodules {0}")]
    Modules(String),
    /// Its address is none that a source may have.
    #[error("its url {0:?} does not lead to https")]
    Url(String),
    /// The operator does not allow the tenant to fetch from there. Nothing was resolved.
    #[error("the tenant may not fetch {}", .0.shown())]
    NotAllowed(HttpsUri),
    /// Submodules within submodules, without an end.
    #[error("lies more than {0} submodules deep")]
    TooDeep(usize),
    /// More submodules than are fetched.
    #[error("is one of more than {0}")]
    TooMany(usize),
}

impl GitProblem {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Id { .. }
            | Self::Collision(_)
            | Self::Missing(_)
            | Self::Kind { .. }
            | Self::Malformed { .. }
            | Self::Name { .. }
            | Self::Mode { .. }
            | Self::Refused(_)
            | Self::NotLetOut { .. }
            | Self::Submodule { .. } => Fault::Job,
            Self::Failed { matter, .. } => match matter {
                Matter::NotThere | Matter::OtherContent => Fault::Job,
                Matter::Trouble => Fault::Host,
            },
            Self::NoTemplate
            | Self::NotBaked { .. }
            | Self::Store(_)
            | Self::Vm(_)
            | Self::Agent(_)
            | Self::TimedOut(_)
            | Self::Stream(_)
            | Self::Spool(_) => Fault::Host,
        }
    }

    /// The word for it in a result.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Id { .. } | Self::Collision(_) | Self::Missing(_) => Reason::SourceDigestMismatch,
            Self::Failed { matter, .. } => match matter {
                Matter::NotThere => Reason::InvalidJob,
                Matter::OtherContent => Reason::SourceDigestMismatch,
                Matter::Trouble => Reason::SourceUnavailable,
            },
            Self::Kind { .. }
            | Self::Malformed { .. }
            | Self::Name { .. }
            | Self::Mode { .. }
            | Self::Refused(_)
            | Self::NotLetOut { .. }
            | Self::Submodule { .. } => Reason::InvalidJob,
            Self::NoTemplate
            | Self::NotBaked { .. }
            | Self::Store(_)
            | Self::Vm(_)
            | Self::Agent(_)
            | Self::TimedOut(_)
            | Self::Stream(_) => Reason::SourceUnavailable,
            Self::Spool(_) => Reason::HostFailed,
        }
    }
}

impl From<Refusal> for GitProblem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
