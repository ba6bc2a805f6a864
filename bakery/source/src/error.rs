//! What can be wrong with a source, as sentences for the person who sent the job.

use std::io;
use std::sync::Arc;

use bus::objects::ObjectsError;
use schemas::https::{HostPort, HttpsUri};
use schemas::source::ArchiveUri;
use schemas::{FieldError, GitCommit, ObjectUri, Reason, Sha256Digest, Token, TreePath};
use store::Fault;

use crate::git::GitProblem;
use crate::hosts::Owner;
use crate::https::HttpsProblem;
use crate::values::ValuesError;

/// Why a source cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The address is not one that this tenant's jobs may name.
    #[error("source {}: must lie under {allowed}", shown(uri))]
    Address {
        /// The address as the job gave it.
        uri: ArchiveUri,
        /// Where this tenant's sources lie.
        allowed: String,
    },
    /// The operator does not allow to fetch from there. Nothing was resolved.
    #[error("source {}: {owner} may not fetch from {host}", uri.shown())]
    NotAllowed {
        /// The address as the job, or a submodule, gave it.
        uri: HttpsUri,
        /// Who may not.
        owner: Owner,
        /// What an operator would have to allow.
        host: HostPort,
    },
    /// Nothing is stored at the address.
    #[error("source {uri}: is not there")]
    Missing {
        /// The address as the job gave it.
        uri: ObjectUri,
    },
    /// What lies there has another digest than the job says.
    #[error("source {}: has sha256 {found}, the job says {wanted}", shown(uri))]
    Digest {
        /// The address as the job gave it.
        uri: ArchiveUri,
        /// The digest in the job.
        wanted: Sha256Digest,
        /// The digest of what lies there.
        found: Sha256Digest,
    },
    /// What lies there is larger than a source may be.
    #[error("source {}: is larger than {limit} bytes", shown(uri))]
    TooLarge {
        /// The address as the job gave it.
        uri: ArchiveUri,
        /// [`crate::Limits::max_archive_bytes`].
        limit: u64,
    },
    /// An archive could not be fetched over https.
    #[error("fetch source {}", uri.shown())]
    Https {
        /// The address as the job gave it.
        uri: HttpsUri,
        /// Why not.
        #[source]
        source: HttpsProblem,
    },
    /// A commit could not be had, or is not what it should be.
    #[error("git source {} at {commit}", uri.shown())]
    Git {
        /// The repository.
        uri: HttpsUri,
        /// The commit.
        commit: GitCommit,
        /// Why not.
        #[source]
        source: Box<GitProblem>,
    },
    /// What is stored is no archive.
    #[error("the source archive is not a readable .tar.zst")]
    Format(#[source] io::Error),
    /// The archive holds what no source may hold.
    #[error("the source archive {0}")]
    Refused(Refusal),
    /// An input that the environment declares is not a regular file of the source.
    #[error("input {path}: {problem}")]
    Input {
        /// The input as the environment declares it.
        path: TreePath,
        /// What stands there instead.
        problem: InputProblem,
    },
    /// The object store could not be read.
    #[error("read source {uri}")]
    Objects {
        /// The address.
        uri: ObjectUri,
        /// What the store said.
        #[source]
        source: ObjectsError,
    },
    /// The object store could not be written.
    #[error("store source {uri}")]
    Store {
        /// The address.
        uri: ObjectUri,
        /// What the store said.
        #[source]
        source: ObjectsError,
    },
    /// The object store keeps what nobody uses.
    #[error("delete source {uri}")]
    Delete {
        /// The address.
        uri: ObjectUri,
        /// What the store said.
        #[source]
        source: ObjectsError,
    },
    /// The stream of the archive's bytes broke off.
    #[error("read source {uri}")]
    Download {
        /// The address as the job gave it.
        uri: ObjectUri,
        /// What broke it.
        #[source]
        source: io::Error,
    },
    /// The host's own disk failed.
    #[error("spool the source archive")]
    Spool(#[source] io::Error),
    /// What the operator allows the tenant cannot be read.
    #[error("tenant {tenant}: its entry in the bucket of tenants is wrong")]
    Tenant {
        /// The tenant.
        tenant: Token,
        /// What is wrong with it.
        #[source]
        source: FieldError,
    },
    /// A key-value bucket failed.
    #[error("{doing}")]
    Values {
        /// What we were doing, to what.
        doing: String,
        /// What the bucket said.
        #[source]
        source: ValuesError,
    },
    /// The guest did not take the tree.
    #[error("put the source into the guest")]
    Agent(#[source] vm::AgentError),
    /// What everybody hears who waits for the same source.
    #[error(transparent)]
    Shared(Arc<SourceError>),
}

impl SourceError {
    /// Who can mend it. A guest that takes no tree, its disk being full or its agent gone, is the job's own.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Address { .. } | Self::Missing { .. } => Fault::Message,
            Self::NotAllowed { .. }
            | Self::Digest { .. }
            | Self::TooLarge { .. }
            | Self::Format(_)
            | Self::Refused(_)
            | Self::Input { .. }
            | Self::Agent(_) => Fault::Job,
            Self::Https { source, .. } => source.fault(),
            Self::Git { source, .. } => source.fault(),
            Self::Shared(error) => error.fault(),
            Self::Objects { .. }
            | Self::Store { .. }
            | Self::Delete { .. }
            | Self::Download { .. }
            | Self::Spool(_)
            | Self::Tenant { .. }
            | Self::Values { .. } => Fault::Host,
        }
    }

    /// The word for it in a result.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Digest { .. } => Reason::SourceDigestMismatch,
            Self::Address { .. }
            | Self::NotAllowed { .. }
            | Self::Missing { .. }
            | Self::TooLarge { .. }
            | Self::Format(_)
            | Self::Refused(_)
            | Self::Input { .. } => Reason::InvalidJob,
            Self::Https { source, .. } => source.reason(),
            Self::Git { source, .. } => source.reason(),
            Self::Shared(error) => error.reason(),
            Self::Objects { .. }
            | Self::Store { .. }
            | Self::Delete { .. }
            | Self::Download { .. }
            | Self::Tenant { .. }
            | Self::Values { .. } => Reason::SourceUnavailable,
            Self::Spool(_) => Reason::HostFailed,
            // An agent that lives says why: the guest's disk took no more of the tree.
            Self::Agent(_) => Reason::DiskFull,
        }
    }
}

