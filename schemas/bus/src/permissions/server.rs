//! The configuration of nats-server. What differs from site to site, the users' public keys included, stands in `site.conf` beside it, as
//! variables.

use super::{Permissions, Role};

/// The variable with the public key of who may look into the server itself.
pub const SYSTEM_USER: &str = "$SITE_SYSTEM_NKEY";

/// A user of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its public key, or a variable that holds one.
    pub nkey: String,
    /// What it is.
    pub role: Role,
}

/// Everything but `site.conf`.
pub fn server_conf(users: &[User]) -> String {
    format!("{HEADER}\n{}", accounts(SYSTEM_USER, users))
}

/// The accounts: `BUILD` with these users, `SYS` with the one who may look into the server.
pub fn accounts(system_nkey: &str, users: &[User]) -> String {
    let users: String = users.iter().map(entry).collect();
    format!(
        "system_account: SYS\n\
         accounts {{\n  \
           SYS {{\n    users: [ {{ nkey: {system_nkey} }} ]\n  }}\n  \
           BUILD {{\n    \
             jetstream: {{ max_memory: 256MB, max_file: $SITE_MAX_STORE, max_streams: 32, max_consumers: 100000 }}\n    \
             users: [\n{users}    ]\n  }}\n}}\n"
    )
}

const HEADER: &str = "\
# nats-server for Sourdough: who may do what. Rendered from schemas/bus/src/permissions, which a test compares: run
#   UPDATE_DEPLOY=1 cargo test -p bus --test permissions
# What differs from site to site stands in site.conf beside this file: see README.md.
include \"site.conf\"

listen: $SITE_LISTEN

# An acknowledged message is on disk, also after a power cut (the default is a sync every 2 min).
jetstream {
  store_dir: $SITE_STORE_DIR
  max_file_store: $SITE_MAX_STORE
  sync_interval: always
}
";

fn entry(user: &User) -> String {
    let Permissions { publish, subscribe } = user.role.permissions();
    format!(
        "      # {}: inbox_prefix = \"{}\"\n      {{\n        nkey: {}\n        permissions: {{\n          \
         publish: [\n{}          ]\n          subscribe: [\n{}          ]\n        }}\n      }}\n",
        title(&user.role),
        user.role.inbox_prefix(),
        user.nkey,
        list(&publish),
        list(&subscribe)
    )
}

fn title(role: &Role) -> String {
    match role {
        Role::Publisher {
            tenant,
            trust,
            pool,
        } => format!("publisher of {trust} jobs of {tenant} in the pool {pool}"),
        Role::Subscriber { tenant } => format!("subscriber of {tenant}"),
        Role::Worker => "worker".to_owned(),
        Role::Bakery => "bakery".to_owned(),
        Role::Operator => "operator".to_owned(),
    }
}

fn list(subjects: &[String]) -> String {
    let line = |subject: &String| format!("            \"{subject}\"\n");
    subjects.iter().map(line).collect()
}
