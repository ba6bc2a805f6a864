//! An environment's definition from a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemas::{Environment, FieldError};

/// Why a file is no definition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not one.
    #[error("the environment in {}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The field, and what is wrong with it.
        #[source]
        source: FieldError,
    },
}

/// Reads and checks it.
pub(crate) fn inline(path: &Path) -> Result<Environment, DefinitionError> {
    let body = fs::read(path).map_err(|source| DefinitionError::Read {
        path: path.to_owned(),
        source,
    })?;
    Environment::parse(&body).map_err(|source| DefinitionError::Invalid {
        path: path.to_owned(),
        source,
    })
}
