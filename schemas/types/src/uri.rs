//! Addresses of objects: `s3://<bucket>/<key>`.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::text::{TextError, quoted};

/// Longest key, as S3 has it.
const MAX_KEY_BYTES: usize = 1024;

const SCHEME: &str = "s3://";

/// Where an object lies. The key has no empty, `.` or `..` part and no control character, so a prefix check on it means what it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectUri {
    bucket: String,
    key: String,
}

impl ObjectUri {
    /// The address of `key` in `bucket`.
    pub fn new(bucket: &str, key: &str) -> Result<Self, TextError> {
        check_bucket(bucket)?;
        check_key(key)?;
        Ok(Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key in the bucket, without a leading `/`.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ObjectUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

impl FromStr for ObjectUri {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (bucket, key) = text
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(|| {
                TextError::new(format!("must be s3://<bucket>/<key>, is {}", quoted(text)))
            })?;
        Self::new(bucket, key)
    }
}

impl TryFrom<String> for ObjectUri {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<ObjectUri> for String {
    fn from(uri: ObjectUri) -> Self {
        uri.to_string()
    }
}

impl JsonSchema for ObjectUri {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ObjectUri".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^s3://[a-z0-9.-]{3,63}/.+$"})
    }
}

/// S3's rule for bucket names, as far as it keeps an address unambiguous.
fn check_bucket(bucket: &str) -> Result<(), TextError> {
    let good = bucket.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    });
    if !good || !(3..=63).contains(&bucket.len()) || bucket.starts_with('.') {
        return Err(TextError::new(format!(
            "must name a bucket of 3 to 63 of a-z 0-9 . -, names {}",
            quoted(bucket)
        )));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), TextError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(TextError::new(format!(
            "must have a key of at most {MAX_KEY_BYTES} bytes, has {}",
            key.len()
        )));
    }
    if key.chars().any(char::is_control)
        || key.split('/').any(|part| matches!(part, "" | "." | ".."))
    {
        return Err(TextError::new(format!(
            "must have a key without empty, `.` or `..` parts, has {}",
            quoted(key)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_what_it_writes() {
        let uri: ObjectUri = "s3://build-sources/acme/ab.tar.zst".parse().unwrap();
        assert_eq!(
            (uri.bucket(), uri.key()),
            ("build-sources", "acme/ab.tar.zst")
        );
        assert_eq!(uri.to_string(), "s3://build-sources/acme/ab.tar.zst");
    }

    #[test]
    fn an_address_that_could_mean_another_prefix_is_refused() {
        for bad in [
            "https://example.com/a",
            "s3://build-sources",
            "s3://build-sources/",
            "s3://build-sources/acme/../other/x",
            "s3://build-sources//acme/x",
            "s3://B/x",
            "s3://../x",
            "s3://build-sources/a\nb",
        ] {
            assert!(bad.parse::<ObjectUri>().is_err(), "{bad}");
        }
    }
}
