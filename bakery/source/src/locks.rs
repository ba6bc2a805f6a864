//! One at a time for each name: whoever comes second finds what the first one made, or hears why there is nothing to find.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::error::SourceError;

/// Locks by name. A name that nobody holds or waits for takes no room after the next [`Locks::turn`].
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<String, Weak<Lock>>>);

/// Holds why the last one failed.
type Lock = tokio::sync::Mutex<Option<Arc<SourceError>>>;

/// The right to work on a name. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Turn(OwnedMutexGuard<Option<Arc<SourceError>>>);

impl Locks {
    /// Waits until nobody else works on `name`.
    pub(crate) async fn turn(&self, name: &str) -> Turn {
        Turn(self.of(name).lock_owned().await)
    }

    fn of(&self, name: &str) -> Arc<Lock> {
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

impl Turn {
    /// Does the work. Where it failed while this one waited, nothing is done: that error is everybody's who waited.
    pub(crate) async fn take<T>(
        mut self,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        if let Some(error) = &*self.0 {
            return Err(SourceError::Shared(Arc::clone(error)));
        }
        work.await.map_err(|error| {
            let error = Arc::new(error);
            *self.0 = Some(Arc::clone(&error));
            SourceError::Shared(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test]
    async fn a_name_is_held_by_one_and_forgotten_afterwards() {
        let locks = Locks::default();
        let held = locks.turn("a").await;
        assert!(locks.of("a").try_lock().is_err());
        assert!(locks.of("b").try_lock().is_ok());
        drop(held);
        assert!(locks.of("a").try_lock().is_ok());
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn whoever_waited_hears_why_it_failed_and_whoever_comes_later_tries_again() {
        let locks = Locks::default();
        let first = locks.turn("a").await;
        let fails = async || Err::<(), _>(SourceError::Spool(io::Error::other("full")));
        let waiting = async {
            let second = locks.turn("a").await;
            second.take(async { Ok(()) }).await
        };
        let (first, second) = tokio::join!(biased; waiting, first.take(fails()));
        for heard in [first, second] {
            assert!(matches!(heard, Err(SourceError::Shared(_))), "{heard:?}");
        }
        let later = locks.turn("a").await;
        assert!(later.take(async { Ok(()) }).await.is_ok());
    }
}