impl From<Refusal> for SourceError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The address as it stands in an error.
fn shown(uri: &ArchiveUri) -> String {
    match uri {
        ArchiveUri::S3(uri) => uri.to_string(),
        ArchiveUri::Https(uri) => uri.shown(),
    }
}

/// What makes an archive one that is not taken. Its sentence reads on from "the source archive".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A name that is no path within the tree: absolute, with `..`, not UTF-8.
    #[error("has an entry whose path {0}")]
    Path(String),
    /// A name or link target longer than [`crate::Limits::max_path_bytes`].
    #[error("has a path or link target of more than {0} bytes")]
    PathTooLong(u64),
    /// Two entries of one path: which of them counts would depend on the reader.
    #[error("has {0} twice")]
    Duplicate(TreePath),
    /// An entry below a file or a symbolic link.
    #[error("has {path}, which lies below {parent}, which is no directory")]
    BelowNoDirectory {
        /// The entry.
        path: TreePath,
        /// What it lies below.
        parent: TreePath,
    },
    /// A file or a symbolic link where other entries need a directory.
    #[error("has {0}, which is no directory, but others lie below it")]
    HidesDirectory(TreePath),
    /// A hard link, a device, a fifo, a sparse file, or what no reader knows.
    #[error("has {path}, which is {kind}: only files, directories and symbolic links are taken")]
    Kind {
        /// The entry.
        path: TreePath,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A symbolic link that points nowhere that a name could be.
    #[error("has {0}, a symbolic link whose target is empty or not UTF-8")]
    Target(TreePath),
    /// A directory or a symbolic link that claims content.
    #[error("has {0}, which is no file and still has content")]
    Content(TreePath),
    /// An extended header that is malformed or says too much.
    #[error("has a pax header that {0}")]
    Pax(&'static str),
    /// An extended header that is not followed by an entry, or that another contradicts.
    #[error("has a long name or pax header without its entry, or two for one")]
    StrayHeader,
    /// More entries than [`crate::Limits::max_entries`].
    #[error("has more than {0} entries")]
    TooManyEntries(u64),
    /// More bytes of paths than [`crate::Limits::INDEX_BYTES`].
    #[error("has more than {0} bytes of paths and link targets")]
    IndexTooLarge(u64),
    /// More bytes than [`crate::Limits::max_total_bytes`].
    #[error("is larger than {0} bytes when decompressed")]
    TooLarge(u64),
    /// More bytes than [`crate::Limits::max_ratio`] allows for its size.
    #[error("decompresses to more than {0} times its size")]
    Ratio(u64),
}

/// Why a declared input is not to be had from a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputProblem {
    /// Nothing stands there.
    #[error("is not in the source")]
    Missing,
    /// A directory stands there.
    #[error("is a directory, inputs are regular files")]
    Directory,
    /// A symbolic link stands there.
    #[error("is a symbolic link, inputs are regular files")]
    Symlink,
    /// A symbolic link stands on the way.
    #[error("lies behind the symbolic link {0}")]
    BelowSymlink(TreePath),
}
