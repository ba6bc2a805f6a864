//! Small values in a key-value bucket: what the operator allows a tenant, and which archive was made of a commit.

use async_nats::jetstream::kv;
use async_trait::async_trait;
use bytes::Bytes;

/// A bucket, as far as sources need one.
#[async_trait]
pub trait Values: Send + Sync {
    /// What stands under `key`, if anything does.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, ValuesError>;

    /// Writes `value` if nothing stands under `key`; `false` if something does.
    async fn create(&self, key: &str, value: Bytes) -> Result<bool, ValuesError>;

    /// Writes `value`, whatever stands under `key`.
    async fn put(&self, key: &str, value: Bytes) -> Result<(), ValuesError>;
}

/// Why a value cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// The bucket cannot be read.
    #[error("read {key}")]
    Get {
        /// The value's key.
        key: String,
        /// What the server said.
        #[source]
        source: kv::EntryError,
    },
    /// The bucket takes no new value.
    #[error("create {key}")]
    Create {
        /// The value's key.
        key: String,
        /// What the server said.
        #[source]
        source: kv::CreateError,
    },
    /// The bucket cannot be written.
    #[error("write {key}")]
    Put {
        /// The value's key.
        key: String,
        /// What the server said.
        #[source]
        source: kv::PutError,
    },
}

#[async_trait]
impl Values for kv::Store {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, ValuesError> {
        // Inherent methods come first: this is the bucket's own.
        let found = kv::Store::get(self, key).await;
        found.map_err(|source| ValuesError::Get {
            key: key.to_owned(),
            source,
        })
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<bool, ValuesError> {
        match kv::Store::create(self, key, value).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(ValuesError::Create {
                key: key.to_owned(),
                source,
            }),
        }
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<(), ValuesError> {
        let written = kv::Store::put(self, key, value).await;
        written.map(drop).map_err(|source| ValuesError::Put {
            key: key.to_owned(),
            source,
        })
    }
}
