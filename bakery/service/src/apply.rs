//! `bakery apply FILE…`: definitions from files into their buckets. All files are read and checked before the first is put.
//! There is no bar: each is one small value, and one answer of the server.
//!
//! | `schema` | bucket | key |
//! | --- | --- | --- |
//! | `sourdough/template/v1` | `build-environments` | `template.<name>` |
//! | `sourdough/environment/v1` | `build-environments` | `environment.<tenant>.<name>` |
//! | `sourdough/tenant/v1` | `build-tenants` | `<name>` |

use std::fmt;
use std::path::{Path, PathBuf};

use async_nats::jetstream;
use bus::nats;
use bytes::Bytes;
use schemas::{Environment, FieldError, Template, Tenant, Token, canonical, names};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::definitions::{Change, Definitions};

/// A definition that has been checked, and where it goes.
#[derive(Debug, PartialEq, Eq)]
struct Checked {
    bucket: Bucket,
    key: String,
    body: Bytes,
}

/// Where a definition goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Definitions,
    Tenants,
}

/// What became of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its key in its bucket.
    pub key: String,
    /// What became of it.
    pub change: Change,
}

/// Why a file is not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no definition.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        problem: FieldError,
    },
    /// It is an environment, and nobody said whose.
    #[error("{}: is an environment: say whose with --tenant", path.display())]
    NoTenant {
        /// The file.
        path: PathBuf,
    },
}

/// The part of a definition that says what it is.
#[derive(Deserialize)]
struct Tagged {
    #[serde(default)]
    schema: String,
}

/// Puts the definitions in `files`; environments become those of `tenant`. Returns what became of each.
pub async fn run(
    config: &Config,
    files: &[PathBuf],
    tenant: Option<&Token>,
) -> anyhow::Result<Vec<Applied>> {
    let checked = check(files, tenant)?;
    let client = nats::connect(&config.nats, "bakery-apply").await?;
    let jetstream = jetstream::new(client);
    let definitions = Definitions::open(&jetstream).await?;
    let tenants = Definitions::open_tenants(&jetstream).await?;
    let mut applied = Vec::new();
    for Checked { bucket, key, body } in checked {
        let bucket = match bucket {
            Bucket::Definitions => &definitions,
            Bucket::Tenants => &tenants,
        };
        let change = bucket.put(&key, body).await?;
        applied.push(Applied { key, change });
    }
    Ok(applied)
}

impl fmt::Display for Applied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Unchanged => "unchanged",
        };
        write!(formatter, "{}: {change}", self.key)
    }
}

/// Reads all files, and stops at the first that is not right.
fn check(files: &[PathBuf], tenant: Option<&Token>) -> Result<Vec<Checked>, ApplyError> {
    files.iter().map(|path| check_file(path, tenant)).collect()
}

fn check_file(path: &Path, tenant: Option<&Token>) -> Result<Checked, ApplyError> {
    let path = || path.to_owned();
    let invalid = |problem| ApplyError::Invalid {
        path: path(),
        problem,
    };
    let body = std::fs::read(path()).map_err(|source| ApplyError::Read {
        path: path(),
        source,
    })?;
    match schema(&body).map_err(invalid)?.as_str() {
        "sourdough/template/v1" => {
            let template = Template::parse(&body).map_err(invalid)?;
            let key = names::template_definition_key(&template.name);
            Ok(checked(Bucket::Definitions, key, &template))
        }
        "sourdough/environment/v1" => {
            let environment = Environment::parse(&body).map_err(invalid)?;
            let tenant = tenant.ok_or_else(|| ApplyError::NoTenant { path: path() })?;
            let key = names::environment_key(tenant, &environment.name);
            Ok(checked(Bucket::Definitions, key, &environment))
        }
        "sourdough/tenant/v1" => {
            let tenant = Tenant::parse(&body).map_err(invalid)?;
            Ok(checked(Bucket::Tenants, tenant.name.to_string(), &tenant))
        }
        other => {
            let problem = format!(
                "must be sourdough/template/v1, sourdough/environment/v1 or sourdough/tenant/v1, is {other:?}"
            );
            Err(invalid(FieldError::new("schema", problem)))
        }
    }
}

fn schema(body: &[u8]) -> Result<String, FieldError> {
    let tagged: Result<Tagged, _> = serde_json::from_slice(body);
    tagged
        .map(|tagged| tagged.schema)
        .map_err(|error| FieldError::new("body", format!("is no definition: {error}")))
}

/// Canonical, so that a file that was only laid out anew is no change.
fn checked(bucket: Bucket, key: String, definition: &impl Serialize) -> Checked {
    let body = canonical::to_vec(definition).expect("a definition was read from JSON");
    Checked {
        bucket,
        key,
        body: body.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(texts: &[&str], tenant: Option<&str>) -> Result<Vec<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let files: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(number, text)| {
                let path = directory.path().join(format!("{number}.json"));
                std::fs::write(&path, text).unwrap();
                path
            })
            .collect();
        let tenant = tenant.map(|tenant| tenant.parse().unwrap());
        let shown = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
        check(&files, tenant.as_ref())
            .map(|checked| checked.into_iter().map(|one| one.key).collect())
            .map_err(|error| shown(error.to_string()))
    }

    const TEMPLATE: &str = r#"{"schema": "sourdough/template/v1", "name": "node", "base": {"debian": {"suite": "bookworm"}}}"#;
    const ENVIRONMENT: &str =
        r#"{"schema": "sourdough/environment/v1", "name": "widget", "template": "node"}"#;

    #[test]
    fn a_template_is_the_operators_and_an_environment_a_tenants() {
        let keys = apply(&[TEMPLATE, ENVIRONMENT], Some("acme")).unwrap();
        assert_eq!(keys, ["template.node", "environment.acme.widget"]);
        let refused = apply(&[ENVIRONMENT], None).unwrap_err();
        assert_eq!(
            refused,
            "0.json: is an environment: say whose with --tenant"
        );
    }

    #[test]
    fn what_the_operator_allows_a_tenant_goes_into_a_bucket_of_its_own() {
        let text = r#"{"schema": "sourdough/tenant/v1", "name": "acme", "hosts": [{"hosts": ["git.example.com:443"]}]}"#;
        assert_eq!(apply(&[text], None).unwrap(), ["acme"]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tenant.json");
        std::fs::write(&file, text).unwrap();
        assert_eq!(check_file(&file, None).unwrap().bucket, Bucket::Tenants);
        let bad = text.replace(":443", "");
        let refused = apply(&[&bad], None).unwrap_err();
        assert!(refused.starts_with("0.json: "), "{refused}");
    }

    #[test]
    fn a_bad_file_is_named_with_its_field_and_spoils_the_set() {
        let bad = ENVIRONMENT.replace("widget", "no name");
        let refused = apply(&[TEMPLATE, &bad], Some("acme")).unwrap_err();
        assert!(
            refused.starts_with("1.json: name: must be one or more of"),
            "{refused}"
        );
        let refused = apply(&["{}"], None).unwrap_err();
        assert!(refused.starts_with("0.json: schema: must be"), "{refused}");
        let refused = apply(&["[1"], None).unwrap_err();
        assert!(
            refused.starts_with("0.json: body: is no definition"),
            "{refused}"
        );
    }
}
