//! Requests to end jobs: a key in the bucket `build-cancels`, put there by whoever wants a job to end.
//!
//! One watch serves the whole worker. What always holds: a job is registered before its key is looked for, so a request that comes between
//! the look and the first word of the watch is heard; a watch that breaks off is begun anew, with everything that stands in the bucket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::kv::{self, Operation};
use futures_util::StreamExt as _;
use schemas::Token;
use schemas::names::cancel_key;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Hears the requests for the jobs of this worker. Clones share one watch, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Cancels {
    bucket: kv::Store,
    jobs: Jobs,
    _watching: Arc<Watching>,
}

/// Whether one job is to end. Dropping the last clone forgets the job.
#[derive(Debug)]
pub struct Cancel {
    bucket: kv::Store,
    jobs: Jobs,
    key: String,
    told: watch::Receiver<bool>,
}

/// The jobs of this worker, by their keys.
#[derive(Clone, Debug, Default)]
struct Jobs(Arc<Mutex<HashMap<String, Listened>>>);

/// A job that is listened for.
#[derive(Debug, Default)]
struct Listened {
    told: watch::Sender<bool>,
    /// By so many; counted under the lock, so that the last one knows that it is the last.
    by: usize,
}

/// The task that reads the watch.
#[derive(Debug)]
struct Watching(JoinHandle<()>);

impl Cancels {
    /// Begins to listen to `bucket`.
    pub fn begin(bucket: kv::Store) -> Self {
        let jobs = Jobs::default();
        let watching = tokio::spawn(listen(bucket.clone(), jobs.clone()));
        Self {
            bucket,
            jobs,
            _watching: Arc::new(Watching(watching)),
        }
    }

    /// Registers a job.
    pub fn of(&self, tenant: &Token, job_id: &Token) -> Cancel {
        let key = cancel_key(tenant, job_id);
        Cancel {
            told: self.jobs.register(&key),
            bucket: self.bucket.clone(),
            jobs: self.jobs.clone(),
            key,
        }
    }
}

impl Cancel {
    /// Looks whether the job's end is asked for already.
    pub async fn look(&self) -> Result<bool, kv::EntryError> {
        Ok(self.is_asked() || self.bucket.get(self.key.as_str()).await?.is_some())
    }

    /// Whether its end was asked for, as far as was heard.
    pub fn is_asked(&self) -> bool {
        *self.told.borrow()
    }

    /// Returns once its end is asked for.
    pub async fn asked(&mut self) {
        if self.told.wait_for(|asked| *asked).await.is_err() {
            // Nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Jobs {
    fn register(&self, key: &str) -> watch::Receiver<bool> {
        let mut jobs = self.lock();
        let job = jobs.entry(key.to_owned()).or_default();
        job.by += 1;
        job.told.subscribe()
    }

    fn forget(&self, key: &str) {
        let mut jobs = self.lock();
        if let Some(job) = jobs.get_mut(key) {
            job.by -= 1;
            if job.by == 0 {
                jobs.remove(key);
            }
        }
    }

    fn tell(&self, key: &str) {
        if let Some(job) = self.lock().get(key) {
            job.told.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Listened>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Cancel {
    fn clone(&self) -> Self {
        Self {
            bucket: self.bucket.clone(),
            told: self.jobs.register(&self.key),
            jobs: self.jobs.clone(),
            key: self.key.clone(),
        }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.jobs.forget(&self.key);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(bucket: kv::Store, jobs: Jobs) {
    loop {
        let mut requests = bus::watch::begin(&bucket, ">").await;
        while let Some(request) = requests.next().await {
            // An error is followed by what was missed.
            if let Ok(request) = request {
                match request.operation {
                    Operation::Put => jobs.tell(&request.key),
                    Operation::Delete | Operation::Purge => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_request_wakes_the_job_that_it_is_for_and_no_other() {
        let jobs = Jobs::default();
        let (mut ours, mut other) = (jobs.register("acme.1"), jobs.register("acme.2"));
        jobs.tell("acme.1");
        jobs.tell("acme.3");
        assert!(ours.wait_for(|asked| *asked).now_or_never().is_some());
        assert!(other.wait_for(|asked| *asked).now_or_never().is_none());
    }

    #[test]
    fn a_job_is_forgotten_with_the_last_that_listens_for_it() {
        let jobs = Jobs::default();
        let _ours = (jobs.register("acme.1"), jobs.register("acme.1"));
        jobs.forget("acme.1");
        jobs.tell("acme.1");
        assert!(*jobs.register("acme.1").borrow(), "what was said is kept");
        jobs.forget("acme.1");
        jobs.forget("acme.1");
        assert!(jobs.lock().is_empty());
    }
}
