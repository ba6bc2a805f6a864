//! A bucket in memory, for tests of this crate and, behind the feature `testing`, of those that use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::values::{Value, Values, ValuesError};

/// Values that go with this and its clones.
#[derive(Debug, Default, Clone)]
pub struct MemoryValues(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    values: HashMap<String, Value>,
    /// How many writes there were.
    revision: u64,
}

impl MemoryValues {
    /// Lets every value be as old as if it had been written at `time`.
    pub fn date_back(&self, time: SystemTime) {
        for value in self.lock().values.values_mut() {
            value.written = time;
        }
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.lock().values.clear();
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.lock().values.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().expect("nobody panics who holds it")
    }
}

impl Written {
    fn write(&mut self, key: &str, bytes: Bytes) {
        self.revision += 1;
        let value = Value {
            bytes,
            revision: self.revision,
            written: SystemTime::now(),
        };
        self.values.insert(key.to_owned(), value);
    }
}

#[async_trait]
impl Values for MemoryValues {
    async fn get(&self, key: &str) -> Result<Option<Value>, ValuesError> {
        Ok(self.lock().values.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Value)>, ValuesError> {
        let written = self.lock();
        let found = written
            .values
            .iter()
            .filter(|(key, _)| key.starts_with(prefix));
        Ok(found
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, ValuesError> {
        let mut written = self.lock();
        let is_new = !written.values.contains_key(key);
        if is_new {
            written.write(key, bytes);
        }
        Ok(is_new)
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ValuesError> {
        self.lock().write(key, bytes);
        Ok(())
    }

    async fn remove(&self, key: &str, revision: u64) -> Result<bool, ValuesError> {
        let values = &mut self.lock().values;
        let stands = values
            .get(key)
            .is_some_and(|value| value.revision == revision);
        if stands {
            values.remove(key);
        }
        Ok(stands)
    }
}
