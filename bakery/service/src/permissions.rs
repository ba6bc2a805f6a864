//! `bakery permissions`: the accounts of a tenant on the NATS server, for `tenants.conf`. Nothing is asked of any server, and no configuration
//! is read.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use bus::permissions::{Role, tenant_account};
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use schemas::Trust;

use crate::args::Permissions;

/// The public half of a user's nkey: `U` and 55 more of A-Z and 2-7. Its check sum is the server's to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(String);

/// Why a text is no public key of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It must not lie on the server, nor in a shell's history.
    #[error("is a seed, which is secret: give the public key, U…")]
    Seed,
    /// It has another shape.
    #[error("must be the public key of a user: U and 55 more of A-Z and 2-7")]
    Shape,
}

/// Reads a key from the command line. Clap's own refusal repeats the text, and a seed shall not stand in a log.
#[derive(Debug, Clone, Copy)]
pub struct KeyArgument;

/// An account for each role that a key is given for.
pub fn accounts(asked: &Permissions) -> Vec<String> {
    let publisher = |trust| Role::Publisher {
        tenant: asked.tenant.clone(),
        trust,
        pool: asked.pool.clone(),
    };
    let subscriber = Role::Subscriber {
        tenant: asked.tenant.clone(),
    };
    let roles = [
        (publisher(Trust::Trusted), &asked.trusted),
        (publisher(Trust::Untrusted), &asked.untrusted),
        (subscriber, &asked.subscriber),
    ];
    let given = roles.iter().filter(|(_, keys)| !keys.is_empty());
    let accounts = given.filter_map(|(role, keys)| {
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        tenant_account(role, &keys)
    });
    accounts.collect()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
        if text.starts_with('S') {
            return Err(PublicKeyError::Seed);
        }
        if text.len() != 56 || !text.starts_with('U') || !text.bytes().all(base32) {
            return Err(PublicKeyError::Shape);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TypedValueParser for KeyArgument {
    type Value = PublicKey;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<PublicKey, clap::Error> {
        let text = value.to_str().ok_or(PublicKeyError::Shape);
        text.and_then(str::parse).map_err(|error| {
            let name = argument.map(ToString::to_string).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("{name}: {error}\n"))
                .with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: char) -> PublicKey {
        let text: String = std::iter::once('U')
            .chain(std::iter::repeat_n(fill, 55))
            .collect();
        text.parse().unwrap()
    }

    #[test]
    fn a_role_without_a_key_has_no_account() {
        let asked = Permissions {
            tenant: "acme".parse().unwrap(),
            pool: "big".parse().unwrap(),
            trusted: Vec::new(),
            untrusted: vec![key('A'), key('B')],
            subscriber: Vec::new(),
        };
        let [account] = &accounts(&asked)[..] else {
            panic!("one role has keys")
        };
        assert!(account.starts_with("\"publisher=acme=untrusted=big\" {"));
        for part in [key('A').to_string(), key('B').to_string()] {
            assert!(account.contains(&format!("nkey: {part}\n")), "{account}");
        }
        assert!(!account.contains(".trusted."), "{account}");
    }

    #[test]
    fn a_seed_is_refused_as_what_it_is() {
        let seed = format!("SU{}", "A".repeat(56));
        assert_eq!(seed.parse::<PublicKey>(), Err(PublicKeyError::Seed));
        for bad in ["", "U", &format!("U{}", "a".repeat(55)), "U\" }"] {
            assert_eq!(bad.parse::<PublicKey>(), Err(PublicKeyError::Shape));
        }
    }
}
