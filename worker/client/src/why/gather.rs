//! Asks everybody who knows something of a job. Questions that get no answer cost the answer and not the rest.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemas::event::Event;
use schemas::names::{bucket, cancel_key, event_subject, job_lease, job_record, stream};
use schemas::record::JobRecord;
use schemas::tenant::Tenant;
use schemas::worker::WorkerState;
use schemas::{FieldError, Token};

use super::facts::{Cap, Facts, Holder};
use crate::job_name::JobName;
use crate::queue::{self, Place};
use crate::server::{AskError, Server};

/// Asks for a result first, which everybody may who may know of the job; then all others at once; then for a result once more, since a job
/// that ended meanwhile has left the queue.
pub(crate) async fn gather(server: &Server, job: &JobName) -> Result<Facts, AskError> {
    let before = server.result(job).await?;
    let (tenant, id) = (&job.tenant, &job.id);
    let keys = (
        job_record(tenant, id),
        cancel_key(tenant, id),
        job_lease(tenant, id),
    );
    let event = event_subject(tenant, id);
    let (record, cancel, lease, event, place, held, workers, cap) = tokio::join!(
        server.value(bucket::JOBS, &keys.0),
        server.value(bucket::CANCELS, &keys.1),
        server.value(bucket::LEASES, &keys.2),
        server.last(stream::EVENTS, &event),
        queue::find(server, job),
        held(server, tenant),
        workers(server),
        cap(server, tenant),
    );
    let mut not_known = Vec::new();
    let mut known = Known(&mut not_known);
    let record = known.of(record)?.flatten();
    let lease = known.of(lease)?;
    let place = known.of(place)?.unwrap_or(Place::Unknown);
    let held = known.of(held)?;
    let event = known.of(event)?.flatten();
    Ok(Facts {
        now: Timestamp::now(),
        record: record
            .map(|body| read("record", job, JobRecord::parse(&body)))
            .transpose()?,
        cancelled: known.of(cancel)?.flatten().is_some(),
        holder: lease.map_or(Holder::Unknown, holder),
        event: event.and_then(|event| Event::parse(&event.payload).ok()),
        ahead: ahead(&place, held.as_ref()),
        place,
        workers: known.of(workers)?,
        cap: known.of(cap)?.flatten(),
        result: match before {
            Some(result) => Some(result),
            None => server.result(job).await?,
        },
        not_known,
    })
}

/// Answers, and where there is none what was asked.
struct Known<'a>(&'a mut Vec<String>);

impl Known<'_> {
    fn of<T>(&mut self, answer: Result<T, AskError>) -> Result<Option<T>, AskError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error @ AskError::Silent { .. }) => {
                self.0.push(error.to_string());
                Ok(None)
            }
            Err(
                error @ (AskError::NoStream { .. }
                | AskError::Failed { .. }
                | AskError::Read { .. }),
            ) => Err(error),
        }
    }
}

fn read<T>(what: &str, job: &JobName, parsed: Result<T, FieldError>) -> Result<T, AskError> {
    let doing = format!("read the {what} of job {}", job.id);
    parsed.map_err(|source| AskError::Read { doing, source })
}

/// The ids of the tenant's jobs that somebody holds.
async fn held(server: &Server, tenant: &Token) -> Result<BTreeSet<String>, AskError> {
    let prefix = format!("lease.{tenant}.");
    let values = server.values(bucket::LEASES, &format!("{prefix}*")).await?;
    let id = |(key, _): &(String, _)| key.strip_prefix(&prefix).map(str::to_owned);
    Ok(values.iter().filter_map(id).collect())
}

async fn workers(server: &Server) -> Result<Vec<WorkerState>, AskError> {
    let values = server.values(bucket::WORKERS, "*").await?;
    // What is no worker's word counts for none.
    let worker = |(_, body): &(_, bytes::Bytes)| WorkerState::parse(body).ok();
    Ok(values.iter().filter_map(worker).collect())
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

fn holder(lease: Option<bytes::Bytes>) -> Holder {
    let one = |name: bytes::Bytes| Holder::One(String::from_utf8_lossy(&name).into_owned());
    lease.map_or(Holder::Nobody, one)
}

fn ahead(place: &Place, held: Option<&BTreeSet<String>>) -> Option<u64> {
    let (Place::Queued(queued), Some(held)) = (place, held) else {
        return None;
    };
    let waits = |id: &&Token| !held.contains(id.as_str());
    Some(queued.before.iter().filter(waits).count() as u64)
}
