//! Every subject, stream, bucket, key and object's name, in one place. What a stream keeps and for how long is in `bus::streams`.

mod keys;
mod objects;

use std::fmt;
use std::str::FromStr;

use crate::text::{TextError, quoted};
use crate::token::{HostClass, Priority, Token, Trust};

pub use keys::*;
pub use objects::*;

/// Streams.
pub mod stream {
    /// Jobs; a work queue.
    pub const JOBS: &str = "BUILD_JOBS";
    /// Results, the first of a subject.
    pub const RESULTS: &str = "BUILD_RESULTS";
    /// Events of jobs.
    pub const EVENTS: &str = "BUILD_EVENTS";
    /// Live logs.
    pub const LOGS: &str = "BUILD_LOGS";
    /// What could not be delivered.
    pub const DEAD: &str = "BUILD_DEAD";
    /// Requests to bake; a work queue.
    pub const BAKE_REQUESTS: &str = "BAKE_REQUESTS";
    /// Changed sources; a work queue.
    pub const BAKE_TRIGGERS: &str = "BAKE_TRIGGERS";
    /// Events of bakes.
    pub const BAKE_EVENTS: &str = "BAKE_EVENTS";
}

/// Key-value buckets.
pub mod bucket {
    /// Definitions of templates and environments.
    pub const ENVIRONMENTS: &str = "build-environments";
    /// Which snapshot a key has.
    pub const SNAPSHOTS: &str = "build-snapshots";
    /// Who holds a job.
    pub const LEASES: &str = "build-leases";
    /// What a job did so far.
    pub const JOBS: &str = "build-jobs";
    /// Requests to end a job.
    pub const CANCELS: &str = "build-cancels";
    /// Workers that are alive.
    pub const WORKERS: &str = "build-workers";
    /// Limits of tenants.
    pub const TENANTS: &str = "build-tenants";
}

/// Where a job is published: `build.job.<pool>.<trust>.<priority>.<tenant>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobSubject {
    /// The set of workers, `default` where nobody says otherwise.
    pub pool: Token,
    /// How far the author is trusted.
    pub trust: Trust,
    /// Which of the tenant's jobs goes first.
    pub priority: Priority,
    /// Whose job it is.
    pub tenant: Token,
}

impl JobSubject {
    /// Every subject of one pool.
    pub fn filter(pool: &Token) -> String {
        format!("build.job.{pool}.>")
    }

    /// Every subject.
    pub const FILTER: &str = "build.job.>";

    /// The durable consumer through which workers take its jobs: its four words, joined by a sign that none of them can have.
    pub fn consumer(&self) -> String {
        let Self {
            pool,
            trust,
            priority,
            tenant,
        } = self;
        format!("{pool}={trust}={priority}={tenant}")
    }

    /// The subject whose consumer has that name; none for a consumer of anything else.
    pub fn of_consumer(name: &str) -> Option<Self> {
        let words: Vec<_> = name.split('=').collect();
        let [pool, trust, priority, tenant] = words[..] else {
            return None;
        };
        let subject = format!("build.job.{pool}.{trust}.{priority}.{tenant}");
        subject.parse().ok()
    }
}

impl fmt::Display for JobSubject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "build.job.{}.{}.{}.{}",
            self.pool, self.trust, self.priority, self.tenant
        )
    }
}

impl FromStr for JobSubject {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let parts: Vec<_> = text.split('.').collect();
        let ["build", "job", pool, trust, priority, tenant] = parts[..] else {
            return Err(TextError::new(format!(
                "must be build.job.<pool>.<trust>.<priority>.<tenant>, is {}",
                quoted(text)
            )));
        };
        Ok(Self {
            pool: pool.parse()?,
            trust: trust.parse()?,
            priority: priority.parse()?,
            tenant: tenant.parse()?,
        })
    }
}

/// Where a bake is requested: `bake.request.<class>.<trust>.<tenant>.<environment>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BakeSubject {
    /// The host class that it is for.
    pub class: HostClass,
    /// How far the author of the source is trusted.
    pub trust: Trust,
    /// Whose environment it is.
    pub tenant: Token,
    /// The environment.
    pub environment: Token,
}

impl BakeSubject {
    /// Every request for one class.
    pub fn filter(class: &HostClass) -> String {
        format!("bake.request.{class}.>")
    }
}

