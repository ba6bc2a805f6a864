//! One at a time for each name: whoever comes second finds what the first one made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// Locks by name. A name that nobody holds or waits for takes no room after the next [`Locks::lock`].
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits until nobody else holds `name`. Dropping the guard gives it up.
    pub(crate) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        self.of(name).lock_owned().await
    }

    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        // Nothing in here panics half-way.
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_held_by_one_and_forgotten_afterwards() {
        let locks = Locks::default();
        let held = locks.lock("a").await;
        assert!(locks.of("a").try_lock().is_err());
        assert!(locks.of("b").try_lock().is_ok());
        drop(held);
        assert!(locks.of("a").try_lock().is_ok());
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
