//! One trace over a job's whole life, as a collector has it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use bus::testing::{Collector, Span};
use e2e::fleet::Fleet;
use e2e::launch::Lifetime;
use schemas::Reason;

use crate::support::{ends_with, pool, settles, uploading_job};

/// The trace that the publisher has begun, and its own span in it, as the standard's examples have them.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PUBLISHER: &str = "00f067aa0ba902b7";

/// What a job consists of.
const PARTS: [&str; 7] = ["job", "claim", "source", "fork", "step", "upload", "report"];

pub(crate) async fn a_job_is_one_trace_from_its_claim_to_its_report(fleet: &Fleet) -> Result<()> {
    let collector = Collector::start();
    let pool = pool("traced");
    let queue = fleet.queue.in_pool(&pool);
    let service = fleet.worker("traced-1", &pool, 1, |config| {
        let endpoint = collector.endpoint.clone();
        config.insert(
            "telemetry".to_owned(),
            toml::toml! { otlp_endpoint = "" }.into(),
        );
        config["telemetry"]["otlp_endpoint"] = endpoint.into();
    })?;
    let worker = service.start(Lifetime::Owner).await?;
    let (job, _artifact) = uploading_job(&queue)?;
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-{PUBLISHER}-01"));
    queue.publish_with(headers, job.to_string()).await?;
    ends_with(fleet, &queue, &job, Reason::Completed).await?;
    // A worker that ends sends what it has.
    settles(fleet, &queue, vec![(&service, worker)]).await?;
    let spans: Vec<_> = collector.spans();
    let spans: Vec<_> = spans.iter().filter(|span| span.trace_id == TRACE).collect();
    let names: BTreeSet<_> = spans.iter().map(|span| span.name.as_str()).collect();
    let missing: Vec<_> = PARTS.iter().filter(|part| !names.contains(*part)).collect();
    ensure!(
        missing.is_empty(),
        "{missing:?} are not in the trace: {names:?}"
    );
    let parents = spans.iter().map(|span| (span.span_id.as_str(), *span));
    let parents: BTreeMap<_, _> = parents.collect();
    for span in &spans {
        ensure!(leads_to_publisher(span, &parents)?, "{span:?}");
    }
    Ok(())
}

/// Whether a span is part of the job, and the job of what its publisher did.
fn leads_to_publisher(span: &Span, spans: &BTreeMap<&str, &Span>) -> Result<bool> {
    if span.name == "job" {
        return Ok(span.parent_id == PUBLISHER);
    }
    let parent = spans.get(span.parent_id.as_str());
    let parent = parent.with_context(|| format!("the parent of {span:?} was not sent"))?;
    leads_to_publisher(parent, spans)
}
