//! The configuration of nats-server: three files, of which `server.conf` includes the other two.
//!
//! | file | holds | is |
//! | --- | --- | --- |
//! | `server.conf` | the accounts `SYS` and `BUILD`, and what `BUILD` exports | the same everywhere |
//! | `tenants.conf` | an account for each role of each tenant | added to by `bakery permissions` |
//! | `site.conf` | addresses, disk, the public keys of `SYS` and `BUILD`, as variables | the site's |
//!
//! A file that is included does not see the variables of another: a tenant's keys stand in `tenants.conf` as they are.

use super::{Permissions, Role, roles};

/// The variable with the public key of who may look into the server itself.
const SYSTEM_USER: &str = "$SITE_SYSTEM_NKEY";

/// A user of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its public key, or a variable that holds one.
    pub nkey: String,
    /// What it is.
    pub role: Role,
}

/// `server.conf`, with these users of `BUILD`.
pub fn server_conf(users: &[User]) -> String {
    let exports = roles::of_any_tenant().finish();
    let users: String = users.iter().map(entry).collect();
    format!(
        "{HEADER}\n\
         system_account: SYS\n\
         accounts {{\n  \
           SYS {{\n    users: [ {{ nkey: {SYSTEM_USER} }} ]\n  }}\n  \
           BUILD {{\n    \
             jetstream: {{ max_memory: 256MB, max_file: $SITE_MAX_STORE, max_streams: 32, max_consumers: 100000 }}\n    \
             # Of these each account in tenants.conf imports its own part.\n    \
             exports: [\n{}{}    ]\n    \
             users: [\n{users}    ]\n  }}\n  \
           include \"tenants.conf\"\n}}\n",
        list("service", &exports.publish),
        list("stream", &exports.subscribe),
    )
}

/// A role of a tenant as an account of its own, for `tenants.conf`. Each of the public keys may connect as it; several, while one takes the
/// place of another. None for a role that has no account of its own.
pub fn tenant_account(role: &Role, nkeys: &[String]) -> Option<String> {
    let account = role.own_account()?;
    let Permissions { publish, subscribe } = role.permissions();
    let inbox = format!("{}.>", role.inbox_prefix());
    let heard = subscribe.into_iter().filter(|subject| *subject != inbox);
    let import = |kind: &str, subject: &String| {
        format!("    {{ {kind}: {{ account: BUILD, subject: \"{subject}\" }} }}\n")
    };
    let asked: String = publish.iter().map(|it| import("service", it)).collect();
    let heard: String = heard.map(|it| import("stream", &it)).collect();
    let users = nkeys.iter().map(|nkey| User {
        nkey: nkey.clone(),
        role: role.clone(),
    });
    let users: String = users.map(|user| entry(&user)).collect();
    // Two levels further out than in `BUILD`.
    let users = users.replace("\n  ", "\n").replacen("  ", "", 1);
    Some(format!(
        "\"{account}\" {{\n  imports: [\n{asked}{heard}  ]\n  users: [\n{users}  ]\n}}\n"
    ))
}

const HEADER: &str = "\
# nats-server for Sourdough: who may do what. Rendered from schemas/bus/src/permissions, which a test compares: run
#   UPDATE_DEPLOY=1 cargo test -p bus --test permissions
# What differs from site to site stands in site.conf and tenants.conf beside this file: see README.md.
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
        lines(&publish),
        lines(&subscribe)
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

fn lines(subjects: &[String]) -> String {
    let line = |subject: &String| format!("            \"{subject}\"\n");
    subjects.iter().map(line).collect()
}

fn list(kind: &str, subjects: &[String]) -> String {
    let line = |subject: &String| format!("      {{ {kind}: \"{subject}\" }}\n");
    subjects.iter().map(line).collect()
}
