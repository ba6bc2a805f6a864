//! What the operator allows each tenant of the queue: kept current by a watch, so that no job costs a request.
//!
//! What always holds: a definition that cannot be read changes nothing, so a slip of the operator's does not lift a cap.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::kv::{self, Entry, EntryError, Operation};
use futures_util::StreamExt as _;
use schemas::Token;
use schemas::tenant::Tenant;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

/// The tenants of the queue. Clones share what is known.
#[derive(Clone, Debug)]
pub struct Tenants {
    bucket: kv::Store,
    known: Known,
    /// Ends with the last clone.
    _watch: Arc<JoinSet<()>>,
}

/// What a tenant has of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Jobs that run at a time, over all workers; none for as many as there are slots.
    pub concurrency: Option<u32>,
    /// Its turns among the tenants of one priority.
    pub weight: u32,
}

/// The terms of those that were asked for or told of, and the revision that said them.
#[derive(Clone, Debug, Default)]
struct Known {
    all: Arc<Mutex<BTreeMap<Token, (u64, Terms)>>>,
    /// How often some were changed.
    changed: watch::Sender<u64>,
}

impl Tenants {
    /// Watches that bucket.
    pub fn begin(bucket: kv::Store) -> Self {
        let known = Known::default();
        let mut watch = JoinSet::new();
        watch.spawn(follow(bucket.clone(), known.clone()));
        Self {
            bucket,
            known,
            _watch: Arc::new(watch),
        }
    }

    /// A tenant's terms; asks for those of one that is met for the first time.
    pub async fn of(&self, tenant: &Token) -> Result<Terms, EntryError> {
        if let Some(terms) = self.known.of(tenant) {
            return Ok(terms);
        }
        match self.bucket.entry(tenant.as_str()).await? {
            Some(entry) => self.known.take_in(tenant, &entry),
            None => self.known.put(tenant, 0, Terms::default()),
        }
        Ok(self.known.of(tenant).unwrap_or_default())
    }

    /// Changes when the operator changed the terms of a tenant that is known here.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.known.changed.subscribe()
    }

    /// The terms, as far as they are known here.
    pub fn known(&self, tenant: &Token) -> Terms {
        self.known.of(tenant).unwrap_or_default()
    }
}

/// Those of a tenant of whom nothing is stored.
impl Default for Terms {
    fn default() -> Self {
        Self {
            concurrency: None,
            weight: 1,
        }
    }
}

impl Known {
    fn of(&self, tenant: &Token) -> Option<Terms> {
        self.all().get(tenant).map(|(_, terms)| *terms)
    }

    /// A definition that was put, or the mark that one was deleted.
    fn take_in(&self, tenant: &Token, entry: &Entry) {
        let terms = match entry.operation {
            Operation::Put => match Tenant::parse(&entry.value) {
                Ok(tenant) => Terms {
                    concurrency: tenant.concurrency,
                    weight: tenant.weight,
                },
                Err(error) => {
                    warn!(%tenant, %error, "the tenant's definition cannot be read: what was before holds");
                    self.of(tenant).unwrap_or_default()
                }
            },
            Operation::Delete | Operation::Purge => Terms::default(),
        };
        self.put(tenant, entry.revision, terms);
    }

    /// The newest revision counts, whichever way it came.
    fn put(&self, tenant: &Token, revision: u64, terms: Terms) {
        let mut all = self.all();
        let known = all.entry(tenant.clone()).or_insert((revision, terms));
        if known.0 <= revision {
            let changed = known.1 != terms;
            *known = (revision, terms);
            if changed {
                self.changed.send_modify(|times| *times += 1);
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Token, (u64, Terms)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(bucket: kv::Store, known: Known) {
    loop {
        let mut changes = bus::watch::begin(&bucket, ">").await;
        while let Some(change) = changes.next().await {
            // An error is followed by what was missed; a key that names no tenant is nobody's.
            if let Ok(entry) = change
                && let Ok(tenant) = Token::parse(&entry.key)
            {
                known.take_in(&tenant, &entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_by_news_changes_nothing() {
        let (known, tenant) = (Known::default(), "acme".parse().unwrap());
        let news = Terms {
            concurrency: Some(2),
            weight: 3,
        };
        known.put(&tenant, 7, news);
        let changes = known.changed.subscribe();
        known.put(&tenant, 6, Terms::default());
        assert_eq!(known.of(&tenant), Some(news));
        assert!(!changes.has_changed().unwrap());
        known.put(&tenant, 8, Terms::default());
        assert!(changes.has_changed().unwrap());
    }
}
