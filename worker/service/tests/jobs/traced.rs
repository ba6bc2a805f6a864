//! A job's trace, as a collector gets it.

use anyhow::{Context as _, Result, ensure};
use bus::telemetry::{Format, TelemetryConfig, start_traced};
use bus::testing::{Collector, Span};

use crate::rig::Rig;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_one_trace_from_its_message_on() -> Result<()> {
    let Some(rig) = Rig::start("traced", 1).await? else {
        return Ok(());
    };
    let collector = Collector::start();
    let config = TelemetryConfig {
        otlp_endpoint: Some(collector.endpoint.clone()),
        ..TelemetryConfig::default()
    };
    // Of the whole process: where other tests run in it as well, their spans are of other traces.
    let telemetry = start_traced("worker", Format::Human, &config)?;
    rig.bake().await?;
    let (id, body) = rig.job(&[])?;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-{PUBLISHER}-01"));
    rig.publish_with(headers, body).await?;
    rig.result(&id).await?;
    rig.end().await?;
    telemetry.end().await;
    let spans = collector.spans();
    let job = one(&spans, "job")?;
    ensure!(job.parent_id == PUBLISHER, "{job:?}");
    for (name, value) in [("job", id.as_str()), ("attempt", "1")] {
        let attribute = job.attributes.get(name).map(String::as_str);
        ensure!(attribute == Some(value), "{job:?}");
    }
    ensure!(job.attributes.contains_key("tenant"), "{job:?}");
    for name in ["claim", "source", "fork", "step", "upload", "report"] {
        let span = one(&spans, name)?;
        ensure!(span.parent_id == job.span_id, "{span:?} of {job:?}");
    }
    Ok(())
}

/// The first span of that name in the job's trace.
fn one<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span> {
    let mut of_the_trace = spans.iter().filter(|span| span.trace_id == TRACE);
    of_the_trace
        .find(|span| span.name == name)
        .with_context(|| format!("no span {name} in {spans:?}"))
}
