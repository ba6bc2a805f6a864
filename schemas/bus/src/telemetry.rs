//! Logs, one line an event, on standard error; spans, to a collector where one is configured; and errors with their causes in one line.
//!
//! `RUST_LOG` decides what is logged, in the syntax of `tracing-subscriber`. Default [`DEFAULT_FILTER`]. Which spans are sent does not
//! depend on it.

pub(crate) mod export;

use std::error::Error;
use std::fmt;
use std::io::IsTerminal as _;

use opentelemetry_otlp::ExporterBuildError;
use serde::{Deserialize, Serialize};
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Layer as _};
use tracing_subscriber::{fmt as layer, layer::SubscriberExt, util::SubscriberInitExt};

use export::BoxedLayer;
pub use export::{END_LIMIT, ENDPOINT_VARIABLE, Telemetry, TelemetryConfig};

/// Our own events, and only the complaints of the libraries.
pub const DEFAULT_FILTER: &str = "info,async_nats=warn,aws=warn,hyper=warn,rustls=warn";

/// Complaints only: for a command line, whose standard error a person reads.
pub const QUIET_FILTER: &str = "warn,async_nats=error";

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For a person.
    #[default]
    Human,
    /// One JSON object a line, for a collector.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` cannot be read.
    #[error("read the environment variable RUST_LOG")]
    Filter(#[source] tracing_subscriber::filter::FromEnvError),
    /// The collector's address is none.
    #[error("send spans to the collector at {endpoint}")]
    Exporter {
        /// The address.
        endpoint: String,
        /// Why.
        #[source]
        source: ExporterBuildError,
    },
    /// Somebody else started it in this process.
    #[error("start the log")]
    Started(#[source] TryInitError),
}

/// Starts the log of this process. `service` stands in its first line, at info, and in no other.
pub fn start(service: &str, format: Format) -> Result<(), TelemetryError> {
    start_filtered(service, format, DEFAULT_FILTER)
}

/// The same with another filter for where `RUST_LOG` is not set.
pub fn start_filtered(service: &str, format: Format, default: &str) -> Result<(), TelemetryError> {
    started(service, vec![lines(format, default)?])
}

/// Starts the log, and the spans of `service` on their way to the collector that `config` names, if it names one. Called inside the
/// runtime, which must have more than one thread or live until the end.
pub fn start_traced(
    service: &str,
    format: Format,
    config: &TelemetryConfig,
) -> Result<Telemetry, TelemetryError> {
    start_traced_filtered(service, format, DEFAULT_FILTER, config)
}

/// The same with another filter of the log for where `RUST_LOG` is not set.
pub fn start_traced_filtered(
    service: &str,
    format: Format,
    default: &str,
    config: &TelemetryConfig,
) -> Result<Telemetry, TelemetryError> {
    let lines = lines(format, default)?;
    let export = export::export(service, config).map_err(|source| {
        let endpoint = config.otlp_endpoint.clone().unwrap_or_default();
        TelemetryError::Exporter { endpoint, source }
    })?;
    started(service, [lines].into_iter().chain(export.layer).collect())?;
    if let Some(why) = export.unusable {
        tracing::warn!(why, "no traces: {ENDPOINT_VARIABLE} cannot be used");
    }
    Ok(export.telemetry)
}

fn started(service: &str, layers: Vec<BoxedLayer>) -> Result<(), TelemetryError> {
    let registry = tracing_subscriber::registry().with(layers);
    registry.try_init().map_err(TelemetryError::Started)?;
    first_line(service);
    Ok(())
}

/// What writes the log.
fn lines(format: Format, default: &str) -> Result<BoxedLayer, TelemetryError> {
    let filter = filter(default)?;
    let human = layer::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    Ok(match format {
        Format::Human => human.with_filter(filter).boxed(),
        Format::Json => {
            let json = human.json().flatten_event(true);
            json.with_filter(filter).boxed()
        }
    })
}

fn first_line(service: &str) {
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "log started");
}

/// Displays an error and its causes: `connect to nats.example.com: IO error: connection refused`.
pub struct Causes<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        formatter.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let sentence = cause.to_string();
            // Libraries often repeat their cause at the end of their own sentence.
            if !said.ends_with(&sentence) {
                write!(formatter, ": {sentence}")?;
                said = sentence;
            }
            next = cause.source();
        }
        Ok(())
    }
}

fn filter(default: &str) -> Result<EnvFilter, TelemetryError> {
    if std::env::var_os(EnvFilter::DEFAULT_ENV).is_none() {
        return Ok(EnvFilter::new(default));
    }
    EnvFilter::try_from_default_env().map_err(TelemetryError::Filter)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Seek as _};
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the store{0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn the_first_line_says_which_service_it_is() {
        let mut file = tempfile::tempfile().unwrap();
        let lines = layer::layer().with_writer(Arc::new(file.try_clone().unwrap()));
        let subscriber = tracing_subscriber::registry().with(EnvFilter::new(DEFAULT_FILTER));
        tracing::subscriber::with_default(subscriber.with(lines.with_ansi(false)), || {
            first_line("bakery");
        });
        let mut said = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut said).unwrap();
        assert!(said.contains("log started service=\"bakery\""), "{said}");
    }

    #[test]
    fn an_error_is_shown_with_its_causes_and_none_twice() {
        assert_eq!(
            Causes(&Outer("", io::Error::other("disk gone"))).to_string(),
            "open the store: disk gone"
        );
        assert_eq!(
            Causes(&Outer(": disk gone", io::Error::other("disk gone"))).to_string(),
            "open the store: disk gone"
        );
    }
}
