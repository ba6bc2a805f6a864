//! One request while it is being served. It is logged exactly once: when it is dropped, however that comes about.

use crate::endpoint::Endpoint;
use crate::log::{Entry, Log};
use crate::reason::Reason;
use crate::tunnel::Carried;

/// A request that is in the log as soon as it is gone.
pub(crate) struct Request<'a> {
    log: &'a Log,
    endpoint: Option<Endpoint>,
    /// How it ended. [`Reason::Cut`] until something else is known, which is right for a future that is dropped.
    pub(crate) reason: Reason,
    pub(crate) carried: Carried,
}

impl<'a> Request<'a> {
    /// A request for `endpoint`.
    pub(crate) fn to(log: &'a Log, endpoint: &Endpoint) -> Self {
        let mut request = Self::unnamed(log);
        request.endpoint = Some(endpoint.clone());
        request
    }

    /// A request that named no endpoint.
    pub(crate) fn unnamed(log: &'a Log) -> Self {
        Self {
            log,
            endpoint: None,
            reason: Reason::Cut,
            carried: Carried::default(),
        }
    }

    /// The answer that refuses it: a status, and the reason in one line.
    pub(crate) fn refusal(&self, reason: &Reason) -> String {
        let line = match &self.endpoint {
            Some(endpoint) => format!("egress: {endpoint}: {reason}\n"),
            None => format!("egress: {reason}\n"),
        };
        let (status, length) = (reason.status(), line.len());
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{line}"
        )
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let (host, port) = match &self.endpoint {
            Some(endpoint) => (endpoint.host.to_string(), endpoint.port),
            None => (String::new(), 0),
        };
        self.log.record(&Entry {
            host,
            port,
            allowed: self.reason.allowed(),
            reason: self.reason.clone(),
            bytes_up: self.carried.up(),
            bytes_down: self.carried.down(),
        });
    }
}
