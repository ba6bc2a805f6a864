//! Which jobs were published, which wait for a result, which were cancelled, and what came of them.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use schemas::names::{bucket, cancel_key};
use schemas::{JobResult, Reason, Token};
use tokio::time::{Instant, sleep_until};

use super::dice::Dice;
use super::jobs::{Kind, Planned};
use crate::fleet::Fleet;
use crate::queue;
use crate::wait;

/// 2 min until the server takes a job: it is restarted again and again.
const PUBLISHED_WITHIN: Duration = Duration::from_mins(2);

/// All jobs of a soak.
#[derive(Debug)]
pub(super) struct Board {
    jobs: Vec<Planned>,
    states: Mutex<Vec<State>>,
}

/// What is known of a job.
#[derive(Debug, Default, Clone)]
struct State {
    is_published: bool,
    is_cancelled: bool,
    result: Option<JobResult>,
}

impl Board {
    /// Jobs that are not published yet.
    pub(super) fn new(jobs: Vec<Planned>) -> Self {
        Self {
            states: Mutex::new(vec![State::default(); jobs.len()]),
            jobs,
        }
    }

    /// How many jobs are of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.jobs.iter().filter(|job| job.kind == kind).count()
    }

    /// How many have a result of that worker's.
    pub(super) fn done_by(&self, worker: &str) -> usize {
        let results = self.results();
        let its = results
            .iter()
            .filter(|result| result.worker.as_str() == worker);
        its.count()
    }

    /// The results so far.
    pub(super) fn results(&self) -> Vec<JobResult> {
        let states = self.states();
        states
            .iter()
            .filter_map(|state| state.result.clone())
            .collect()
    }

    /// Publishes all of them, one after the other, and waits for their results.
    pub(super) async fn play(&self) -> Result<()> {
        let mut at = Instant::now();
        let playing = self.jobs.iter().enumerate().map(|(index, job)| {
            at += job.pause;
            self.play_one(index, job, at)
        });
        try_join_all(playing.collect::<Vec<_>>()).await?;
        Ok(())
    }

    async fn play_one(&self, index: usize, job: &Planned, at: Instant) -> Result<()> {
        sleep_until(at).await;
        let body = job.body.to_string();
        // A body that is stored twice, since its acknowledgement was lost, is one job all the same.
        wait::until("a job to be published", PUBLISHED_WITHIN, async || {
            Ok(job.publisher.publish(body.clone()).await.ok())
        })
        .await?;
        self.states()[index].is_published = true;
        let result = job.publisher.result(queue::job_id(&job.body)?).await?;
        self.states()[index].result = Some(result);
        Ok(())
    }

    /// Cancels a job that waits for its result, if there is one and the server takes it.
    pub(super) async fn cancel_one(&self, dice: &mut Dice) -> Result<bool> {
        let open = self.open();
        if open.is_empty() {
            return Ok(false);
        }
        let index = open[dice.below(open.len())];
        let Planned {
            publisher, body, ..
        } = &self.jobs[index];
        // From here on it may be cancelled, whether or not we hear that it is.
        self.states()[index].is_cancelled = true;
        let job_id = Token::parse(queue::job_id(body)?)?;
        let cancels = publisher.jetstream().get_key_value(bucket::CANCELS).await?;
        let key = cancel_key(&publisher.tenant, &job_id);
        cancels.put(key, "soak".into()).await?;
        Ok(true)
    }

    fn open(&self) -> Vec<usize> {
        let states = self.states();
        let is_open =
            |state: &State| state.is_published && state.result.is_none() && !state.is_cancelled;
        let open = states
            .iter()
            .enumerate()
            .filter(|(_, state)| is_open(state));
        open.map(|(index, _)| index).collect()
    }

    /// Whether each job has exactly one result, and one that it may have.
    pub(super) async fn check(&self, fleet: &Fleet) -> Result<()> {
        let states = self.states().clone();
        for (job, state) in self.jobs.iter().zip(&states) {
            let job_id = queue::job_id(&job.body)?;
            let count = fleet.results_of(&job.publisher, job_id).await?;
            ensure!(count == 1, "job {job_id} has {count} results");
            let result = state.result.as_ref().context("it was waited for")?;
            if !(state.is_cancelled && result.reason.known() == Some(&Reason::Cancelled)) {
                job.kind.check(result)?;
            }
        }
        Ok(())
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().expect("nobody panics with it")
    }
}
