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
    /// A manifest or a file of a published snapshot is not in the object store.
    #[error("snapshot {snapshot}: {file} is not in the object store")]
    Missing {
        /// The digest of the snapshot's manifest.
        snapshot: Sha256Digest,
        /// The file's name.
        file: String,
    },
    /// A manifest or a file is not what its digest says.
    #[error("snapshot {snapshot}: {file} {problem}")]
    Corrupt {
        /// The digest of the snapshot's manifest.
        snapshot: Sha256Digest,
        /// The file's name.
        file: String,
        /// What is wrong with it.
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
    #[error("read {file} of snapshot {snapshot} from the object store")]
    Download {
        /// The digest of the snapshot's manifest.
        snapshot: Sha256Digest,
        /// The file's name.
        file: String,
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
            | Self::Unpublishable { .. }
            | Self::Disk { .. }
            | Self::Objects { .. }
            | Self::Download { .. }
            | Self::Pointers { .. } => Fault::Host,
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
