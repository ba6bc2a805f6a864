//! What a build finds inside its guest, whoever started it: the same in a bake's setup steps and in a job's steps.
//!
//! What always holds: nothing here depends on the host. Two hosts that run the same step give it the same user, directory and
//! variables.

use std::collections::BTreeMap;

use crate::path::TreePath;
use crate::step::Env;

/// Where the source tree lies.
pub const BUILD_ROOT: &str = "/build/src";

/// Home of the user that builds; [`BUILD_ROOT`] lies in it.
pub const BUILD_HOME: &str = "/build";

/// Name of the user that builds.
pub const BUILD_USER: &str = "build";

/// Its user id.
pub const BUILD_UID: u32 = 1000;

/// Its group id.
pub const BUILD_GID: u32 = 1000;

/// Hostname of every guest: a build that writes it somewhere writes the same everywhere.
pub const HOSTNAME: &str = "sourdough";

/// TCP port on the guest's loopback on which the way out is offered, while there is one. It is the usual one for proxies.
pub const PROXY_PORT: u16 = 3128;

/// The certificate authorities that programs in the guest trust.
pub const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The variables that every step has, before any definition adds its own. `source_date_epoch` is in seconds since the Unix epoch.
pub fn base_environment(source_date_epoch: i64) -> BTreeMap<String, String> {
    let fixed = [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", BUILD_HOME),
        ("USER", BUILD_USER),
        ("LOGNAME", BUILD_USER),
        ("SHELL", "/bin/sh"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
    ];
    let mut environment: BTreeMap<_, _> = fixed
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let epoch = source_date_epoch.to_string();
    environment.insert("SOURCE_DATE_EPOCH".to_owned(), epoch);
    environment
}

/// The variables of one step: the base, then each of `layers` over what stands before it.
pub fn step_environment<'a>(
    source_date_epoch: i64,
    layers: impl IntoIterator<Item = &'a Env>,
) -> BTreeMap<String, String> {
    let mut environment = base_environment(source_date_epoch);
    for layer in layers {
        let layer = layer
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()));
        environment.extend(layer);
    }
    environment
}

/// Where a step with this `cwd` starts, as a path in the guest.
pub fn directory(cwd: &TreePath) -> String {
    if cwd.is_root() {
        BUILD_ROOT.to_owned()
    } else {
        format!("{BUILD_ROOT}/{cwd}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str, value: &str) -> Env {
        Env::from([(name.parse().unwrap(), value.to_owned())])
    }

    #[test]
    fn a_later_layer_wins_over_an_earlier_one_and_both_over_the_base() {
        let (environment, step) = (env("TZ", "CET"), env("TZ", "EET"));
        let both = step_environment(5, [&environment, &step]);
        assert_eq!(both["TZ"], "EET");
        assert_eq!(both["SOURCE_DATE_EPOCH"], "5");
        assert_eq!(both.len(), base_environment(5).len());
    }

    #[test]
    fn a_step_starts_inside_the_tree() {
        assert_eq!(directory(&TreePath::root()), "/build/src");
        assert_eq!(directory(&"a/b".parse().unwrap()), "/build/src/a/b");
    }
}
