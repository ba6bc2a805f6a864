//! How the SDK's client is set: credentials, region, TLS, limits of time and checksums.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use super::config::{ObjectsConfig, RequestChecksums};

/// 5 s: more than any handshake takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// 2 min until the answer begins: an 8 MiB part over a slow line, and a server that then writes it to disk.
const READ_TIMEOUT: Duration = Duration::from_mins(2);

/// Taken where neither the configuration nor the environment names one; servers of one's own do not look.
const DEFAULT_REGION: &str = "us-east-1";

/// How credentials and region are found, over the one TLS stack that we build. The region is not asked of the machine's metadata
/// service: most machines have none, and the question would be asked at every start.
pub(super) fn loader(config: &ObjectsConfig) -> ConfigLoader {
    let tls = tls::Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls)
        .build_https();
    let region = RegionProviderChain::first_try(config.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(DEFAULT_REGION));
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(region)
}

pub(super) fn with_settings(mut builder: Builder, config: &ObjectsConfig) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    builder = builder
        .force_path_style(config.force_path_style)
        .timeout_config(timeouts.build());
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    match config.request_checksums {
        RequestChecksums::WhenSupported => builder,
        RequestChecksums::WhenRequired => builder
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired),
    }
}
