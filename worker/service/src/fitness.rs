//! Whether this host can run one more job: its health, and its scratch space.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::breaker::{Allowed, Health};
use crate::scratch::Scratch;

/// 3 s between two looks at a disk that was too full: a job that ends empties it, and nobody says so.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// What a pull asks first.
#[derive(Debug)]
pub struct Fitness {
    health: Health,
    scratch: Scratch,
    changes: watch::Receiver<Option<String>>,
}

impl Fitness {
    /// Of both.
    pub fn new(health: Health, scratch: Scratch) -> Self {
        Self {
            changes: health.reasons(),
            health,
            scratch,
        }
    }

    /// Whether one more job may be pulled while `pulls` are on their way.
    pub fn allows(&self, pulls: usize) -> bool {
        let healthy = match self.health.allows() {
            Allowed::All => true,
            Allowed::One => pulls == 0,
            Allowed::NoneUntil(_) => false,
        };
        healthy && self.scratch.has_room()
    }

    /// Waits until the answer may be another. A caller that stops waiting misses nothing.
    pub async fn changed(&mut self) {
        let until = self.look_at();
        let look = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = self.changes.changed() => {}
            () = look => {}
        }
    }

    fn look_at(&self) -> Option<Instant> {
        match self.health.allows() {
            Allowed::NoneUntil(until) => Some(until),
            Allowed::All | Allowed::One if self.scratch.has_room() => None,
            Allowed::All | Allowed::One => Some(Instant::now() + LOOK_AGAIN_AFTER),
        }
    }
}
