//! Pointers: names that lead to digests. They are the only part of the store that ever changes.
//!
//! | name | leads to |
//! | --- | --- |
//! | `key.<snapshot key>` | the digest of the snapshot's manifest |
//! | `template.<class>.<name>` | a template's current snapshot key |

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::kv;
use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use schemas::Sha256Digest;
use tracing::warn;

/// 500: of some 150 bytes each, far less than a connection may hold.
const PAGE: usize = 500;

/// 1 min: how long the server keeps what it needs for a listing that is not gone on with.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);

/// Where pointers are kept. A write that says what it replaces happens only if that still stands.
#[async_trait]
pub(crate) trait Pointers: Send + Sync {
    /// What stands under `name`. A name that never was, or is no more, has no digest but can be replaced all the same.
    async fn get(&self, name: &str) -> Result<Pointer, PointerError>;

    /// Lets `name` lead to `digest` if it still has the revision of `before`; `false` if it has another.
    async fn replace(
        &self,
        name: &str,
        before: Pointer,
        digest: Sha256Digest,
    ) -> Result<bool, PointerError>;

    /// Takes `name` away if it still has the revision of `before`; `false` if it has another.
    async fn remove(&self, name: &str, before: Pointer) -> Result<bool, PointerError>;

    /// Every name that begins with `prefix`, which ends with a dot, and leads to a digest, in the order of names.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Pointer)>, PointerError>;

    /// Lets `name` lead to `digest`, whatever it led to.
    async fn set(&self, name: &str, digest: Sha256Digest) -> Result<(), PointerError>;
}

/// What stands under a name, and since which write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// Where it leads; none if it never was or is deleted.
    pub(crate) digest: Option<Sha256Digest>,
    /// The write that made it so; 0 if it never was.
    pub(crate) revision: u64,
}

/// Why a pointer cannot be read or moved.
#[derive(Debug, thiserror::Error)]
pub enum PointerError {
    /// The bucket cannot be read.
    #[error("read {name}")]
    Get {
        /// The pointer's name.
        name: String,
        /// What the server said.
        #[source]
        source: kv::EntryError,
    },
    /// The bucket cannot be written.
    #[error("write {name}")]
    Set {
        /// The pointer's name.
        name: String,
        /// What the server said.
        #[source]
        source: kv::PutError,
    },
    /// The bucket cannot be written for another reason than a newer revision.
    #[error("write {name}")]
    Replace {
        /// The pointer's name.
        name: String,
        /// What the server said.
        #[source]
        source: kv::UpdateError,
    },
    /// The bucket's names cannot be listed.
    #[error("list the names that begin with {prefix}")]
    List {
        /// What they begin with.
        prefix: String,
        /// What the server said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The name cannot be taken away for another reason than a newer revision.
    #[error("delete {name}")]
    Remove {
        /// The pointer's name.
        name: String,
        /// What the server said.
        #[source]
        source: kv::DeleteError,
    },
    /// Something else than a digest stands there.
    #[error("{name} holds no digest")]
    Value {
        /// The pointer's name.
        name: String,
    },
}

/// Pointers in a key-value bucket of NATS; a value is the digest in hexadecimal digits.
pub(crate) struct KvPointers(pub(crate) kv::Store);

#[async_trait]
impl Pointers for KvPointers {
    async fn get(&self, name: &str) -> Result<Pointer, PointerError> {
        let owned = || name.to_owned();
        let entry = self.0.entry(name).await.map_err(|source| {
            let name = owned();
            PointerError::Get { name, source }
        })?;
        let Some(entry) = entry else {
            return Ok(Pointer {
                digest: None,
                revision: 0,
            });
        };
        let digest = match entry.operation {
            kv::Operation::Put => Some(parse(&entry.value, name)?),
            kv::Operation::Delete | kv::Operation::Purge => None,
        };
        Ok(Pointer {
            digest,
            revision: entry.revision,
        })
    }

    async fn replace(
        &self,
        name: &str,
        before: Pointer,
        digest: Sha256Digest,
    ) -> Result<bool, PointerError> {
        let value = digest.to_string().into();
        match self.0.update(name, value, before.revision).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(source) => Err(PointerError::Replace {
                name: name.to_owned(),
                source,
            }),
        }
    }

    async fn remove(&self, name: &str, before: Pointer) -> Result<bool, PointerError> {
        let revision = Some(before.revision);
        match self.0.delete_expect_revision(name, revision).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == kv::DeleteErrorKind::WrongLastRevision => Ok(false),
            Err(source) => Err(PointerError::Remove {
                name: name.to_owned(),
                source,
            }),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Pointer)>, PointerError> {
        let mut found = BTreeMap::new();
        let read = self.read_all(prefix, &mut found).await;
        read.map_err(|source| PointerError::List {
            prefix: prefix.to_owned(),
            source,
        })?;
        let found = found.into_iter();
        Ok(found
            .filter(|(_, pointer)| pointer.digest.is_some())
            .collect())
    }

    async fn set(&self, name: &str, digest: Sha256Digest) -> Result<(), PointerError> {
        let written = self.0.put(name, digest.to_string().into()).await;
        written.map(|_| ()).map_err(|source| PointerError::Set {
            name: name.to_owned(),
            source,
        })
    }
}

