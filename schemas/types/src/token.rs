//! The words that subjects, keys and names are made of: each is one NATS token, so it needs no escaping anywhere.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::text::{TextError, quoted, text_type};

/// Longest [`Token`]: a subject of six tokens stays far below what NATS and S3 keys allow.
pub const MAX_TOKEN_BYTES: usize = 64;

/// Longest [`HostClass`]: a packaged VMM's version can be long.
const MAX_CLASS_BYTES: usize = 128;

/// Longest [`EnvName`].
const MAX_ENV_NAME_BYTES: usize = 256;

text_type!(
    /// A name of one NATS token, `[A-Za-z0-9_-]+`, at most [`MAX_TOKEN_BYTES`]: tenants, pools, environments, templates, steps, workers,
    /// and what a result is filed under.
    Token, check: check_token,
    schema: {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 64}
);

text_type!(
    /// The machines on which a snapshot can be restored: driver, VMM version, accelerator and the first 8 hex of the digest of the CPU
    /// model, joined by `-`; whatever a token may not hold is `_`.
    HostClass, check: check_class,
    schema: {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 128}
);

text_type!(
    /// The name of an environment variable, `[A-Za-z_][A-Za-z0-9_]*`, at most 256 bytes.
    EnvName, check: check_env_name,
    schema: {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 256}
);

impl From<Uuid> for Token {
    fn from(id: Uuid) -> Self {
        Self::parse(id.to_string()).expect("a UUID is 36 hexadecimal digits and hyphens")
    }
}

impl HostClass {
    /// The class of a host, from what makes its snapshots differ from another's. `cpu_model` is any text that names the guest's CPU.
    pub fn new(
        driver: &str,
        vmm_version: &str,
        accelerator: &str,
        cpu_model: &str,
    ) -> Result<Self, TextError> {
        let cpu = Sha256Digest::of(cpu_model.as_bytes()).to_string();
        let parts = [driver, vmm_version, accelerator, &cpu[..8]];
        Self::parse(parts.map(one_word).join("-"))
    }
}

/// How far the author of a job is trusted, which decides what a worker of which kind may run it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Reviewed code of the tenant's own.
    Trusted,
    /// Anything else: a pull request of a stranger.
    Untrusted,
}

impl Trust {
    /// The word in subjects and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Trust {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "trusted" => Ok(Self::Trusted),
            "untrusted" => Ok(Self::Untrusted),
            other => Err(TextError::new(format!(
                "must be `trusted` or `untrusted`, is {}",
                quoted(other)
            ))),
        }
    }
}

/// Which of a tenant's jobs goes first: 0 before 9. Default 5, so that there is room on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The priority `value`, if it is 0 to 9.
    pub fn new(value: u8) -> Result<Self, TextError> {
        if value > 9 {
            return Err(TextError::new(format!(
                "must be between 0 and 9, is {value}"
            )));
        }
        Ok(Self(value))
    }

    /// 0 (first) to 9.
    pub fn value(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Priority {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text.as_bytes() {
            [digit @ b'0'..=b'9'] => Ok(Self(digit - b'0')),
            _ => Err(TextError::new(format!(
                "must be one digit, is {}",
                quoted(text)
            ))),
        }
    }
}

fn check_token(text: &str) -> Result<(), TextError> {
    check_word(text, MAX_TOKEN_BYTES)
}

fn check_class(text: &str) -> Result<(), TextError> {
    check_word(text, MAX_CLASS_BYTES)
}

fn check_word(text: &str, max_bytes: usize) -> Result<(), TextError> {
    if text.len() > max_bytes {
        return Err(TextError::new(format!(
            "must be at most {max_bytes} bytes, is {}",
            text.len()
        )));
    }
    if text.is_empty() || !text.bytes().all(is_token_byte) {
        return Err(TextError::new(format!(
            "must be one or more of A-Z a-z 0-9 _ -, is {}",
            quoted(text)
        )));
    }
    Ok(())
}

fn check_env_name(text: &str) -> Result<(), TextError> {
    if text.len() > MAX_ENV_NAME_BYTES {
        return Err(TextError::new(format!(
            "must have a name of at most {MAX_ENV_NAME_BYTES} bytes, has {}",
            text.len()
        )));
    }
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !starts_well
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err(TextError::new(format!(
            "must have a name of A-Z a-z 0-9 _ that does not start with a digit, has {}",
            quoted(text)
        )));
    }
    Ok(())
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// `text` as one part of a class: `-` joins the parts, so inside one it is `_` too.
fn one_word(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_nats_token() {
        for good in ["a", "widget", "Acme_2-b", &"x".repeat(64)] {
            assert!(Token::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "*", ">", "é", "a/b", &"x".repeat(65)] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_class_is_one_token_whatever_the_version_looks_like() {
        let class = HostClass::new("qemu", "7.2.17+dfsg-1~a", "tcg", "max").unwrap();
        assert!(
            class.as_str().starts_with("qemu-7_2_17_dfsg_1_a-tcg-"),
            "{class}"
        );
        assert_eq!(class.as_str().len(), "qemu-7_2_17_dfsg_1_a-tcg-".len() + 8);
    }

    #[test]
    fn a_priority_is_one_digit() {
        assert_eq!("0".parse::<Priority>().unwrap().value(), 0);
        assert!("10".parse::<Priority>().is_err());
        assert!("+1".parse::<Priority>().is_err());
        assert!(Priority::new(10).is_err());
    }

    #[test]
    fn an_environment_variable_has_a_shell_name() {
        assert!(EnvName::parse("_CI2").is_ok());
        for bad in ["", "2CI", "A=B", "A-B", "A\0"] {
            assert!(EnvName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
