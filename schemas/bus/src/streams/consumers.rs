//! The durable consumers of the work queues, by whom they serve. Every consumer of a work queue has a filter that overlaps with
//! no other's.
//!
//! | consumer | stream | made by |
//! | --- | --- | --- |
//! | `<pool>=<trust>=<priority>=<tenant>` | `BUILD_JOBS` | the janitor, one for each subject that has messages |
//! | `bakery-<class>` | `BAKE_REQUESTS` | each bakery of the class |
//! | `bakery-triggers` | `BAKE_TRIGGERS` | each bakery |

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use schemas::names::{BakeSubject, BakeTriggerSubject};
use schemas::{HostClass, JobSubject};

/// 30 s: three missed 10 s heartbeats, and whoever held the message is taken for dead.
pub const ACK_WAIT: Duration = Duration::from_secs(30);

/// Through which workers take the jobs of one subject.
pub fn job_consumer(subject: &JobSubject) -> pull::Config {
    work(subject.consumer(), subject.to_string())
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
    fn a_subject_of_jobs_and_a_class_have_consumers_of_their_own() {
        let subject = "build.job.default.untrusted.5.acme".parse().unwrap();
        let config = job_consumer(&subject);
        assert_eq!(
            config.durable_name.as_deref(),
            Some("default=untrusted=5=acme")
        );
        assert_eq!(config.filter_subject, "build.job.default.untrusted.5.acme");
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