impl KvPointers {
    /// Reads what stands under every name that begins with `prefix`, values included, in one go. It ends when the server has
    /// nothing more to give: a number that it told at the start may be wrong by then.
    async fn read_all(
        &self,
        prefix: &str,
        found: &mut BTreeMap<String, Pointer>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let consumer = self.0.stream.create_consumer(pull::Config {
            description: Some("lists pointers".to_owned()),
            filter_subject: format!("{}{prefix}>", self.0.prefix),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            ..pull::Config::default()
        });
        let consumer = consumer.await?;
        loop {
            let mut page = consumer.fetch().max_messages(PAGE).messages().await?;
            let mut some = false;
            while let Some(message) = page.try_next().await? {
                some = true;
                if let Some(name) = message.subject.strip_prefix(&self.0.prefix) {
                    let revision = message.info()?.stream_sequence;
                    let digest = listed(&message.payload, name);
                    found.insert(name.to_owned(), Pointer { digest, revision });
                }
            }
            if !some {
                return Ok(());
            }
        }
    }
}

/// The digest in a value of a listing; none if the name is deleted, whose mark is empty. Something else than a digest concerns
/// nobody but who asks for that name.
fn listed(value: &[u8], name: &str) -> Option<Sha256Digest> {
    if value.is_empty() {
        return None;
    }
    let parsed = parse(value, name);
    parsed
        .inspect_err(|error| warn!(%error, "passed over"))
        .ok()
}

fn parse(value: &[u8], name: &str) -> Result<Sha256Digest, PointerError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| PointerError::Value {
            name: name.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryPointers;

    /// What every implementation does; `pointers` is empty.
    async fn pointers_move_by_compare_and_set(pointers: &dyn Pointers) {
        let (first, second) = (Sha256Digest::of("first"), Sha256Digest::of("second"));
        let never = pointers.get("key.a").await.unwrap();
        assert_eq!((never.digest, never.revision), (None, 0));
        assert!(pointers.replace("key.a", never, first).await.unwrap());
        assert!(!pointers.replace("key.a", never, second).await.unwrap());
        let now = pointers.get("key.a").await.unwrap();
        assert_eq!(now.digest, Some(first));
        assert!(pointers.replace("key.a", now, second).await.unwrap());
        assert!(!pointers.replace("key.a", now, first).await.unwrap());
        pointers.set("key.a", first).await.unwrap();
        assert_eq!(pointers.get("key.a").await.unwrap().digest, Some(first));
        assert_eq!(pointers.get("key.b").await.unwrap().digest, None);
        let last = pointers.get("key.a").await.unwrap();
        pointers.set("template.a", second).await.unwrap();
        let listed = pointers.list("key.").await.unwrap();
        assert_eq!(listed, [("key.a".to_owned(), last)]);
        assert!(!pointers.remove("key.a", now).await.unwrap());
        assert!(pointers.remove("key.a", last).await.unwrap());
        assert_eq!(pointers.list("key.").await.unwrap(), []);
        let gone = pointers.get("key.a").await.unwrap();
        assert_eq!(gone.digest, None);
        assert!(pointers.replace("key.a", gone, first).await.unwrap());
    }

    #[tokio::test]
    async fn pointers_in_memory_move_by_compare_and_set() {
        pointers_move_by_compare_and_set(&MemoryPointers::default()).await;
    }

    /// Needs a server: `NATS_URL` names one that stores streams. The end-to-end cases start their own.
    #[tokio::test]
    async fn pointers_in_jetstream_move_by_compare_and_set() {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return;
        };
        let client = async_nats::connect(url).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let bucket = format!("pointers-{}", std::process::id());
        let config = kv::Config {
            bucket: bucket.clone(),
            storage: async_nats::jetstream::stream::StorageType::Memory,
            ..kv::Config::default()
        };
        let store = jetstream.create_key_value(config).await.unwrap();
        store.put("key.deleted", "x".into()).await.unwrap();
        store.delete("key.deleted").await.unwrap();
        let pointers = KvPointers(store);
        pointers_move_by_compare_and_set(&pointers).await;
        let deleted = pointers.get("key.deleted").await.unwrap();
        assert_eq!(deleted.digest, None);
        let digest = Sha256Digest::of("again");
        assert!(
            pointers
                .replace("key.deleted", deleted, digest)
                .await
                .unwrap()
        );
        pointers.0.put("key.odd", "x".into()).await.unwrap();
        assert_eq!(
            pointers.get("key.odd").await.unwrap_err().to_string(),
            "key.odd holds no digest"
        );
        let listed = pointers.list("key.").await.unwrap();
        let names: Vec<_> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["key.a", "key.deleted"]);
        assert_eq!(pointers.get("key.a").await.unwrap(), listed[0].1);
        for number in 0..=PAGE {
            let name = format!("page.{number}");
            pointers.set(&name, digest).await.unwrap();
        }
        assert_eq!(pointers.list("page.").await.unwrap().len(), PAGE + 1);
        jetstream.delete_key_value(bucket).await.unwrap();
    }
}
