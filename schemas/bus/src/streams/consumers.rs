//! The durable consumers of the work queues, by whom they serve. Every consumer of a work queue has a filter that overlaps with
//! no other's.
//!
//! | consumer | stream | made by |
//! | --- | --- | --- |
//! | `workers-<pool>-<trust>` | `BUILD_JOBS` | `bakery init` |
//! | `bakery-<class>` | `BAKE_REQUESTS` | each bakery of the class |
//! | `bakery-triggers` | `BAKE_TRIGGERS` | each bakery |

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use schemas::names::{BakeSubject, BakeTriggerSubject};
use schemas::{HostClass, JobSubject, Token, Trust};

/// 30 s: three missed 10 s heartbeats, and whoever held the message is taken for dead.
pub const ACK_WAIT: Duration = Duration::from_secs(30);

/// Through which workers of one pool take jobs of one trust.
pub fn job_consumer(pool: &Token, trust: Trust) -> pull::Config {
    work(
        format!("workers-{pool}-{trust}"),
        JobSubject::filter(pool, trust),
    )
}

/// Through which bakeries of one host class take requests.
pub fn bake_consumer(class: &HostClass) -> pull::Config {
    work(format!("bakery-{class}"), BakeSubject::filter(class))
}

/// Through which all bakeries take triggers.
pub fn trigger_consumer() -> pull::Config {
    let filter = BakeTriggerSubject::FILTER.to_owned();
    work("bakery-triggers".to_owned(), filter)
}

fn work(name: String, filter_subject: String) -> pull::Config {
    pull::Config {
        durable_name: Some(name),
        filter_subject,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Without limit: a message is given up by whoever understands it, never by the server.
        max_deliver: -1,
        ..pull::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_and_a_trust_have_a_consumer_of_their_own() {
        let pool = "default".parse().unwrap();
        let config = job_consumer(&pool, Trust::Untrusted);
        assert_eq!(
            config.durable_name.as_deref(),
            Some("workers-default-untrusted")
        );
        assert_eq!(config.filter_subject, "build.job.default.untrusted.*.*");
        let class = "qemu-7_2-tcg-0123abcd".parse().unwrap();
        let config = bake_consumer(&class);
        assert_eq!(
            config.durable_name.as_deref(),
            Some("bakery-qemu-7_2-tcg-0123abcd")
        );
        assert_eq!(
            config.filter_subject,
            "bake.request.qemu-7_2-tcg-0123abcd.>"
        );
    }
}
