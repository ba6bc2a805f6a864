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
//! Not to be had from permissions: a worker may report for any tenant; whoever may publish a job chooses its headers; and whoever may make a
//! consumer (worker, bakery, operator) can have the server deliver a stored message to any subject of the account.

mod grants;
mod roles;
mod server;

use schemas::{Token, Trust};

pub use server::{SYSTEM_USER, User, accounts, server_conf};

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

    /// What it may do.
    pub fn permissions(&self) -> Permissions {
        roles::of(self).finish()
    }
}
