//! Spans, sent to an OTLP collector. Where no endpoint is configured there is no exporter, no layer and no thread.
//!
//! ```text
//! span ends ──> queue (4096; a full one drops) ──> a thread, each second ──> collector (2 s, once)
//! ```
//!
//! Nothing waits for the collector: one that is away or hangs costs the spans that do not fit into the queue, and [`Telemetry::end`]
//! at most [`END_LIMIT`].

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use serde::{Deserialize, Serialize};
use tracing::debug;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::Causes;

/// What OpenTelemetry calls the endpoint in the environment.
pub const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// 5 s: what service managers give a process is many times that.
pub const END_LIMIT: Duration = Duration::from_secs(5);

/// 4 s for the flush, so that it ends before [`END_LIMIT`] does.
const FLUSH_LIMIT: Duration = Duration::from_secs(4);

/// 2 s for one batch: a collector stands near, and what it does not take in that time is dropped.
const EXPORT_LIMIT: Duration = Duration::from_secs(2);

/// 1 s: a trace can be looked at while the job still runs.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// 4096 spans: those of some two hundred jobs, at most a few megabytes.
const QUEUE: usize = 4096;

/// Spans and events at info, and none of the exporter's own way out, which would feed itself.
const FILTER: &str = "info,async_nats=off,aws=off,h2=off,hyper=off,hyper_util=off,rustls=off,tonic=off,tower=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off";

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// The collector's address for OTLP over gRPC, as `http://collector.example.com:4317`; without TLS, so that it stands near. Default
    /// what [`ENDPOINT_VARIABLE`] says, else none: then there are no traces.
    pub otlp_endpoint: Option<String>,
    /// Whether the address is that of [`ENDPOINT_VARIABLE`], which all programs of a host share: one that we cannot use is no mistake, and
    /// costs the traces only.
    #[serde(skip)]
    pub is_shared: bool,
    /// Which share of the traces that begin here is sent, from 0 to 1. Who continues a trace does as its beginning did. Default 1: a job
    /// is worth its twenty spans.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            is_shared: false,
            sample_ratio: 1.0,
        }
    }
}

impl TelemetryConfig {
    /// Takes the endpoint from the environment where the file names none; `variable` looks one up.
    pub fn complete(&mut self, variable: impl Fn(&str) -> Option<String>) {
        if self.otlp_endpoint.is_none() {
            self.otlp_endpoint = variable(ENDPOINT_VARIABLE);
            self.is_shared = self.otlp_endpoint.is_some();
        }
        self.otlp_endpoint = self.otlp_endpoint.take().filter(|one| !one.is_empty());
    }

    /// What is wrong with it, each with its setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(endpoint) = &self.otlp_endpoint
            && !self.is_shared
            && !is_http(endpoint)
        {
            problems.push(format!(
                "telemetry.otlp_endpoint: must start with http://, is {endpoint}"
            ));
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            problems.push(format!(
                "telemetry.sample_ratio: must be between 0 and 1, is {}",
                self.sample_ratio
            ));
        }
        problems
    }
}

/// What is to be ended before the process is: until then spans wait in the queue.
#[derive(Debug, Default)]
#[must_use = "spans that were not sent are lost unless it is ended"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends the spans that wait, within [`END_LIMIT`]; those that the collector does not take by then are lost.
    pub async fn end(self) {
        let Some(provider) = self.0 else { return };
        // On a thread of its own: the flush blocks, and the connection to the collector needs the runtime's.
        let flush = move || provider.shutdown_with_timeout(FLUSH_LIMIT);
        let flushed = tokio::time::timeout(END_LIMIT, tokio::task::spawn_blocking(flush)).await;
        debug!(?flushed, "traces ended");
    }
}

