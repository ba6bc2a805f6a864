//! What makes an idle worker look at the queue.

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use schemas::JobSubject;
use tracing::warn;

use super::pull::Pool;
use super::turns::Line;

/// What an idle worker listens to. A busy one would collect the bodies of all jobs that it cannot take.
#[derive(Debug)]
pub(super) struct Wake {
    /// Every publish of a job for this pool; none while the server is away, and then the timer counts.
    jobs: Option<Subscriber>,
    /// Every new snapshot.
    snapshots: Option<Subscriber>,
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A job was published.
    Job(Line),
    /// A snapshot appeared, for which jobs may have waited.
    Snapshot,
}

impl Wake {
    /// Begins to listen; `snapshots` is the subject of their pointers.
    pub(super) async fn listen(pool: &Pool, snapshots: &str) -> Self {
        Self {
            jobs: subscribed(&pool.client, &JobSubject::filter(&pool.name)).await,
            snapshots: subscribed(&pool.client, snapshots).await,
        }
    }

    /// Waits for the next word that concerns this worker.
    pub(super) async fn next(&mut self, pool: &Pool) -> Heard {
        loop {
            tokio::select! {
                job = heard(self.jobs.as_mut()) => {
                    if let Some(line) = pool.line_of(&job.subject) {
                        return Heard::Job(line);
                    }
                }
                _ = heard(self.snapshots.as_mut()) => return Heard::Snapshot,
            }
        }
    }
}

async fn subscribed(client: &Client, subject: &str) -> Option<Subscriber> {
    match client.subscribe(subject.to_owned()).await {
        Ok(subscriber) => Some(subscriber),
        Err(error) => {
            warn!(subject, %error, "not woken");
            None
        }
    }
}

async fn heard(subscriber: Option<&mut Subscriber>) -> Message {
    let heard = match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => None,
    };
    match heard {
        Some(message) => message,
        // It ends with the connection.
        None => std::future::pending().await,
    }
}
