//! A bucket in memory, for tests of this crate and, behind the feature `testing`, of those that use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use crate::values::{Values, ValuesError};

/// Values that go with this and its clones.
#[derive(Debug, Default, Clone)]
pub struct MemoryValues(pub(crate) Arc<Mutex<HashMap<String, Bytes>>>);

impl MemoryValues {
    fn values(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        self.0.lock().expect("nobody panics who holds it")
    }
}

#[async_trait]
impl Values for MemoryValues {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, ValuesError> {
        Ok(self.values().get(key).cloned())
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<bool, ValuesError> {
        let mut values = self.values();
        let is_new = !values.contains_key(key);
        if is_new {
            values.insert(key.to_owned(), value);
        }
        Ok(is_new)
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<(), ValuesError> {
        self.values().insert(key.to_owned(), value);
        Ok(())
    }
}
