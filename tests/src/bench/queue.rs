//! The queue as a worker with fake guests sees it: what is left of a job's time when the VM takes none.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::{self, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use nix::unistd::{Pid, SysconfVar, sysconf};
use schemas::names::{report_subject, stream as streams};
use schemas::{JobResult, Status, Token};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::figures::Figures;
use crate::fake::Fate;
use crate::fleet::{Fleet, Guests, in_memory};
use crate::launch::{Lifetime, OnDisk, ServerOptions};
use crate::process::Process;
use crate::queue::{self, Queue};
use crate::stack::Service;
use crate::state::State;

/// Jobs one after the other; p99 is then the slowest but one.
const SINGLE_JOBS: usize = 100;

/// No-op jobs that wait when the worker starts: some seconds of work.
const MANY_JOBS: usize = 3000;

/// Jobs of which each has a source of its own, which are stored first.
const APART_JOBS: usize = 1000;

/// Sources that are stored at a time.
const STORING: usize = 8;

/// Jobs at a time for both: more than two processors can be busy with.
const MANY_SLOTS: u32 = 32;

/// What they have for their files: a fake guest is a directory, and what a file system takes for one is not the queue's.
const MANY_MIB: u32 = 256;

/// What an idle worker is watched for: four of its looks at the queue.
const IDLE_FOR: Duration = Duration::from_secs(20);

/// 45 s for a worker to end its work.
const GRACE: Duration = Duration::from_secs(45);

/// For rates, as nats-server is by default: with a write to disk before each acknowledgement the disk is measured, some five thousand a
/// second.
const DEFAULTS: ServerOptions = ServerOptions {
    port: None,
    lifetime: Lifetime::Owner,
    on_disk: OnDisk::Later,
};

/// The stream that has a copy of the messages.
const COPY: &str = "BENCH_COPY";

/// Measures with a fleet of its own, and rates with another.
pub(super) async fn measure(state: &State, figures: &mut Figures) -> Result<()> {
    let fleet = Box::pin(Fleet::start(state, "bench", Guests::Fake)).await?;
    let pool = Token::parse("single").expect("a plain word is a token");
    let queue = fleet.queue.in_pool(&pool);
    // Two slots: while one still clears up after the last job, the next finds the other free.
    let service = fleet.worker("single", &pool, 2, |_| ())?;
    let worker = service.start(Lifetime::Owner).await?;
    single(&queue, figures).await?;
    idle(worker.id(), figures).await?;
    end(worker).await?;
    fleet.finish().await?;
    let fleet = Box::pin(Fleet::start_with(state, "bench", Guests::Fake, DEFAULTS)).await?;
    many(&fleet, figures).await?;
    fleet.finish().await
}

/// Claims and reports of jobs that come one after the other.
async fn single(queue: &Queue, figures: &mut Figures) -> Result<()> {
    let (mut claims, mut reports) = (Vec::new(), Vec::new());
    // The first makes its consumer, and fetches the snapshot.
    for run in 0..=SINGLE_JOBS {
        let result = good(queue.run(&job(queue)?).await?)?;
        let stored = stored_at(queue, &result).await?;
        let timing = &result.timing;
        let queued = timing.queued_at.context("it was queued")?;
        let finished = timing.steps_finished_at.context("it ran")?;
        if run > 0 {
            claims.push(between(
                queued,
                timing.claimed_at.context("it was claimed")?,
            )?);
            reports.push(between(finished, stored)?);
        }
    }
    figures.median("queue.claim", &claims);
    figures.percentile("queue.claim", &claims, 99);
    figures.median("queue.report", &reports);
    Ok(())
}

/// What a worker takes of a processor while nothing is there to do.
async fn idle(worker: Pid, figures: &mut Figures) -> Result<()> {
    let (before, start) = (processor_time(worker)?, Instant::now());
    sleep(IDLE_FOR).await;
    let used = processor_time(worker)?.saturating_sub(before);
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64();
    figures.ratio("queue.idle_cpu_percent", share * 100.0);
    Ok(())
}

/// Jobs that all wait when the worker starts; the same messages, pulled and acknowledged by nothing but a consumer.
async fn many(fleet: &Fleet, figures: &mut Figures) -> Result<()> {
    let pool = Token::parse("many").expect("a plain word is a token");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker("many", &pool, MANY_SLOTS, |config| {
        config.insert("slot_disk_mib".to_owned(), 16.into());
    })?;
    let service = in_memory(service, MANY_MIB)?;
    // The consumer is there afterwards.
    let worker = service.start(Lifetime::Owner).await?;
    good(queue.run(&job(&queue)?).await?)?;
    end(worker).await?;
    let jobs = (0..MANY_JOBS).map(|_| job(&queue));
    let jobs = jobs.collect::<Result<Vec<_>>>()?;
    let worked = rate_of_worker(&service, &queue, &jobs).await?;
    let bare = rate_of_consumer(&queue, &jobs).await?;
    let jobs = jobs_apart(&queue).await?;
    let apart = rate_of_worker(&service, &queue, &jobs).await?;
    figures.ratio("queue.jobs_per_s_fake", worked);
    figures.ratio("queue.jobs_per_s_bare", bare);
    figures.ratio("queue.jobs_per_s_own_source", apart);
    figures.ratio("queue.bare_over_fake", bare / worked);
    Ok(())
}

