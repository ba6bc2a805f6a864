//! The files of `deploy/nats` are what the roles generate. `UPDATE_DEPLOY=1` writes them anew.

use std::path::Path;

use bus::permissions::{Role, User, server_conf, tenant_account};
use schemas::Trust;

#[test]
fn the_checked_in_server_configuration_is_what_the_roles_generate() {
    let users = [
        ("OPERATOR", Role::Operator),
        ("WORKER", Role::Worker),
        ("BAKERY", Role::Bakery),
    ];
    let users = users.map(|(name, role)| User {
        nkey: format!("$SITE_{name}_NKEY"),
        role,
    });
    assert_generated("server.conf", &server_conf(&users));
}

/// A tenant that stands for every tenant.
#[test]
fn the_checked_in_tenant_is_what_its_roles_generate() {
    let tenant = || "acme".parse().expect("a word");
    let publisher = |trust| Role::Publisher {
        tenant: tenant(),
        trust,
        pool: "default".parse().expect("a word"),
    };
    let roles = [
        (publisher(Trust::Trusted), "acme's CI for its own branches"),
        (publisher(Trust::Untrusted), "acme's CI for contributions"),
        (Role::Subscriber { tenant: tenant() }, "acme's dashboards"),
    ];
    let accounts = roles.map(|(role, whose)| {
        let nkey = format!("\"public key of {whose}\"");
        tenant_account(&role, &[nkey]).expect("a tenant's role has an account")
    });
    let header = "# The accounts of the tenants, as `bakery permissions` prints them. Copy to tenants.conf beside server.conf: see README.md.\n";
    assert_generated(
        "tenants.conf.example",
        &format!("{header}\n{}", accounts.join("\n")),
    );
}

#[test]
fn who_runs_the_builds_has_no_account_of_its_own() {
    for role in [Role::Operator, Role::Worker, Role::Bakery] {
        assert_eq!(tenant_account(&role, &[]), None);
    }
}

fn assert_generated(name: &str, generated: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats");
    let file = directory.join(name);
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        std::fs::write(&file, generated).expect("the folder is there");
    }
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what the roles generate: run UPDATE_DEPLOY=1 cargo test -p bus --test permissions",
        file.display()
    );
}
