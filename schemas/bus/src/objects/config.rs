//! Where objects live. Credentials are not here: they come from the environment, a profile or the machine's role, as `aws-config` finds
//! them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where objects live.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectsConfig {
    /// The server, as `http://127.0.0.1:8333`. Default: `AWS_ENDPOINT_URL_S3`, else Amazon's.
    pub endpoint: Option<String>,
    /// The region. Default: `AWS_REGION` or the profile's, else `us-east-1`, which servers of one's own take.
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host name. Default true: servers of one's own have one host name.
    pub force_path_style: bool,
    /// When a request carries a checksum. Default `when_supported`.
    pub request_checksums: RequestChecksums,
    /// The names of our buckets.
    pub buckets: Buckets,
}

/// When a request carries a checksum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestChecksums {
    /// Wherever S3 has one.
    #[default]
    WhenSupported,
    /// Only where S3 insists. For servers that cannot read the newer ones, as Garage.
    WhenRequired,
}

/// The names of our buckets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Buckets {
    /// Source archives. Default `build-sources`.
    pub sources: String,
    /// Artifacts. Default `build-artifacts`.
    pub artifacts: String,
    /// Whole logs. Default `build-logs`.
    pub logs: String,
    /// Snapshots. Default `build-snapshots`.
    pub snapshots: String,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            force_path_style: true,
            request_checksums: RequestChecksums::default(),
            buckets: Buckets::default(),
        }
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            sources: "build-sources".to_owned(),
            artifacts: "build-artifacts".to_owned(),
            logs: "build-logs".to_owned(),
            snapshots: "build-snapshots".to_owned(),
        }
    }
}

/// Without the endpoint's user and password, if somebody wrote them there.
impl fmt::Debug for ObjectsConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ObjectsConfig")
            .field("endpoint", &self.endpoint.as_deref().map(masked))
            .field("region", &self.region)
            .field("force_path_style", &self.force_path_style)
            .field("request_checksums", &self.request_checksums)
            .field("buckets", &self.buckets)
            .finish()
    }
}

impl Buckets {
    /// All four.
    pub fn all(&self) -> [&str; 4] {
        [&self.sources, &self.artifacts, &self.logs, &self.snapshots]
    }
}

/// The address with its user and password replaced.
fn masked(endpoint: &str) -> String {
    let Some((before, host)) = endpoint.rsplit_once('@') else {
        return endpoint.to_owned();
    };
    match before.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://***@{host}"),
        None => format!("***@{host}"),
    }
}