/// Jobs in a second, from the first claim to the last result; they all wait when the worker starts.
async fn rate_of_worker(service: &Service, queue: &Queue, jobs: &[Value]) -> Result<f64> {
    try_join_all(jobs.iter().map(|job| queue.publish(job.to_string()))).await?;
    let worker = service.start(Lifetime::Owner).await?;
    let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
    for job in jobs {
        let result = good(queue.result(queue::job_id(job)?).await?)?;
        first = first.min(result.timing.claimed_at.context("it was claimed")?);
        last = last.max(result.timing.finished_at.context("it was finished")?);
    }
    end(worker).await?;
    Ok(rate(jobs.len(), between(first, last)?))
}

/// The same of a consumer that only pulls and acknowledges, one message at a time, from a stream of the same kind.
async fn rate_of_consumer(queue: &Queue, jobs: &[Value]) -> Result<f64> {
    let config = Config {
        name: COPY.to_owned(),
        subjects: vec!["bench.copy".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    };
    let copy = queue.jetstream().create_stream(config).await?;
    for job in jobs {
        let body = job.to_string().into();
        queue.jetstream().publish("bench.copy", body).await?.await?;
    }
    let consumer = pull::Config {
        durable_name: Some("bare".to_owned()),
        ack_policy: consumer::AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let consumer = copy.create_consumer(consumer).await?;
    let start = Instant::now();
    let mut messages = consumer.messages().await?.take(jobs.len());
    while let Some(message) = messages.next().await {
        let acknowledged = message.context("pull a message")?.double_ack().await;
        acknowledged.map_err(|error| anyhow::anyhow!("acknowledge a message: {error}"))?;
    }
    Ok(rate(jobs.len(), start.elapsed()))
}

async fn end(worker: Process) -> Result<()> {
    let status = worker.stop(GRACE).await?;
    ensure!(status.success(), "the worker ended with {status}");
    Ok(())
}

/// A job that does nothing.
fn job(queue: &Queue) -> Result<Value> {
    let mut job = Fleet::job(queue, Fate::Steady, "")?;
    job["steps"] = json!([{"name": "nothing", "run": ["true"]}]);
    Ok(job)
}

/// Jobs that do nothing to a source that no other has.
async fn jobs_apart(queue: &Queue) -> Result<Vec<Value>> {
    let jobs = (0..APART_JOBS).map(async |number| {
        let text = number.to_string();
        let mut apart = job(queue)?;
        apart["source"] = queue.store_source(&[("number.txt", &text)]).await?;
        anyhow::Ok(apart)
    });
    stream::iter(jobs).buffered(STORING).try_collect().await
}

fn good(result: JobResult) -> Result<JobResult> {
    let (status, message) = (result.status, &result.message);
    ensure!(status == Status::Success, "{status}: {message}");
    Ok(result)
}

/// When the server stored a result.
async fn stored_at(queue: &Queue, result: &JobResult) -> Result<Timestamp> {
    let subject = report_subject(&result.tenant, &result.job_id);
    let results = queue
        .jetstream()
        .get_stream_no_info(streams::RESULTS)
        .await?;
    let message = results.direct_get_last_for_subject(subject).await;
    let stored = message.context("look for a result")?.time;
    let nanos = stored.unix_timestamp_nanos();
    Timestamp::from_nanosecond(nanos).context("a time of this century")
}

/// Processor time that a process has used: fields 14 and 15 of `/proc/PID/stat`, proc(5).
fn processor_time(process: Pid) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let (_, rest) = text.rsplit_once(") ").context("a program has a name")?;
    let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>().context("a time is a number")?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has ticks")?;
    let per_second = u64::try_from(per_second).context("ticks are positive")?;
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

fn between(from: Timestamp, to: Timestamp) -> Result<Duration> {
    Duration::try_from(to.duration_since(from)).context("the clock went backwards")
}

fn rate(count: usize, time: Duration) -> f64 {
    let count = u32::try_from(count).expect("it is some thousands");
    f64::from(count) / time.as_secs_f64()
}
