//! What a job waits for: which values and events end the wait, and which requests are one.

use async_nats::jetstream::kv::Operation;
use schemas::bake::{BakeEvent, BakeRequest};
use schemas::names::{self, BakeSubject};
use schemas::source::ArchiveSource;
use schemas::{Sha256Digest, Token, canonical};
use uuid::Uuid;

use crate::resolve::{Missing, Wanted};

impl Missing {
    /// In messages.
    pub fn in_words(&self) -> String {
        let name = &self.environment.name;
        match &self.wanted {
            Wanted::Key(key) => format!("environment {name} (key sha256:{key})"),
            Wanted::Template { name: template, .. } => {
                format!("template {template} of environment {name}")
            }
        }
    }

    /// The keys in the bucket whose values end the wait.
    pub(super) fn watched(&self) -> Vec<String> {
        match &self.wanted {
            Wanted::Key(key) => vec![names::snapshot_pointer(key), names::bake_failure(key)],
            Wanted::Template { name, gone } => [names::template_pointer(&self.class, name)]
                .into_iter()
                .chain(gone.as_ref().map(names::snapshot_pointer))
                .collect(),
        }
    }

    /// Whether a watched value, other than a failure, ends the wait. That the template's pointer still leads to what is gone
    /// does not.
    pub(super) fn is_ended_by(&self, operation: Operation, value: &[u8]) -> bool {
        let still = match &self.wanted {
            Wanted::Key(_) | Wanted::Template { gone: None, .. } => false,
            Wanted::Template {
                gone: Some(gone), ..
            } => value == gone.to_string().as_bytes(),
        };
        match operation {
            Operation::Put => !still,
            Operation::Delete | Operation::Purge => false,
        }
    }

    /// Whether an event is of the bake that is waited for: by the request, or, where another job's request was first, by the key.
    /// Requesters choose ids, so one that trusts another author, or bakes for other hosts, says nothing about this one.
    pub(super) fn is_about(&self, event: &BakeEvent, request_id: &Token) -> bool {
        let of_the_request = event.request_id == *request_id;
        let of_the_key = event.key.is_some() && event.key == self.wanted.key();
        event.class == self.class && event.trust == self.trust && (of_the_request || of_the_key)
    }

    /// An id for the request. Where a key leads to the end of its bake, a new one; else that of every job that asks for the same,
    /// since only the events tell how that ended, and only one of the requests is taken.
    pub(super) fn request_id(&self, source: &ArchiveSource) -> Token {
        let id = match &self.wanted {
            Wanted::Key(key) => {
                let key = key.to_string();
                format!("bake-{}-{}", &key[..16], Uuid::now_v7().simple())
            }
            Wanted::Template { .. } => {
                let asked = (&self.class, self.trust, &self.environment, source);
                let asked = canonical::digest(&asked)
                    .expect("definitions and addresses are JSON")
                    .to_string();
                format!("bake-{}", &asked[..32])
            }
        };
        Token::parse(id).expect("a word, a key's digits and a UUID make a token")
    }
}

impl Wanted {
    /// The key, where it is known.
    pub(super) fn key(&self) -> Option<Sha256Digest> {
        match self {
            Self::Key(key) => Some(*key),
            Self::Template { .. } => None,
        }
    }

    /// What the stream takes one request of. The key is of one class, tenant and trust; without one, the subject and what is
    /// asked for stand for it. A key whose snapshot was `withdrawn`, as its pointer's mark says, is asked for anew: the request that it was
    /// baked for may be young.
    pub(super) fn message_id(
        &self,
        subject: &BakeSubject,
        request: &BakeRequest,
        withdrawn: u64,
    ) -> String {
        match self {
            Self::Key(key) if withdrawn == 0 => format!("bake-{key}"),
            Self::Key(key) => format!("bake-{key}-{withdrawn}"),
            Self::Template { name, .. } => {
                let asked = canonical::digest(&(subject.to_string(), request));
                let asked = asked.expect("a request is JSON");
                format!("bake-template-{}-{name}-{asked}", subject.class)
            }
        }
    }
}
