//! Traces that go from one process to the next in a message's header, as W3C Trace Context writes it.
//!
//! ```text
//! traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//! ```
//!
//! Where no exporter runs ([`crate::telemetry::start_traced`]) there are no traces: nothing is read and nothing is written.

use async_nats::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, debug};
use tracing_opentelemetry::{OpenTelemetrySpanExt as _, SetParentError};

/// Makes `span` a child of the one that a message names. Without the header, or with one that cannot be read, it begins a trace of its
/// own. To be called before the span is entered: from then on it has the parent that it has.
pub fn continues(span: &Span, headers: Option<&HeaderMap>) {
    let Some(headers) = headers else { return };
    let context = TraceContextPropagator::new().extract(&Read(headers));
    match span.set_parent(context) {
        Ok(()) | Err(SetParentError::LayerNotFound | SetParentError::SpanDisabled) => {}
        Err(error) => debug!(%error, "not part of the message's trace"),
    }
}

/// The headers of a message that is sent in `span`: `traceparent`, or nothing where there are no traces.
pub fn headers(span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut Write(&mut headers));
    headers
}

struct Read<'a>(&'a HeaderMap);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(async_nats::HeaderValue::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_ref()).collect()
    }
}

struct Write<'a>(&'a mut HeaderMap);

impl Injector for Write<'_> {
    fn set(&mut self, key: &str, value: String) {
        // `tracestate` is written even where there is none.
        if !value.is_empty() {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tracing::{Dispatch, info, info_span};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::{Telemetry, TelemetryConfig, export};
    use crate::testing::{self, Collector};

    const FOREIGN_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const FOREIGN_SPAN: &str = "b7ad6b7169203331";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_is_one_trace_from_its_message_to_the_messages_it_causes() {
        let collector = Collector::start();
        let (worker, telemetry) = traced("worker", Some(&collector.endpoint));
        let sent = tracing::dispatcher::with_default(&worker, || {
            let job = info_span!("job", otel.kind = "consumer", attempt = 1);
            continues(&job, Some(&foreign()));
            job.in_scope(|| info_span!("step", step = "build").in_scope(|| info!("runs")));
            headers(&job)
        });
        telemetry.end().await;

        let spans = collector.spans();
        let [job, step] = ["job", "step"].map(|name| named(&spans, name));
        assert_eq!(
            (job.trace_id.as_str(), job.parent_id.as_str()),
            (FOREIGN_TRACE, FOREIGN_SPAN)
        );
        assert_eq!(
            (&step.trace_id, &step.parent_id),
            (&job.trace_id, &job.span_id)
        );
        assert_eq!(
            step.attributes.get("step").map(String::as_str),
            Some("build")
        );
        assert_eq!(job.service, "worker");
        let traceparent = format!("00-{FOREIGN_TRACE}-{}-01", job.span_id);
        assert_eq!(
            sent.get("traceparent").map(async_nats::HeaderValue::as_str),
            Some(traceparent.as_str())
        );
        assert!(sent.get("tracestate").is_none(), "{sent:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_without_a_trace_or_with_nonsense_begins_one() {
        let collector = Collector::start();
        let (worker, telemetry) = traced("worker", Some(&collector.endpoint));
        let mut nonsense = HeaderMap::new();
        nonsense.insert("traceparent", "00-nonsense");
        tracing::dispatcher::with_default(&worker, || {
            for headers in [None, Some(&HeaderMap::new()), Some(&nonsense)] {
                continues(&info_span!("job"), headers);
            }
        });
        telemetry.end().await;
        let spans = collector.spans();
        assert_eq!(spans.len(), 3);
        assert!(
            spans.iter().all(|span| span.parent_id.is_empty()),
            "{spans:?}"
        );
        assert_ne!(spans[0].trace_id, spans[1].trace_id);
    }

    #[test]
    fn without_an_endpoint_nothing_is_built_and_nothing_written() {
        // Not even a runtime is needed.
        let export = export::export("worker", &TelemetryConfig::default()).unwrap();
        assert!(export.layer.is_none());
        let (worker, telemetry) = traced("worker", None);
        assert!(format!("{telemetry:?}").contains("None"), "{telemetry:?}");
        tracing::dispatcher::with_default(&worker, || {
            let job = info_span!("job");
            continues(&job, Some(&foreign()));
            assert!(headers(&job).is_empty());
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_refuses_costs_nothing_but_spans() {
        let (worker, telemetry) = traced("worker", Some("http://127.0.0.1:1"));
        make_spans(&worker);
        telemetry.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_never_answers_costs_nothing_but_spans() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let (worker, telemetry) = traced("worker", Some(&endpoint));
        make_spans(&worker);
        telemetry.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_that_do_not_fit_while_the_collector_sleeps_are_dropped_and_not_waited_for() {
        let asleep = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", asleep.local_addr().unwrap());
        let (worker, telemetry) = traced("worker", Some(&endpoint));
        make_spans(&worker);
        let collector = Collector::on(asleep);
        telemetry.end().await;
        let spans = collector.spans();
        let last = (SPANS - 1).to_string();
        let came = |span: &testing::Span| span.attributes.get("number") == Some(&last);
        // The queue's, of those that were made first. Had the last waited for room, it would have come.
        assert!(
            !spans.is_empty() && !spans.iter().any(came),
            "{}",
            spans.len()
        );
    }

    /// More than the queue holds, twice over.
    const SPANS: usize = 10_000;

    fn make_spans(worker: &Dispatch) {
        tracing::dispatcher::with_default(worker, || {
            for number in 0..SPANS {
                info_span!("job", number).in_scope(|| info!("runs"));
            }
        });
    }

    fn traced(service: &str, endpoint: Option<&str>) -> (Dispatch, Telemetry) {
        let config = TelemetryConfig {
            otlp_endpoint: endpoint.map(str::to_owned),
            ..TelemetryConfig::default()
        };
        let export = export::export(service, &config).unwrap();
        let registry = tracing_subscriber::registry().with(Vec::from_iter(export.layer));
        (registry.into(), export.telemetry)
    }

    fn foreign() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            "traceparent",
            format!("00-{FOREIGN_TRACE}-{FOREIGN_SPAN}-01"),
        );
        headers
    }

    fn named<'a>(spans: &'a [testing::Span], name: &str) -> &'a testing::Span {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name}: {spans:?}"))
    }
}
