//! What a template would be made of here and now, and whether the one that is there is still that.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemas::Template;
use schemas::template::Ca;
use serde_json::json;
use store::{KEY_VERSION, KeyParts};
use tempfile::TempDir;

use super::Bakery;
use crate::error::BakeError;
use crate::{files, kernel};

/// What a template would be made of, but for its root filesystem.
pub(crate) struct Plan {
    /// The kernel's image.
    pub(crate) kernel: PathBuf,
    /// The initial RAM filesystem, which lies in `work`.
    pub(crate) initrd: PathBuf,
    /// The certificate authorities that the root takes over.
    pub(crate) ca: Option<PathBuf>,
    /// The parts of the key; `root` is not known yet.
    pub(crate) parts: KeyParts,
    /// Where all that is made for it lies; goes with it.
    pub(crate) work: TempDir,
}

impl Bakery {
    /// Finds out what `template` would be made of.
    pub(super) async fn plan(&self, template: &Template) -> Result<Plan, BakeError> {
        let kernel = kernel::provide(&self.config.kernel, &self.config.state).await?;
        let work = files::scratch(&self.work())?;
        let initrd = work.path().join("initrd");
        (self.make_initramfs)(&self.config.agent, &kernel.modules, &initrd).map_err(
            BakeError::disk("make an initramfs from", &self.config.agent),
        )?;
        let ca = match template.ca {
            Ca::Host => Some(self.config.ca_bundle.clone()),
            Ca::None => None,
        };
        let ca_digest = match &ca {
            Some(bundle) => Some(files::digest(bundle).await?),
            None => None,
        };
        let parts = KeyParts {
            version: KEY_VERSION,
            tenant: None,
            trust: None,
            template_key: None,
            definition: json!(template),
            kernel: files::digest(&kernel.image).await?,
            agent: files::digest(&initrd).await?,
            root: None,
            host_class: self.class.clone(),
            cpu_model: self.driver.profile().cpu_model.clone(),
            vcpu: template.resources.vcpu,
            memory_mib: template.resources.memory_mib,
            disk_mib: template.resources.disk_mib,
            inputs: BTreeMap::new(),
            egress: json!(null),
            ca: ca_digest,
            salt: template.salt.clone(),
        };
        Ok(Plan {
            kernel: kernel.image,
            initrd,
            ca,
            parts,
            work,
        })
    }
}

/// Whether a template made of `current` serves where `wanted` is asked for: all parts are equal but the root filesystem, which is
/// what it was on the day of its bake. Mirrors publish new versions daily; a template is not baked anew for each of them.
pub(crate) fn is_current(current: &KeyParts, wanted: &KeyParts) -> bool {
    let but_root = |parts: &KeyParts| KeyParts {
        root: None,
        ..parts.clone()
    };
    but_root(current) == but_root(wanted)
}

#[cfg(test)]
mod tests {
    use schemas::Sha256Digest;

    use super::*;

    fn parts() -> KeyParts {
        KeyParts {
            version: KEY_VERSION,
            tenant: None,
            trust: None,
            template_key: None,
            definition: json!({"name": "node"}),
            kernel: Sha256Digest::of("kernel"),
            agent: Sha256Digest::of("agent"),
            root: Some(Sha256Digest::of("root")),
            host_class: "fake-1-none-0123abcd".parse().unwrap(),
            cpu_model: "host".into(),
            vcpu: 1,
            memory_mib: 256,
            disk_mib: 256,
            inputs: BTreeMap::new(),
            egress: json!(null),
            ca: None,
            salt: String::new(),
        }
    }

    #[test]
    fn a_template_serves_until_a_part_other_than_its_root_changes() {
        let wanted = KeyParts {
            root: None,
            ..parts()
        };
        assert!(is_current(&parts(), &wanted));
        let changes: [fn(&mut KeyParts); 6] = [
            |parts| parts.definition = json!({"name": "node", "setup": []}),
            |parts| parts.kernel = Sha256Digest::of("another"),
            |parts| parts.agent = Sha256Digest::of("another"),
            |parts| parts.host_class = "fake-2-none-0123abcd".parse().unwrap(),
            |parts| parts.ca = Some(Sha256Digest::of("ca")),
            |parts| parts.salt = "x".into(),
        ];
        for change in changes {
            let mut current = parts();
            change(&mut current);
            assert!(!is_current(&current, &wanted));
        }
    }
}
