//! Who may do what on the NATS server. `deploy/nats/server.conf` is rendered from this, which a test compares; another tries on a real server
//! what each role must be able to do and what it must be refused.
//!
//! | role | its part |
//! | --- | --- |
//! | publisher | jobs and bake triggers of one tenant, trust and pool; cancels of the tenant; all that a subscriber may |
//! | subscriber | results, events, logs and job records of one tenant |
//! | worker | takes jobs, holds their leases, asks for bakes, reports |
//! | bakery | takes bake requests and triggers, keeps the queue of jobs in order, publishes snapshots |
//! | operator | streams and buckets, definitions, limits, dead letters, and looking at everything |
//!
//! Nobody publishes to `build.result.>`: only the server does, once it has stored a report.
//!
//! # Accounts
//!
//! Permissions bind where a user publishes, not where the server answers to, which the request says: within one account a permitted request could
//! have any stored body delivered to any subject, the queue of jobs and the leases included. So each role of a tenant is an account of its own,
//! which imports from `BUILD` what it may ask (services) and hear (streams), and nothing else. Its answers end in it, where nobody listens but it.
//! Not one account for a tenant: whether an answer to its untrusted publisher reaches what its trusted one imports would then be the server's affair.
//!
//! Worker, bakery and operator are users of `BUILD`: they are trusted with all of it.
//!
//! Not to be had from this: a worker may report for any tenant; whoever may publish a job chooses its headers; and whoever is in `BUILD` can
//! have the server deliver a stored message or an answer to any subject of it.

mod grants;
mod roles;
mod server;

use schemas::{Token, Trust};

pub use server::{User, server_conf, tenant_account};

/// Somebody who connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Asks for builds.
    Publisher {
        /// For whom.
        tenant: Token,
        /// How far it is trusted; a publisher for each.
        trust: Trust,
        /// On which workers.
        pool: Token,
    },
    /// Reads what came of a tenant's builds.
    Subscriber {
        /// Whose.
        tenant: Token,
    },
    /// Builds.
    Worker,
    /// Bakes, and keeps the queue.
    Bakery,
    /// A person who administers.
    Operator,
}

/// Subjects, with wildcards. What is not in them is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Where it may publish, requests included.
    pub publish: Vec<String>,
    /// What it may hear.
    pub subscribe: Vec<String>,
}

impl Role {
    /// What its inboxes start with: the `inbox_prefix` of its configuration. Nobody else can hear the answers to it.
    pub fn inbox_prefix(&self) -> String {
        match self {
            Self::Publisher {
                tenant,
                trust,
                pool,
            } => format!("_INBOX.publisher.{tenant}.{trust}.{pool}"),
            Self::Subscriber { tenant } => format!("_INBOX.subscriber.{tenant}"),
            Self::Worker => "_INBOX.worker".to_owned(),
            Self::Bakery => "_INBOX.bakery".to_owned(),
            Self::Operator => "_INBOX.operator".to_owned(),
        }
    }

    /// Its account, if it has one of its own. The name has a sign that no token can have, so it is no other role's.
    pub fn own_account(&self) -> Option<String> {
        match self {
            Self::Publisher {
                tenant,
                trust,
                pool,
            } => Some(format!("publisher={tenant}={trust}={pool}")),
            Self::Subscriber { tenant } => Some(format!("subscriber={tenant}")),
            Self::Worker | Self::Bakery | Self::Operator => None,
        }
    }

    /// What it may do.
    pub fn permissions(&self) -> Permissions {
        roles::of(self).finish()
    }
}
