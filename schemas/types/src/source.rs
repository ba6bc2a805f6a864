//! Where a source tree comes from. Every source is pinned: an archive by the digest of its bytes, a repository by a full commit id.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::digest::{Digests, GitCommit};
use crate::https::HttpsUri;
use crate::text::{TextError, quoted, text_type};
use crate::uri::ObjectUri;

text_type!(
    /// The name of a branch or tag, as `refs/heads/main` or `main`: what git accepts, without what it would take for an option or a pattern.
    GitRef, check: check_ref,
    schema: {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_./+-]*$", "maxLength": 255}
);

/// Where the source tree comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A `.tar.zst` in the source bucket, or behind an https address.
    Archive(ArchiveSource),
    /// A commit of a git repository.
    Git(GitSource),
}

/// An archive, pinned by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSource {
    /// Where it lies: in the configured source bucket, under `<tenant>/`; or on a host that the operator allows the tenant.
    pub uri: ArchiveUri,
    /// What its bytes hash to.
    pub digest: Digests,
}

/// Where an archive lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArchiveUri {
    /// In the object store.
    S3(ObjectUri),
    /// Behind an https address.
    Https(HttpsUri),
}

/// A commit of a git repository. A branch's name alone is no source: it would be another tree tomorrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitSource {
    /// The repository, on a host that the operator allows the tenant.
    pub uri: HttpsUri,
    /// The commit.
    pub digest: GitDigest,
    /// A branch or tag that leads to the commit, for servers that do not hand out a commit by its id alone. Default none. It decides
    /// how the commit is found, never which one is taken.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitRef>,
    /// Whether the repositories that the tree names as submodules are fetched as well, each at the commit that the tree pins, and
    /// theirs in turn. Default false.
    #[serde(default)]
    pub submodules: bool,
}

/// The commit that pins a git source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitDigest {
    /// The commit's full id.
    #[serde(rename = "gitCommit")]
    pub git_commit: GitCommit,
}

impl fmt::Display for ArchiveUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(uri) => uri.fmt(formatter),
            Self::Https(uri) => uri.fmt(formatter),
        }
    }
}

impl From<ObjectUri> for ArchiveUri {
    fn from(uri: ObjectUri) -> Self {
        Self::S3(uri)
    }
}

impl From<ArchiveUri> for String {
    fn from(uri: ArchiveUri) -> Self {
        uri.to_string()
    }
}

impl TryFrom<String> for ArchiveUri {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        match text.split_once("://") {
            Some(("s3", _)) => text.parse().map(Self::S3),
            Some(("https", _)) => HttpsUri::parse(text).map(Self::Https),
            Some(_) | None => Err(TextError::new(format!(
                "must be s3://<bucket>/<key> or https://<host>/<path>, is {}",
                quoted(&text)
            ))),
        }
    }
}

impl JsonSchema for ArchiveUri {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ArchiveUri".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (s3, https) = (
            generator.subschema_for::<ObjectUri>(),
            generator.subschema_for::<HttpsUri>(),
        );
        json_schema!({"anyOf": [s3, https]})
    }
}

fn check_ref(text: &str) -> Result<(), TextError> {
    let good =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'+' | b'-');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !starts
        || text.len() > 255
        || !text.bytes().all(good)
        || text.contains("..")
        || text.contains("//")
    {
        return Err(TextError::new(format!(
            "must be the name of a branch or tag, is {}",
            quoted(text)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_lies_in_s3_or_behind_https_and_nowhere_else() {
        let read = |text: &str| ArchiveUri::try_from(text.to_owned());
        assert!(matches!(read("s3://bucket/a/b"), Ok(ArchiveUri::S3(_))));
        let https = read("https://files.example.com/a.tar.zst").unwrap();
        assert_eq!(https.to_string(), "https://files.example.com/a.tar.zst");
        for bad in ["http://files.example.com/a", "file:///etc/passwd", "a", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_is_no_option_and_no_pattern() {
        for good in ["main", "refs/heads/a-b", "v1.2+x"] {
            assert!(GitRef::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "a b", "a:b", "a..b", "a*", "a//b", "^a"] {
            assert!(GitRef::parse(bad).is_err(), "{bad}");
        }
    }
}
