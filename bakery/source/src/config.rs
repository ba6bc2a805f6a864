//! What an operator says about sources.

use std::path::PathBuf;

use schemas::Token;
use schemas::guest::CA_BUNDLE;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// How sources are fetched. Every field has a default, so a configuration names only what it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourcesConfig {
    /// The template that git sources are fetched in. It needs git and certificate authorities, and nothing else. Default none: a git
    /// source is then an error that says so.
    pub fetch_template: Option<Token>,
    /// How large a source may be.
    pub limits: Limits,
    /// Certificate authorities that the host trusts when it fetches an archive over https, as PEM. Default where Debian keeps them.
    pub ca_bundle: PathBuf,
}

impl Default for SourcesConfig {
    fn default() -> Self {
        Self {
            fetch_template: None,
            limits: Limits::default(),
            ca_bundle: CA_BUNDLE.into(),
        }
    }
}
