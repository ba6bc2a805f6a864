//! Flags of `sourdough env explain`.

use std::path::PathBuf;

use schemas::{HostClass, KeyPrefix, Token};

use super::{Domain, Servers};

/// Print each part of a snapshot key; of two keys, the parts that differ.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Keys of published snapshots, or their first six digits or more, if these are enough.
    #[arg(value_name = "KEY", num_args = 0..=2)]
    pub(crate) keys: Vec<KeyPrefix>,

    #[command(flatten)]
    pub(crate) environment: MaybeEnvironment,

    /// The directory that the inputs are taken from, as they are committed.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The class of hosts; that of the workers where they have one.
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<HostClass>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) domain: Domain,

    /// The bucket for snapshots.
    #[arg(
        long,
        env = "SOURDOUGH_SNAPSHOT_BUCKET",
        default_value = "build-snapshots",
        value_name = "NAME"
    )]
    pub(crate) snapshot_bucket: String,

    #[command(flatten)]
    pub(crate) servers: Servers,
}

/// Which environment, if no key is given.
#[derive(Debug, clap::Args)]
#[group(multiple = false, conflicts_with = "keys")]
pub(crate) struct MaybeEnvironment {
    /// One of the tenant's environments.
    #[arg(long = "environment", value_name = "NAME")]
    pub(crate) name: Option<Token>,

    /// A definition that need not be stored.
    #[arg(long = "environment-file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