/// A layer of the log.
pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What sends the spans of a service.
#[derive(Default)]
pub(crate) struct Export {
    /// A layer of the log; none where there are no traces.
    pub(crate) layer: Option<BoxedLayer>,
    /// What ends it.
    pub(crate) telemetry: Telemetry,
    /// Why there are no traces although the environment names a collector: to be said in the log, once there is one.
    pub(crate) unusable: Option<String>,
}

/// What sends the spans of `service`. Called inside the runtime.
pub(crate) fn export(
    service: &str,
    config: &TelemetryConfig,
) -> Result<Export, ExporterBuildError> {
    let Some(endpoint) = &config.otlp_endpoint else {
        return Ok(Export::default());
    };
    if config.is_shared && !is_http(endpoint) {
        return Ok(Export::unusable("it must start with http://".to_owned()));
    }
    match provider(service, endpoint, config.sample_ratio) {
        Ok(provider) => Ok(Export::of(provider)),
        Err(error) if config.is_shared => Ok(Export::unusable(Causes(&error).to_string())),
        Err(error) => Err(error),
    }
}

impl Export {
    fn of(provider: SdkTracerProvider) -> Self {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("sourdough"))
            .with_location(false)
            .with_threads(false)
            .with_context_activation(false)
            .with_filter(EnvFilter::new(FILTER));
        Self {
            layer: Some(layer.boxed()),
            telemetry: Telemetry(Some(provider)),
            unusable: None,
        }
    }

    fn unusable(why: String) -> Self {
        Self {
            unusable: Some(why),
            ..Self::default()
        }
    }
}

fn is_http(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

fn provider(
    service: &str,
    endpoint: &str,
    sample_ratio: f64,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_LIMIT)
        .with_retry_policy(RetryPolicy::disabled())
        .build()?;
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(BATCH_DELAY)
        .with_max_queue_size(QUEUE)
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches);
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample_ratio)));
    let resource = Resource::builder().with_service_name(service.to_owned());
    Ok(SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_sampler(sampler)
        .with_span_processor(processor.build())
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_counts_where_the_file_says_nothing() {
        let environment = |name: &str| {
            (name == ENDPOINT_VARIABLE).then(|| "http://env.example.com:4317".to_owned())
        };
        let mut config = TelemetryConfig::default();
        config.complete(|_| None);
        assert_eq!(config.otlp_endpoint, None);
        config.complete(environment);
        assert_eq!(
            config.otlp_endpoint.as_deref(),
            Some("http://env.example.com:4317")
        );

        let file = "otlp_endpoint = \"http://collector.example.com:4317\"\nsample_ratio = 0.1";
        let mut config: TelemetryConfig = toml::from_str(file).unwrap();
        config.complete(environment);
        assert_eq!(
            config.otlp_endpoint.as_deref(),
            Some("http://collector.example.com:4317")
        );
        assert_eq!(config.problems(), Vec::<String>::new());
    }

    #[test]
    fn each_mistake_is_named() {
        let config = TelemetryConfig {
            otlp_endpoint: Some("https://collector.example.com".to_owned()),
            sample_ratio: f64::NAN,
            ..TelemetryConfig::default()
        };
        let problems = config.problems();
        assert!(
            problems[0].starts_with("telemetry.otlp_endpoint: "),
            "{problems:?}"
        );
        assert!(
            problems[1].starts_with("telemetry.sample_ratio: "),
            "{problems:?}"
        );
    }

    #[test]
    fn an_address_of_the_environment_that_cannot_be_used_costs_the_traces_only() {
        for shared in ["https://collector.example.com:4317", "http://a b"] {
            let mut config = TelemetryConfig::default();
            config.complete(|_| Some(shared.to_owned()));
            assert_eq!(config.problems(), Vec::<String>::new());
            let export = export("worker", &config).unwrap();
            assert!(
                export.layer.is_none() && export.unusable.is_some(),
                "{shared}"
            );
        }
        let mut config: TelemetryConfig = toml::from_str("otlp_endpoint = 'http://a b'").unwrap();
        config.complete(|_| None);
        assert!(export("worker", &config).is_err());
    }
}
