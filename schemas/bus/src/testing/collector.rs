//! An OTLP collector in the test's own process, on a port of its own: it keeps every span that it is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A running collector.
pub struct Collector {
    /// How to reach it: `http://127.0.0.1:<port>`.
    pub endpoint: String,
    spans: Spans,
}

/// A span as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is called.
    pub name: String,
    /// The trace, in hexadecimal.
    pub trace_id: String,
    /// Itself, in hexadecimal.
    pub span_id: String,
    /// The span that it is part of, in hexadecimal; empty for the first of a trace.
    pub parent_id: String,
    /// What is known of it, by name.
    pub attributes: BTreeMap<String, String>,
    /// Which program sent it.
    pub service: String,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Starts one; it lives as long as the runtime that this is called in.
    ///
    /// # Panics
    /// Where it cannot: a test that cannot run fails.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let set = listener.set_nonblocking(true);
        set.expect("a socket of one's own can be set");
        Self::on(TcpListener::from_std(listener).expect("called inside the runtime"))
    }

    /// Answers from now on whoever connects to `listener`, and who did so before.
    ///
    /// # Panics
    /// Where it cannot: a test that cannot run fails.
    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let spans = Spans::default();
        let server = Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self {
            endpoint: format!("http://{address}"),
            spans,
        }
    }

    /// Every span that it was sent so far, in the order of their ends.
    pub fn spans(&self) -> Vec<Span> {
        let spans = self.spans.0.lock();
        spans.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = attributes(resource.attributes).remove("service.name");
            let service = service.unwrap_or_default();
            let sent = of_resource
                .scope_spans
                .into_iter()
                .flat_map(|of_scope| of_scope.spans);
            spans.extend(sent.map(|span| read(span, &service)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(span: otlp::Span, service: &str) -> Span {
    Span {
        name: span.name,
        trace_id: hex::encode(span.trace_id),
        span_id: hex::encode(span.span_id),
        parent_id: hex::encode(span.parent_span_id),
        attributes: attributes(span.attributes),
        service: service.to_owned(),
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let named = |pair: KeyValue| (pair.key, in_words(pair.value));
    pairs.into_iter().map(named).collect()
}

fn in_words(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
