//! Streams and buckets as the server takes them, and making them.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::CreateStreamError;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Republish, RetentionPolicy};
use tracing::info;

use super::{BUCKETS, BucketDefinition, Expiry, Keeps, STREAMS, StreamDefinition};

/// 1 min: how long the mark of an expired value is kept for those who watch.
const MARKER_TTL: Duration = Duration::from_mins(1);

/// Why a stream or bucket was not made.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A stream.
    #[error("create the stream {name}")]
    Stream {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: CreateStreamError,
    },
    /// A bucket.
    #[error("create the bucket {name}")]
    Bucket {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: CreateStreamError,
    },
}

/// Makes every stream and bucket, or brings it to these settings. `replicas` is 1 for one server, 3 for a cluster.
pub async fn provision(jetstream: &Context, replicas: usize) -> Result<(), ProvisionError> {
    for definition in STREAMS {
        let made = jetstream
            .create_or_update_stream(definition.config(replicas))
            .await;
        made.map_err(|source| ProvisionError::Stream {
            name: definition.name,
            source,
        })?;
    }
    for definition in BUCKETS {
        let made = jetstream
            .create_or_update_stream(definition.config(replicas))
            .await;
        made.map_err(|source| ProvisionError::Bucket {
            name: definition.name,
            source,
        })?;
    }
    info!(
        streams = STREAMS.len(),
        buckets = BUCKETS.len(),
        replicas,
        "provisioned NATS"
    );
    Ok(())
}

impl StreamDefinition {
    /// The settings as the server takes them.
    pub fn config(&self, replicas: usize) -> Config {
        let base = Config {
            name: self.name.to_owned(),
            subjects: vec![self.subjects.to_owned()],
            num_replicas: replicas,
            // A look at a message, by its sequence or as the last of its subject, asks no consumer.
            allow_direct: true,
            ..Config::default()
        };
        match self.keeps {
            Keeps::UntilTaken => Config {
                retention: RetentionPolicy::WorkQueue,
                ..base
            },
            Keeps::For(max_age) => Config { max_age, ..base },
            Keeps::ForAtMost(max_age, max_bytes) => Config {
                max_age,
                max_bytes,
                ..base
            },
            Keeps::FirstFor(max_age, source, destination) => {
                first_only(base, max_age, source, destination)
            }
            Keeps::LastForever => Config {
                max_messages_per_subject: 1,
                ..base
            },
        }
    }
}

impl BucketDefinition {
    /// The settings as the server takes them: a bucket is the stream `KV_<name>` over `$KV.<name>.>`. Other than the client library would make
    /// it, it takes no `Nats-Rollup`: whoever may put one key of a bucket could sweep all others away with that header. A key is deleted, never
    /// purged.
    pub fn config(&self, replicas: usize) -> Config {
        let base = Config {
            name: format!("KV_{}", self.name),
            subjects: vec![format!("$KV.{}.>", self.name)],
            max_messages_per_subject: self.history,
            discard: DiscardPolicy::New,
            num_replicas: replicas,
            allow_direct: true,
            allow_rollup: false,
            deny_delete: true,
            ..Config::default()
        };
        match self.expiry {
            Expiry::Never => base,
            Expiry::After(max_age) => Config { max_age, ..base },
            // The server takes a value's own time to live only from a bucket that marks what expired.
            Expiry::PerMessage => Config {
                allow_message_ttl: true,
                subject_delete_marker_ttl: Some(MARKER_TTL),
                ..base
            },
        }
    }
}

fn first_only(base: Config, max_age: Duration, source: &str, destination: &str) -> Config {
    Config {
        max_age,
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        republish: Some(Republish {
            source: source.to_owned(),
            destination: destination.to_owned(),
            headers_only: false,
        }),
        ..base
    }
}

#[cfg(test)]
mod tests {
    use schemas::names::stream;

    use super::*;

    #[test]
    fn a_result_is_stored_once_and_heard_elsewhere() {
        let config = STREAMS
            .iter()
            .find(|stream| stream.name == stream::RESULTS)
            .unwrap()
            .config(3);
        assert_eq!(
            (
                config.max_messages_per_subject,
                config.discard,
                config.discard_new_per_subject
            ),
            (1, DiscardPolicy::New, true)
        );
        assert_eq!(config.republish.unwrap().destination, "build.result.>");
        assert_eq!(config.num_replicas, 3);
    }

    #[test]
    fn a_put_never_sweeps_away_other_keys() {
        for bucket in BUCKETS {
            let config = bucket.config(1);
            assert!(!config.allow_rollup, "{}", bucket.name);
        }
    }
}
