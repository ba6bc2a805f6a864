//! S3: objects by bucket and key, streamed in and out with one part in memory.
//!
//! Nothing here relies on conditional writes, which servers treat differently: a key is a digest, so a second upload writes the same
//! bytes. The SDK retries each request three times; only the wait for the server at the start is longer.

mod client;
mod config;
mod connect;
mod download;
mod error;
mod listed;
mod multipart;
mod patience;
#[cfg(test)]
mod tests;
mod upload;

pub use client::Objects;
pub use config::{Buckets, ObjectsConfig, RequestChecksums};
pub use download::Download;
pub use error::ObjectsError;
pub use listed::{Listed, Page};
pub use schemas::ObjectUri;
pub use upload::{PART_BYTES, Upload};
