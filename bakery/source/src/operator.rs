//! Archives that the operator names, for templates: by the same code as a tenant's, with the operator's own hosts.

use std::fs::File;
use std::path::Path;

use egress::{Rule, SystemResolver};
use schemas::Sha256Digest;
use schemas::https::HttpsUri;

use crate::error::SourceError;
use crate::hosts::Hosts;
use crate::https::Client;

/// Fetches `uri` into an unnamed file in the directory `into`; returns the digest of its bytes as well. `allowed` names the hosts, also
/// of redirects; `ca_bundle` is the file with the certificate authorities, as PEM; more than `limit` bytes are refused.
pub async fn fetch_https(
    uri: &HttpsUri,
    allowed: &Rule,
    ca_bundle: &Path,
    limit: u64,
    into: &Path,
) -> Result<(File, Sha256Digest), SourceError> {
    let client = Client {
        hosts: &Hosts::of_operator(allowed),
        resolver: &SystemResolver,
        ca_bundle,
        limit,
    };
    client.download(uri, into).await
}
