//! Every subject, stream, bucket and key, in one place. What a stream keeps and for how long is in `bus::streams`.

use std::fmt;
use std::str::FromStr;

use crate::digest::{GitCommit, Sha256Digest};
use crate::text::{TextError, quoted};
use crate::token::{HostClass, Priority, Token, Trust};

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

/// What a key in [`bucket::ENVIRONMENTS`] is the definition of. Templates sort before environments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Definition {
    /// Of a template.
    Template(Token),
    /// Of a tenant's environment.
    Environment(Token, Token),
}

impl fmt::Display for Definition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&match self {
            Self::Template(name) => template_definition_key(name),
            Self::Environment(tenant, name) => environment_key(tenant, name),
        })
    }
}

impl FromStr for Definition {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text.split('.').collect::<Vec<_>>()[..] {
            ["template", name] => Ok(Self::Template(name.parse()?)),
            ["environment", tenant, name] => Ok(Self::Environment(tenant.parse()?, name.parse()?)),
            _ => Err(TextError::new(format!(
                "must be template.<name> or environment.<tenant>.<name>, is {}",
                quoted(text)
            ))),
        }
    }
}

/// Key of a template's definition in [`bucket::ENVIRONMENTS`].
pub fn template_definition_key(template: &Token) -> String {
    format!("template.{template}")
}

/// Key of an environment's definition in [`bucket::ENVIRONMENTS`].
pub fn environment_key(tenant: &Token, environment: &Token) -> String {
    format!("environment.{tenant}.{environment}")
}

/// Key in [`bucket::SNAPSHOTS`] of the digest of a snapshot's manifest.
pub fn snapshot_pointer(key: &Sha256Digest) -> String {
    format!("key.{key}")
}

/// Key in [`bucket::SNAPSHOTS`] of a template's current snapshot key.
pub fn template_pointer(class: &HostClass, template: &Token) -> String {
    format!("template.{class}.{template}")
}

/// Key in [`bucket::SNAPSHOTS`] of why the last bake of a key failed: a [`crate::bake::BakeFailure`].
pub fn bake_failure(key: &Sha256Digest) -> String {
    format!("failed.{key}")
}

/// Key in [`bucket::SNAPSHOTS`] of what an environment was last baked for: a [`crate::bake::RecentBakes`].
pub fn recent_bakes(
    class: &HostClass,
    trust: Trust,
    tenant: &Token,
    environment: &Token,
) -> String {
    format!("recent.{class}.{trust}.{tenant}.{environment}")
}

/// Key in [`bucket::SNAPSHOTS`] of the digest of the archive that was made of a commit. `options` is `plain` or `submodules`.
pub fn git_pointer(tenant: &Token, trust: Trust, commit: &GitCommit, options: &str) -> String {
    format!("git.{tenant}.{trust}.{commit}.{options}")
}

/// Name in the source bucket of the archive that was made of a commit.
pub fn git_object(tenant: &Token, trust: Trust, commit: &GitCommit, options: &str) -> String {
    format!("{tenant}/{trust}/git/{commit}/{options}.tar.zst")
}

/// Key in [`bucket::LEASES`] of the baker that makes a snapshot.
pub fn bake_lease(key: &Sha256Digest) -> String {
    format!("bake.{key}")
}

/// Key in [`bucket::LEASES`] of the baker that makes a template.
pub fn template_lease(class: &HostClass, template: &Token) -> String {
    format!("template.{class}.{template}")
}

/// Key in [`bucket::LEASES`] of the worker that has a job, or of the bakery that ends one which waits.
pub fn job_lease(tenant: &Token, job_id: &Token) -> String {
    format!("lease.{tenant}.{job_id}")
}

/// Key in [`bucket::LEASES`] of one of the jobs that a tenant may run at a time; `place` counts from 0.
pub fn cap_lease(tenant: &Token, place: u32) -> String {
    format!("cap.{tenant}.{place}")
}

/// Key in [`bucket::LEASES`] of the bakery that keeps the queue in order.
pub const JANITOR_LEASE: &str = "janitor";

/// Key in [`bucket::JOBS`] of what a job did so far: a [`crate::record::JobRecord`].
pub fn job_record(tenant: &Token, job_id: &Token) -> String {
    format!("job.{tenant}.{job_id}")
}

/// Key in [`bucket::CANCELS`] whose presence, with any value, cancels a job.
pub fn cancel_key(tenant: &Token, job_id: &Token) -> String {
    format!("{tenant}.{job_id}")
}

/// Key in [`bucket::LEASES`] of the bakery that collects what nobody needs.
pub const COLLECT_LEASE: &str = "collect";

/// Name of a source archive in the source bucket.
pub fn source_object(tenant: &Token, digest: &Sha256Digest) -> String {
    format!("{tenant}/{digest}.tar.zst")
}

/// What every name of a tenant's objects starts with.
pub fn tenant_prefix(tenant: &Token) -> String {
    format!("{tenant}/")
}

/// Name of an artifact in the artifact bucket.
pub fn artifact_object(tenant: &Token, digest: &Sha256Digest) -> String {
    let hex = digest.to_string();
    format!("{tenant}/sha256/{}/{hex}", &hex[..2])
}

/// Name of the whole log of one attempt in the log bucket.
pub fn log_object(tenant: &Token, job_id: &Token, attempt: u32) -> String {
    format!("{tenant}/{job_id}/{attempt}.log")
}

/// Name of the whole output of one delivery of a bake request in the log bucket. `request` is the request's sequence in its stream, which
/// nobody chooses, so that no request's log lies over another's; it stands where no job's log can.
pub fn bake_log_object(tenant: &Token, trust: Trust, request: u64, delivery: u64) -> String {
    format!("{tenant}/bake/{trust}/{request}/{delivery}.log")
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
    fn the_key_of_a_definition_reads_back_what_it_writes() {
        for key in ["template.node", "environment.acme.widget"] {
            assert_eq!(key.parse::<Definition>().unwrap().to_string(), key);
        }
        for bad in ["template", "template.a.b", "environment.a", "x.y"] {
            assert!(bad.parse::<Definition>().is_err(), "{bad}");
        }
        let trigger = "bake.trigger.trusted.acme.widget";
        let subject: BakeTriggerSubject = trigger.parse().unwrap();
        assert_eq!(subject.to_string(), trigger);
    }

    #[test]
    fn a_bakes_log_is_never_a_jobs() {
        let [tenant, bake] = ["acme", "bake"].map(|text| Token::parse(text).unwrap());
        assert_eq!(
            bake_log_object(&tenant, Trust::Trusted, 7, 1),
            "acme/bake/trusted/7/1.log"
        );
        // Not even that of a job of that name: it has two parts less.
        assert_eq!(log_object(&tenant, &bake, 1), "acme/bake/1.log");
    }

    #[test]
    fn an_artifact_lies_under_its_digest() {
        let tenant = Token::parse("acme").unwrap();
        let object = artifact_object(&tenant, &Sha256Digest::of(b""));
        assert!(object.starts_with("acme/sha256/e3/e3b0c442"), "{object}");
    }
}
