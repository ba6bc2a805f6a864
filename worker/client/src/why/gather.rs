//! Asks everybody who knows something of a job. Questions that get no answer cost the answer and not the rest.

use std::collections::BTreeSet;

use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use jiff::Timestamp;
use schemas::Token;
use schemas::event::Event;
use schemas::names::{bucket, cancel_key, event_subject, job_lease, job_record, stream};
use schemas::record::JobRecord;
use schemas::tenant::Tenant;
use schemas::worker::WorkerState;

use super::facts::{Cap, Facts, Holder};
use crate::job_name::JobName;
use crate::queue::{self, Place};
use crate::server::{AskError, Server};

/// Asks for a result first, which everybody may who may know of the job; then all others at once; then for a result once more, since a job
/// that ended meanwhile has left the queue.
pub(crate) async fn gather(server: &Server, job: &JobName) -> Result<Facts, AskError> {
    let before = server.result(job).await?;
    let (of_job, of_others) = tokio::join!(OfJob::ask(server, job), OfOthers::ask(server, job));
    let mut not_known = Vec::new();
    let mut known = Known(&mut not_known);
    let lease = known.of(of_job.lease)?;
    let place = known.of(of_job.place)?.unwrap_or(Place::Unknown);
    let held = known.of(of_others.held)?;
    let event = known.of(of_job.event)?.flatten();
    Ok(Facts {
        now: Timestamp::now(),
        record: record(job, known.of(of_job.record)?.flatten())?,
        cancelled: known.of(of_job.cancel)?.flatten().is_some(),
        holder: lease.map_or(Holder::Unknown, holder),
        event: event.and_then(|event| Event::parse(&event.payload).ok()),
        ahead: ahead(&place, held.as_ref()),
        place,
        workers: known.of(of_others.workers)?,
        cap: known.of(of_others.cap)?.flatten(),
        result: match before {
            Some(result) => Some(result),
            None => server.result(job).await?,
        },
        not_known,
    })
}

/// The answer to a question, if there is one.
type Answer<T> = Result<T, AskError>;

/// What is stored under the job's own name.
struct OfJob {
    record: Answer<Option<Bytes>>,
    cancel: Answer<Option<Bytes>>,
    lease: Answer<Option<Bytes>>,
    event: Answer<Option<StreamMessage>>,
    place: Answer<Place>,
}

impl OfJob {
    async fn ask(server: &Server, job: &JobName) -> Self {
        let (tenant, id) = (&job.tenant, &job.id);
        let [record, cancel, lease] =
            [job_record, cancel_key, job_lease].map(|key| key(tenant, id));
        let event = event_subject(tenant, id);
        let (record, cancel, lease, event, place) = tokio::join!(
            server.value(bucket::JOBS, &record),
            server.value(bucket::CANCELS, &cancel),
            server.value(bucket::LEASES, &lease),
            server.last(stream::EVENTS, &event),
            queue::find(server, job),
        );
        Self {
            record,
            cancel,
            lease,
            event,
            place,
        }
    }
}

/// What it may wait for.
struct OfOthers {
    held: Answer<BTreeSet<String>>,
    workers: Answer<Vec<WorkerState>>,
    cap: Answer<Option<Cap>>,
}

impl OfOthers {
    async fn ask(server: &Server, job: &JobName) -> Self {
        let (held, workers, cap) = tokio::join!(
            held(server, &job.tenant),
            workers(server),
            cap(server, &job.tenant)
        );
        Self { held, workers, cap }
    }
}

/// Answers, and where there is none what was asked.
struct Known<'a>(&'a mut Vec<String>);

impl Known<'_> {
    fn of<T>(&mut self, answer: Result<T, AskError>) -> Result<Option<T>, AskError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.may_be_denied() => {
                self.0.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn record(job: &JobName, body: Option<Bytes>) -> Result<Option<JobRecord>, AskError> {
    let parsed = body.map(|body| JobRecord::parse(&body)).transpose();
    let doing = format!("read the record of job {}", job.id);
    parsed.map_err(|source| AskError::Read { doing, source })
}

/// The ids of the tenant's jobs that somebody holds.
async fn held(server: &Server, tenant: &Token) -> Result<BTreeSet<String>, AskError> {
    let prefix = format!("lease.{tenant}.");
    let values = server.values(bucket::LEASES, &format!("{prefix}*")).await?;
    let id = |key: &String| key.strip_prefix(&prefix).map(str::to_owned);
    Ok(values.keys().filter_map(id).collect())
}

async fn workers(server: &Server) -> Result<Vec<WorkerState>, AskError> {
    let values = server.values(bucket::WORKERS, "*").await?;
    // What is no worker's word counts for none.
    let worker = |body: &Bytes| WorkerState::parse(body).ok();
    Ok(values.values().filter_map(worker).collect())
}

async fn cap(server: &Server, tenant: &Token) -> Result<Option<Cap>, AskError> {
    let Some(body) = server.value(bucket::TENANTS, tenant.as_str()).await? else {
        return Ok(None);
    };
    let Some(concurrency) = Tenant::parse(&body)
        .ok()
        .and_then(|tenant| tenant.concurrency)
    else {
        return Ok(None);
    };
    let places = server
        .values(bucket::LEASES, &format!("cap.{tenant}.*"))
        .await?;
    let held = u32::try_from(places.len()).unwrap_or(u32::MAX);
    Ok(Some(Cap { concurrency, held }))
}

fn holder(lease: Option<Bytes>) -> Holder {
    let one = |name: Bytes| Holder::One(String::from_utf8_lossy(&name).into_owned());
    lease.map_or(Holder::Nobody, one)
}

fn ahead(place: &Place, held: Option<&BTreeSet<String>>) -> Option<u64> {
    let (Place::Queued(queued), Some(held)) = (place, held) else {
        return None;
    };
    let waits = |id: &&Token| !held.contains(id.as_str());
    Some(queued.before.iter().filter(waits).count() as u64)
}
