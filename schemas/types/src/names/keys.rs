//! Every key of the buckets.

use std::fmt;
use std::str::FromStr;

#[cfg(doc)]
use super::bucket;
use crate::digest::{GitCommit, Sha256Digest};
use crate::text::{TextError, quoted};
use crate::token::{HostClass, Token, Trust};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_definition_reads_back_what_it_writes() {
        for key in ["template.node", "environment.acme.widget"] {
            assert_eq!(key.parse::<Definition>().unwrap().to_string(), key);
        }
        for bad in ["template", "template.a.b", "environment.a", "x.y"] {
            assert!(bad.parse::<Definition>().is_err(), "{bad}");
        }
    }
}
