//! What the server must allow for each thing that the client library is asked for.
//!
//! | what a program does | what it publishes to |
//! | --- | --- |
//! | looks at the last message of a subject | `$JS.API.DIRECT.GET.<stream>.<subject>` |
//! | opens a bucket | `$JS.API.STREAM.INFO.KV_<bucket>` |
//! | watches or lists a bucket | `$JS.API.CONSUMER.CREATE.KV_<bucket>`, with a name and a filter or without |
//! | puts, takes back or renews a key | `$KV.<bucket>.<key>` |
//! | follows a subject of a stream | `$JS.API.CONSUMER.CREATE.<stream>.<name>.<subject>`, whose filter the server compares |
//! | takes work | `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>`, `$JS.ACK.<stream>.<consumer>.…` |
//!
//! A direct get by sequence or of the next message, `$JS.API.DIRECT.GET.<stream>`, names its subject in the body alone, which permissions do
//! not see: it is a look at the whole stream.

use std::collections::BTreeSet;

use super::Permissions;
use crate::streams::STREAMS;

/// What a role may do, as it is put together.
#[derive(Debug, Default)]
pub(super) struct Grants {
    publish: BTreeSet<String>,
    subscribe: BTreeSet<String>,
}

impl Grants {
    /// Hears its own answers; `inbox` is a prefix.
    pub(super) fn answered_at(inbox: &str) -> Self {
        let mut grants = Self::default();
        grants.hears(format!("{inbox}.>"));
        grants
    }

    /// A core subscription.
    pub(super) fn hears(&mut self, subject: impl Into<String>) {
        self.subscribe.insert(subject.into());
    }

    /// A publish.
    pub(super) fn publishes(&mut self, subject: impl Into<String>) {
        self.publish.insert(subject.into());
    }

    /// A request to `JetStream` itself.
    pub(super) fn asks(&mut self, what: impl AsRef<str>) {
        self.publishes(format!("$JS.API.{}", what.as_ref()));
    }

    /// The last message of each of these subjects.
    pub(super) fn looks_at(&mut self, stream: &str, subject: &str) {
        self.asks(format!("DIRECT.GET.{stream}.{subject}"));
    }

    /// A consumer of its own over these subjects and no other. Not for whom we do not trust: its `deliver_subject` may be any subject of the
    /// account, and the server delivers there whether the user may publish there or not.
    pub(super) fn follows(&mut self, stream: &str, subject: &str) {
        self.asks(format!("CONSUMER.CREATE.{stream}.*.{subject}"));
        self.asks(format!("CONSUMER.MSG.NEXT.{stream}.*"));
    }

    /// Messages of a work queue, through consumers that are there.
    pub(super) fn takes(&mut self, stream: &str) {
        self.asks(format!("STREAM.INFO.{stream}"));
        self.asks(format!("CONSUMER.INFO.{stream}.*"));
        self.asks(format!("CONSUMER.MSG.NEXT.{stream}.*"));
        self.publishes(format!("$JS.ACK.{stream}.>"));
    }

    /// Consumers of a work queue.
    pub(super) fn makes_consumers(&mut self, stream: &str) {
        self.asks(format!("CONSUMER.CREATE.{stream}.>"));
    }

    /// Every key of a bucket: one by one, as a list, and as they change.
    pub(super) fn reads(&mut self, bucket: &str) {
        let stream = format!("KV_{bucket}");
        self.looks_at(&stream, &format!("$KV.{bucket}.>"));
        for request in ["STREAM.INFO", "CONSUMER.CREATE"] {
            self.asks(format!("{request}.{stream}"));
        }
        self.asks(format!("CONSUMER.CREATE.{stream}.>"));
        for request in ["CONSUMER.INFO", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT"] {
            self.asks(format!("{request}.{stream}.*"));
        }
        // A watch tells the server how far it is.
        self.publishes(format!("$JS.FC.{stream}.>"));
    }

    /// Puts and deletes of keys.
    pub(super) fn writes(&mut self, bucket: &str, keys: &str) {
        self.publishes(format!("$KV.{bucket}.{keys}"));
    }

    /// As the server takes it.
    pub(super) fn finish(self) -> Permissions {
        Permissions {
            publish: self.publish.into_iter().collect(),
            subscribe: self.subscribe.into_iter().collect(),
        }
    }
}

/// The subjects of a stream, with `words` in the place of the first wildcards: `build.report.acme.*` of `["acme"]`.
pub(super) fn subjects(stream: &str, words: &[&str]) -> String {
    let definition = STREAMS.iter().find(|known| known.name == stream);
    let definition = definition.expect("the name is a constant of schemas::names::stream");
    let mut words = words.iter();
    let filled = definition.subjects.split('.').map(|word| match word {
        "*" => words.next().unwrap_or(&"*"),
        word => word,
    });
    filled.collect::<Vec<_>>().join(".")
}
