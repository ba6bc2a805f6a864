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

/// Whom each channel of the `AsyncAPI` document is for, as it says, is whom the server lets use it.
#[test]
fn the_document_says_of_each_channel_who_may() {
    let document = schemas::asyncapi::document();
    let tenant = || "acme".parse().expect("a word");
    let publisher = Role::Publisher {
        tenant: tenant(),
        trust: Trust::Trusted,
        pool: "acme".parse().expect("a word"),
    };
    let roles = [
        publisher,
        Role::Subscriber { tenant: tenant() },
        Role::Operator,
    ];
    for operation in document["operations"].as_object().expect("a map").values() {
        let name = operation["channel"]["$ref"].as_str().expect("a reference");
        let channel = document.pointer(&name[1..]).expect("it leads somewhere");
        let description = channel["description"].as_str().expect("a text");
        let said = match description.split_once(". For ").map(|(_, said)| said) {
            Some(said) if said.starts_with("publishers of") => [true, false, true],
            Some(said) if said.starts_with("publishers and subscribers") => [true, true, true],
            Some("the operator alone.") => [false, false, true],
            said => panic!("{name}: {said:?}"),
        };
        let sends = operation["action"] == "send";
        let subject = subject(channel["address"].as_str().expect("a text"));
        assert_eq!(
            roles.each_ref().map(|role| may(role, sends, &subject)),
            said,
            "{name}"
        );
    }
}

/// An address with `acme` for every parameter that is not a closed set.
fn subject(address: &str) -> String {
    let word = |word: &'_ str| match word {
        "{trust}" => "trusted".to_owned(),
        "{priority}" => "5".to_owned(),
        word if word.starts_with('{') => "acme".to_owned(),
        word => word.to_owned(),
    };
    address.split('.').map(word).collect::<Vec<_>>().join(".")
}

/// Whether a role may publish there, or hear or look at it.
fn may(role: &Role, sends: bool, subject: &str) -> bool {
    let permissions = role.permissions();
    if sends {
        return covered(&permissions.publish, subject);
    }
    let looks = permissions
        .publish
        .iter()
        .filter_map(|it| it.strip_prefix("$JS.API.DIRECT.GET."));
    let looks = looks.map(|it| {
        it.split_once('.')
            .map_or(it, |(_, subject)| subject)
            .to_owned()
    });
    covered(&permissions.subscribe, subject) || covered(&looks.collect::<Vec<_>>(), subject)
}

fn covered(patterns: &[String], subject: &str) -> bool {
    patterns.iter().any(|pattern| {
        let (all, pattern) = match pattern.strip_suffix('>') {
            Some(start) => (true, start.trim_end_matches('.')),
            None => (false, pattern.as_str()),
        };
        let pattern: Vec<_> = pattern.split('.').filter(|word| !word.is_empty()).collect();
        let words: Vec<_> = subject.split('.').collect();
        let long_enough = words.len() == pattern.len() || (all && words.len() > pattern.len());
        let fits = |(pattern, word): (&&str, &&str)| *pattern == "*" || pattern == word;
        long_enough && pattern.iter().zip(&words).all(fits)
    })
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