impl fmt::Display for BakeSubject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "bake.request.{}.{}.{}.{}",
            self.class, self.trust, self.tenant, self.environment
        )
    }
}

impl FromStr for BakeSubject {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let parts: Vec<_> = text.split('.').collect();
        let ["bake", "request", class, trust, tenant, environment] = parts[..] else {
            return Err(TextError::new(format!(
                "must be bake.request.<class>.<trust>.<tenant>.<environment>, is {}",
                quoted(text)
            )));
        };
        Ok(Self {
            class: class.parse()?,
            trust: trust.parse()?,
            tenant: tenant.parse()?,
            environment: environment.parse()?,
        })
    }
}

/// Where it is told that a source changed: `bake.trigger.<trust>.<tenant>.<environment>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BakeTriggerSubject {
    /// How far the author of the source is trusted.
    pub trust: Trust,
    /// Whose environment it is.
    pub tenant: Token,
    /// The environment.
    pub environment: Token,
}

impl BakeTriggerSubject {
    /// Every trigger.
    pub const FILTER: &str = "bake.trigger.>";
}

impl fmt::Display for BakeTriggerSubject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "bake.trigger.{}.{}.{}",
            self.trust, self.tenant, self.environment
        )
    }
}

impl FromStr for BakeTriggerSubject {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let parts: Vec<_> = text.split('.').collect();
        let ["bake", "trigger", trust, tenant, environment] = parts[..] else {
            return Err(TextError::new(format!(
                "must be bake.trigger.<trust>.<tenant>.<environment>, is {}",
                quoted(text)
            )));
        };
        Ok(Self {
            trust: trust.parse()?,
            tenant: tenant.parse()?,
            environment: environment.parse()?,
        })
    }
}

/// Where a result is published and stored; the stream takes the first.
pub fn report_subject(tenant: &Token, job_id: &Token) -> String {
    format!("build.report.{tenant}.{job_id}")
}

/// Where a stored result is heard. Only the server publishes here.
pub fn result_subject(tenant: &Token, job_id: &Token) -> String {
    format!("build.result.{tenant}.{job_id}")
}

/// Events of a job.
pub fn event_subject(tenant: &Token, job_id: &Token) -> String {
    format!("build.event.{tenant}.{job_id}")
}

/// The live log of a job.
pub fn log_subject(tenant: &Token, job_id: &Token) -> String {
    format!("build.log.{tenant}.{job_id}")
}

/// A job that could not be delivered.
pub fn dead_subject(tenant: &Token, job_id: &Token) -> String {
    format!("build.dead.{tenant}.{job_id}")
}

/// Events of a bake.
pub fn bake_event_subject(tenant: &Token, environment: &Token) -> String {
    format!("bake.event.{tenant}.{environment}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_subject_reads_back_what_it_writes() {
        let subject: JobSubject = "build.job.default.untrusted.5.acme".parse().unwrap();
        assert_eq!(subject.trust, Trust::Untrusted);
        assert_eq!(subject.to_string(), "build.job.default.untrusted.5.acme");
    }

    #[test]
    fn the_consumer_of_a_subject_names_it_and_no_other() {
        let subject: JobSubject = "build.job.a-b.untrusted.5.c_d".parse().unwrap();
        assert_eq!(subject.consumer(), "a-b=untrusted=5=c_d");
        assert_eq!(JobSubject::of_consumer(&subject.consumer()), Some(subject));
        for other in ["workers-default-untrusted", "a=b=c=d", "a=trusted=5"] {
            assert_eq!(JobSubject::of_consumer(other), None, "{other}");
        }
    }

    #[test]
    fn a_subject_of_another_shape_is_refused() {
        for bad in [
            "build.job.default.untrusted.5",
            "build.job.default.untrusted.5.acme.x",
            "build.job.a.maybe.5.acme",
            "x.y.a.trusted.5.b",
        ] {
            assert!(bad.parse::<JobSubject>().is_err(), "{bad}");
        }
        assert!(
            "bake.request.c.trusted.acme"
                .parse::<BakeSubject>()
                .is_err()
        );
    }

    #[test]
    fn a_trigger_reads_back_what_it_writes() {
        let trigger = "bake.trigger.trusted.acme.widget";
        let subject: BakeTriggerSubject = trigger.parse().unwrap();
        assert_eq!(subject.to_string(), trigger);
    }
}
