//! Pointers in memory, for tests of what stands above them; for other crates behind the feature `testing`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use schemas::Sha256Digest;

use crate::pointers::{Pointer, PointerError, Pointers};

/// Pointers that go with this value.
#[derive(Default)]
pub(crate) struct MemoryPointers(Mutex<HashMap<String, Pointer>>);

impl MemoryPointers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pointer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Pointers for MemoryPointers {
    async fn get(&self, name: &str) -> Result<Pointer, PointerError> {
        let none = Pointer {
            digest: None,
            revision: 0,
        };
        Ok(self.lock().get(name).copied().unwrap_or(none))
    }

    async fn replace(
        &self,
        name: &str,
        before: Pointer,
        digest: Sha256Digest,
    ) -> Result<bool, PointerError> {
        let mut pointers = self.lock();
        let revision = pointers.get(name).map_or(0, |pointer| pointer.revision);
        if revision != before.revision {
            return Ok(false);
        }
        let pointer = Pointer {
            digest: Some(digest),
            revision: revision + 1,
        };
        pointers.insert(name.to_owned(), pointer);
        Ok(true)
    }

    async fn remove(&self, name: &str, before: Pointer) -> Result<bool, PointerError> {
        let mut pointers = self.lock();
        let Some(pointer) = pointers.get_mut(name) else {
            return Ok(before.revision == 0);
        };
        if pointer.revision != before.revision {
            return Ok(false);
        }
        *pointer = Pointer {
            digest: None,
            revision: before.revision + 1,
        };
        Ok(true)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Pointer)>, PointerError> {
        let pointers = self.lock();
        let found = pointers
            .iter()
            .filter(|(name, pointer)| name.starts_with(prefix) && pointer.digest.is_some());
        Ok(found
            .map(|(name, pointer)| (name.clone(), *pointer))
            .collect())
    }

    async fn set(&self, name: &str, digest: Sha256Digest) -> Result<(), PointerError> {
        while !self.replace(name, self.get(name).await?, digest).await? {}
        Ok(())
    }
}
