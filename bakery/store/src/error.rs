//! What can go wrong between a snapshot's directory and the object store.

use std::io;
use std::path::PathBuf;

use bus::objects::ObjectsError;
use schemas::Sha256Digest;

use crate::fault::Fault;
use crate::pointers::PointerError;

/// Why a snapshot cannot be published or had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No snapshot is published under the key.
    #[error("no snapshot has the key {key}")]
    NotFound {
        /// The snapshot key.
        key: Sha256Digest,
    },
    /// A part of a published snapshot is not in the object store.
    #[error("snapshot {key}: {file} is not whole in the object store")]
    Missing {
        /// The snapshot key.
        key: Sha256Digest,
        /// The file's name.
        file: String,
    },
    /// A part of a snapshot is not what its digest says, not even when it is fetched again.
    #[error("snapshot {key}: {file} {problem}")]
    Corrupt {
        /// The snapshot key.
        key: Sha256Digest,
        /// The file's name.
        file: String,
        /// What is wrong with it: a sentence that reads on from the file's name.
        problem: String,
    },
    /// A manifest is not in the object store.
    #[error("manifest {digest} is not in the object store")]
    NoManifest {
        /// The manifest's digest.
        digest: Sha256Digest,
    },
    /// A manifest is not what its digest says.
    #[error("manifest {digest} {problem}")]
    BadManifest {
        /// The manifest's digest.
        digest: Sha256Digest,
        /// What is wrong with it: a sentence that reads on from the digest.
        problem: String,
    },
    /// A directory that holds what no snapshot may hold.
    #[error("publish {}: {problem}", path.display())]
    Unpublishable {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The host's own disk failed.
    #[error("{doing}")]
    Disk {
        /// What we were doing, to what.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The object store failed.
    #[error("{doing}")]
    Objects {
        /// What we were doing, to what.
        doing: String,
        /// What the store said.
        #[source]
        source: ObjectsError,
    },
    /// The stream of an object's bytes broke off.
    #[error("read {what} from the object store")]
    Download {
        /// What it is a part of: a file of a snapshot, or a manifest.
        what: String,
        /// What broke it.
        #[source]
        source: io::Error,
    },
    /// The key-value bucket failed.
    #[error("{doing}")]
    Pointers {
        /// What we were doing, to what.
        doing: String,
        /// What the bucket said.
        #[source]
        source: PointerError,
    },
}

impl StoreError {
    /// Who can mend it: the host in every case. A key comes from content that was checked before, so what is not found
    /// or is damaged is nothing that a job did.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotFound { .. }
            | Self::Missing { .. }
            | Self::Corrupt { .. }
            | Self::NoManifest { .. }
            | Self::BadManifest { .. }
            | Self::Unpublishable { .. }
            | Self::Disk { .. }
            | Self::Objects { .. }
            | Self::Download { .. }
            | Self::Pointers { .. } => Fault::Host,
        }
    }

    /// Whether another try may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Objects { source, .. } => source.is_transient(),
            Self::Download { .. } | Self::Pointers { .. } => true,
            Self::NotFound { .. }
            | Self::Missing { .. }
            | Self::Corrupt { .. }
            | Self::NoManifest { .. }
            | Self::BadManifest { .. }
            | Self::Unpublishable { .. }
            | Self::Disk { .. } => false,
        }
    }

    /// Whether it says of a published snapshot that it cannot be had, however often it is tried.
    pub(crate) fn is_for_good(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Corrupt { .. } => true,
            Self::NotFound { .. }
            | Self::NoManifest { .. }
            | Self::BadManifest { .. }
            | Self::Unpublishable { .. }
            | Self::Disk { .. }
            | Self::Objects { .. }
            | Self::Download { .. }
            | Self::Pointers { .. } => false,
        }
    }

    /// What it means for the snapshot with that key that its manifest cannot be had.
    pub(crate) fn of_snapshot(self, key: Sha256Digest) -> Self {
        let file = "its manifest".to_owned();
        match self {
            Self::NoManifest { .. } => Self::Missing { key, file },
            Self::BadManifest { problem, .. } => Self::Corrupt { key, file, problem },
            other @ (Self::NotFound { .. }
            | Self::Missing { .. }
            | Self::Corrupt { .. }
            | Self::Unpublishable { .. }
            | Self::Disk { .. }
            | Self::Objects { .. }
            | Self::Download { .. }
            | Self::Pointers { .. }) => other,
        }
    }

    /// For `map_err`: the disk failed while `doing`.
    pub(crate) fn disk(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Disk { doing, source }
    }

    /// For `map_err`: the object store failed while `doing`.
    pub(crate) fn objects(doing: impl Into<String>) -> impl FnOnce(ObjectsError) -> Self {
        let doing = doing.into();
        |source| Self::Objects { doing, source }
    }

    /// For `map_err`: the key-value bucket failed while `doing`.
    pub(crate) fn pointers(doing: impl Into<String>) -> impl FnOnce(PointerError) -> Self {
        let doing = doing.into();
        |source| Self::Pointers { doing, source }
    }
}
