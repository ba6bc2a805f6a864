//! Definitions of templates and environments, in the key-value bucket `build-environments`.
//!
//! What always holds: what is read has been checked again, since anybody with the right to write the bucket may have put it.

use async_nats::jetstream::{Context, kv};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use schemas::names::{self, Definition, bucket};
use schemas::{Environment, FieldError, Template, Token};
use serde::Serialize;
use store::Fault;

/// The bucket.
#[derive(Clone)]
pub struct Definitions(kv::Store);

/// What became of a definition that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there.
    Created,
    /// Another stood there.
    Updated,
    /// The same stood there already.
    Unchanged,
}

/// Why a definition cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// There is no bucket.
    #[error("open the bucket of definitions: was `bakery init` run on this server?")]
    Bucket(#[source] async_nats::jetstream::context::KeyValueError),
    /// The bucket cannot be read.
    #[error("read the definition {key}")]
    Get {
        /// The definition's key.
        key: String,
        /// What the server said.
        #[source]
        source: kv::EntryError,
    },
    /// The bucket cannot be written.
    #[error("write the definition {key}")]
    Put {
        /// The definition's key.
        key: String,
        /// What the server said.
        #[source]
        source: kv::PutError,
    },
    /// The bucket cannot be listed.
    #[error("list the definitions")]
    List(#[source] kv::HistoryError),
    /// A list broke off.
    #[error("list the definitions")]
    Listed(#[source] kv::WatcherError),
    /// What stands there is no definition.
    #[error("the definition {key} is not valid: {problem}")]
    Invalid {
        /// The definition's key.
        key: String,
        /// The field and what is wrong with it.
        problem: FieldError,
    },
}

impl DefinitionsError {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Bucket(_)
            | Self::Get { .. }
            | Self::Put { .. }
            | Self::List(_)
            | Self::Listed(_) => Fault::Host,
            Self::Invalid { .. } => Fault::Job,
        }
    }
}

impl Definitions {
    /// Opens the bucket.
    pub async fn open(jetstream: &Context) -> Result<Self, DefinitionsError> {
        let bucket = jetstream.get_key_value(bucket::ENVIRONMENTS).await;
        bucket.map(Self).map_err(DefinitionsError::Bucket)
    }

    /// The bucket itself, to be watched.
    pub(crate) fn bucket(&self) -> &kv::Store {
        &self.0
    }

    /// The environments of all tenants that are made from `template`. What is no valid definition is not one of them.
    pub(crate) async fn environments_of(
        &self,
        template: &Token,
    ) -> Result<Vec<(Token, Token)>, DefinitionsError> {
        let keys = self.0.keys().await.map_err(DefinitionsError::List)?;
        let keys: Vec<String> = keys.try_collect().await.map_err(DefinitionsError::Listed)?;
        let mut environments = Vec::new();
        for key in keys {
            let Ok(Definition::Environment(tenant, name)) = key.parse() else {
                continue;
            };
            let made_from = match self.environment(&tenant, &name).await {
                Ok(found) => found.is_some_and(|found| found.template == *template),
                Err(DefinitionsError::Invalid { .. }) => false,
                Err(error) => return Err(error),
            };
            if made_from {
                environments.push((tenant, name));
            }
        }
        Ok(environments)
    }

    /// The template of that name, if there is one.
    pub async fn template(&self, name: &Token) -> Result<Option<Template>, DefinitionsError> {
        self.get(&names::template_definition_key(name), Template::parse)
            .await
    }

    /// The tenant's environment of that name, if there is one.
    pub async fn environment(
        &self,
        tenant: &Token,
        name: &Token,
    ) -> Result<Option<Environment>, DefinitionsError> {
        let key = names::environment_key(tenant, name);
        self.get(&key, Environment::parse).await
    }

    /// Opens the bucket of what tenants may do, whose values are put as definitions are.
    pub(crate) async fn open_tenants(jetstream: &Context) -> Result<Self, DefinitionsError> {
        let bucket = jetstream.get_key_value(bucket::TENANTS).await;
        bucket.map(Self).map_err(DefinitionsError::Bucket)
    }

    /// Puts a definition under its key, unless the same stands there: its history shows changes only.
    pub(crate) async fn put(&self, key: &str, body: Bytes) -> Result<Change, DefinitionsError> {
        let before = self.value(key).await?;
        if before.as_ref() == Some(&body) {
            return Ok(Change::Unchanged);
        }
        let put = self.0.put(key, body).await;
        put.map_err(|source| DefinitionsError::Put {
            key: key.to_owned(),
            source,
        })?;
        Ok(if before.is_some() {
            Change::Updated
        } else {
            Change::Created
        })
    }

    async fn get<T>(
        &self,
        key: &str,
        parse: impl Fn(&[u8]) -> Result<T, FieldError>,
    ) -> Result<Option<T>, DefinitionsError> {
        let Some(value) = self.value(key).await? else {
            return Ok(None);
        };
        let parsed = parse(&value).map_err(|problem| DefinitionsError::Invalid {
            key: key.to_owned(),
            problem,
        });
        parsed.map(Some)
    }

    async fn value(&self, key: &str) -> Result<Option<Bytes>, DefinitionsError> {
        let entry = self.0.entry(key).await;
        let entry = entry.map_err(|source| DefinitionsError::Get {
            key: key.to_owned(),
            source,
        })?;
        Ok(entry.and_then(|entry| match entry.operation {
            kv::Operation::Put => Some(entry.value),
            kv::Operation::Delete | kv::Operation::Purge => None,
        }))
    }
}
