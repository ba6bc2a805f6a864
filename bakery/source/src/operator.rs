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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use http_body_util::Full;
    use hyper::Response;

    use super::*;
    use crate::testing::server::Server;

    #[tokio::test]
    async fn the_operator_fetches_from_its_own_hosts_and_no_other() {
        let handler = Arc::new(|_| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async { Response::new(Full::from("a root filesystem")) })
        });
        let server = Server::start("localhost", handler).await;
        let directory = tempfile::tempdir().unwrap();
        let ca = server.ca_bundle(directory.path());
        let uri = format!("https://localhost:{}/root.tar", server.port);
        let uri: HttpsUri = uri.parse().unwrap();
        let allowed = Rule {
            hosts: vec![uri.endpoint().as_str().parse().unwrap()],
            networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        };
        let into = directory.path();
        let (mut file, digest) = fetch_https(&uri, &allowed, &ca, 100, into).await.unwrap();
        assert_eq!(digest, Sha256Digest::of("a root filesystem"));
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a root filesystem");

        let refused = fetch_https(&uri, &Rule::default(), &ca, 100, into).await;
        assert!(matches!(refused, Err(SourceError::NotAllowed { .. })));
    }
}
