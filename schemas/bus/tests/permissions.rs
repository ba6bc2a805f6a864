//! `deploy/nats/server.conf` is what the roles generate. `UPDATE_DEPLOY=1` writes it anew.

use std::path::Path;

use bus::permissions::{Role, User, server_conf};
use schemas::Trust;

#[test]
fn the_checked_in_server_configuration_is_what_the_roles_generate() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats/server.conf");
    let generated = server_conf(&users());
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        std::fs::write(&file, &generated).expect("the folder is there");
    }
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what the roles generate: run UPDATE_DEPLOY=1 cargo test -p bus --test permissions",
        file.display()
    );
}

/// One of each, for a tenant that stands for every tenant.
fn users() -> Vec<User> {
    let tenant = || "acme".parse().expect("a word");
    let publisher = |trust| Role::Publisher {
        tenant: tenant(),
        trust,
        pool: "default".parse().expect("a word"),
    };
    let users = [
        ("OPERATOR", Role::Operator),
        ("WORKER", Role::Worker),
        ("BAKERY", Role::Bakery),
        ("ACME_TRUSTED_PUBLISHER", publisher(Trust::Trusted)),
        ("ACME_UNTRUSTED_PUBLISHER", publisher(Trust::Untrusted)),
        ("ACME_SUBSCRIBER", Role::Subscriber { tenant: tenant() }),
    ];
    let named = |(name, role)| User {
        nkey: format!("$SITE_{name}_NKEY"),
        role,
    };
    users.map(named).into()
}
