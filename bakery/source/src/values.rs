//! Small values in a key-value bucket: what the operator allows a tenant, and which archive was made of a commit.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::kv;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;

/// A bucket, as far as sources need one.
#[async_trait]
pub trait Values: Send + Sync {
    /// What stands under `key`, if anything does.
    async fn get(&self, key: &str) -> Result<Option<Value>, ValuesError>;

    /// What stands under the keys that begin with `prefix`, in no order.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Value)>, ValuesError>;

    /// Writes `bytes` if nothing stands under `key`; `false` if something does.
    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, ValuesError>;

    /// Writes `bytes`, whatever stands under `key`.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ValuesError>;

    /// Removes what stands under `key` if it is still that of `revision`; `false` if it is not.
    async fn remove(&self, key: &str, revision: u64) -> Result<bool, ValuesError>;
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Itself.
    pub bytes: Bytes,
    /// The write that made it so.
    pub revision: u64,
    /// When that was, by the server's clock.
    pub written: SystemTime,
}

impl Value {
    /// How long ago it was written, by this machine's clock; one from the future is new.
    pub(crate) fn age(&self) -> Duration {
        let age = SystemTime::now().duration_since(self.written);
        age.unwrap_or_default()
    }
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
    /// The bucket's keys cannot be listed.
    #[error("list the keys that begin with {prefix}")]
    List {
        /// What they begin with.
        prefix: String,
        /// What the server said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
    /// The value cannot be removed, for another reason than a newer revision.
    #[error("remove {key}")]
    Remove {
        /// The value's key.
        key: String,
        /// What the server said.
        #[source]
        source: kv::DeleteError,
    },
}

#[async_trait]
impl Values for kv::Store {
    async fn get(&self, key: &str) -> Result<Option<Value>, ValuesError> {
        let entry = self.entry(key).await.map_err(|source| ValuesError::Get {
            key: key.to_owned(),
            source,
        })?;
        let entry = entry.filter(|entry| entry.operation == kv::Operation::Put);
        Ok(entry.map(|entry| Value {
            bytes: entry.value,
            revision: entry.revision,
            written: entry.created.into(),
        }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Value)>, ValuesError> {
        let failed = |source| ValuesError::List {
            prefix: prefix.to_owned(),
            source,
        };
        let keys = self.keys().await.map_err(|error| failed(error.into()))?;
        let keys: Result<Vec<_>, _> = keys.try_collect().await;
        let mut found = Vec::new();
        for key in keys.map_err(|error| failed(error.into()))? {
            if !key.starts_with(prefix) {
                continue;
            }
            // What went meanwhile is not listed.
            if let Some(value) = Values::get(self, &key).await? {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, ValuesError> {
        // Inherent methods come first: this is the bucket's own.
        match kv::Store::create(self, key, bytes).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(ValuesError::Create {
                key: key.to_owned(),
                source,
            }),
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ValuesError> {
        let written = kv::Store::put(self, key, bytes).await;
        written.map(drop).map_err(|source| ValuesError::Put {
            key: key.to_owned(),
            source,
        })
    }

    async fn remove(&self, key: &str, revision: u64) -> Result<bool, ValuesError> {
        match self.delete_expect_revision(key, Some(revision)).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == kv::DeleteErrorKind::WrongLastRevision => Ok(false),
            Err(source) => Err(ValuesError::Remove {
                key: key.to_owned(),
                source,
            }),
        }
    }
}
