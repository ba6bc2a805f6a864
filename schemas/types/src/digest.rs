//! SHA-256 digests: 64 lower-case hexadecimal digits, everywhere.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::text::{TextError, quoted, text_type};

/// A SHA-256 digest. Displays and serialises as 64 lower-case hexadecimal digits, and is read as nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest whose 32 bytes these are, as a hasher gives them.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sha256Digest({self})")
    }
}

impl FromStr for Sha256Digest {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let lower = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut bytes = [0; 32];
        if !lower || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(TextError::new("must be 64 lower-case hexadecimal digits"));
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Sha256Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sha256Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
    }
}

text_type!(
    /// The full id of a git commit: 40 lower-case hexadecimal digits.
    GitCommit, check: check_commit,
    schema: {"type": "string", "pattern": "^[0-9a-f]{40}$"}
);

fn check_commit(text: &str) -> Result<(), TextError> {
    let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 40 && text.bytes().all(hex) {
        return Ok(());
    }
    Err(TextError::new(format!(
        "must be the full id of a commit, 40 lower-case hexadecimal digits, is {}",
        quoted(text)
    )))
}

/// Digests of one thing by algorithm, `{"sha256": "…"}`. Further algorithms may stand beside it and are not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Digests {
    /// The SHA-256 digest of the bytes.
    pub sha256: Sha256Digest,
}

impl From<Sha256Digest> for Digests {
    fn from(sha256: Sha256Digest) -> Self {
        Self { sha256 }
    }
}

/// A snapshot key as messages show it: `sha256:` and the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrefixedDigest(pub Sha256Digest);

/// What stands before the digits of a [`PrefixedDigest`].
const PREFIX: &str = "sha256:";

impl From<PrefixedDigest> for String {
    fn from(digest: PrefixedDigest) -> Self {
        format!("{PREFIX}{}", digest.0)
    }
}

impl TryFrom<String> for PrefixedDigest {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let digits = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| TextError::new("must start with `sha256:`"))?;
        digits.parse().map(Self)
    }
}

impl JsonSchema for PrefixedDigest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PrefixedDigest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_what_it_writes() {
        let digest = Sha256Digest::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Sha256Digest>().unwrap(), digest);
        assert_eq!(
            serde_json::to_string(&PrefixedDigest(digest)).unwrap(),
            format!("\"sha256:{EMPTY}\"")
        );
    }

    #[test]
    fn upper_case_short_and_long_digests_are_refused() {
        for bad in [
            &EMPTY.to_uppercase(),
            &EMPTY[1..],
            &format!("{EMPTY}0"),
            "",
            "sha256:00",
        ] {
            assert!(bad.parse::<Sha256Digest>().is_err(), "{bad}");
        }
    }
}
