//! A bucket in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use crate::values::{Values, ValuesError};

/// Values that go with this and its clones.
#[derive(Debug, Default, Clone)]
pub(crate) struct MemoryValues(pub(crate) Arc<Mutex<HashMap<String, Bytes>>>);

#[async_trait]
impl Values for MemoryValues {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, ValuesError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<bool, ValuesError> {
        let mut values = self.0.lock().unwrap();
        let is_new = !values.contains_key(key);
        if is_new {
            values.insert(key.to_owned(), value);
        }
        Ok(is_new)
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<(), ValuesError> {
        self.0.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }
}
