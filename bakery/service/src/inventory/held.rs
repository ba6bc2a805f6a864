//! A published snapshot, whole and in short.

use jiff::Timestamp;
use schemas::{HostClass, Sha256Digest, Token, Trust};
use serde::Serialize;
use store::Manifest;

/// A published snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Digest of the manifest.
    pub digest: Sha256Digest,
    /// What it consists of and what made it.
    pub manifest: Manifest,
}

/// What a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Booted from a root filesystem; the operator's.
    Template,
    /// Derived from a template; a tenant's.
    Environment,
}

/// A snapshot in short, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its key.
    pub key: Sha256Digest,
    /// Digest of its manifest.
    pub manifest: Sha256Digest,
    /// What it is.
    pub kind: Kind,
    /// The name in its definition.
    pub name: String,
    /// Whose it is; none for a template.
    pub tenant: Option<Token>,
    /// How far the authors are trusted whose jobs fork it; none for a template.
    pub trust: Option<Trust>,
    /// The hosts that can fork it.
    pub class: HostClass,
    /// When it was published.
    pub created_at: Timestamp,
    /// Plain bytes that are not zero: what it takes on a worker's disk.
    pub size_bytes: u64,
    /// Bytes in the object store, those included that others share.
    pub stored_bytes: u64,
    /// Whether a new bake or job would take it.
    pub current: bool,
}

impl Held {
    /// What it is.
    pub fn kind(&self) -> Kind {
        if self.manifest.parts.template_key.is_some() {
            Kind::Environment
        } else {
            Kind::Template
        }
    }

    /// The name of the template that it is, or was derived from.
    pub fn template(&self) -> &str {
        match self.kind() {
            Kind::Template => self.manifest.name(),
            Kind::Environment => {
                let template = &self.manifest.parts.definition["template"];
                template.as_str().unwrap_or_default()
            }
        }
    }
}

impl Summary {
    pub(super) fn new(held: &Held, current: bool) -> Self {
        let (manifest, parts) = (&held.manifest, &held.manifest.parts);
        Self {
            key: manifest.key,
            manifest: held.digest,
            kind: held.kind(),
            name: manifest.name().to_owned(),
            tenant: parts.tenant.clone(),
            trust: parts.trust,
            class: parts.host_class.clone(),
            created_at: manifest.created_at,
            size_bytes: manifest.data_bytes(),
            stored_bytes: manifest.stored_bytes(),
            current,
        }
    }
}
