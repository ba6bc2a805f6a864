//! What a template would be made of here and now, and whether the one that is there is still that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use schemas::Template;
use schemas::template::Ca;
use serde_json::{Value, json};
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
        let (make, agent) = (self.make_initramfs, self.config.agent.clone());
        let (modules, to) = (kernel.modules, initrd.clone());
        tokio::task::spawn_blocking(move || make(&agent, &modules, &to))
            .await
            .expect("making an initramfs neither panics nor is it cancelled")
            .map_err(BakeError::disk(
                "make an initramfs from",
                &self.config.agent,
            ))?;
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
            definition: content(template),
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

/// Whether a template that was published at `created_at` may still be derived from at `now`.
pub(crate) fn is_fresh(template: &Template, created_at: Timestamp, now: Timestamp) -> bool {
    let limit = Duration::from_secs(template.refresh_s.min(template.ttl_s));
    // A clock that runs behind that of another bakery makes no template old.
    Duration::try_from(now.duration_since(created_at)).map_or(true, |age| age <= limit)
}

/// What of a definition decides the template's bytes: all but how long it serves.
fn content(template: &Template) -> Value {
    let mut definition = json!(template);
    if let Some(fields) = definition.as_object_mut() {
        fields.retain(|name, _| !["refresh_s", "ttl_s"].contains(&name.as_str()));
    }
    definition
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

    fn template(refresh_s: u64, ttl_s: u64) -> Template {
        let definition = json!({
            "name": "node", "base": {"debian": {"suite": "a"}}, "refresh_s": refresh_s, "ttl_s": ttl_s
        });
        Template::parse(definition.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_template_serves_until_it_is_to_be_refreshed_or_has_outlived_its_time() {
        let published: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        let after = |seconds: i64| published + jiff::SignedDuration::from_secs(seconds);
        for (refresh_s, ttl_s) in [(60, 90), (90, 60)] {
            let template = template(refresh_s, ttl_s);
            for (seconds, fresh) in [(-5, true), (0, true), (60, true), (61, false)] {
                assert_eq!(is_fresh(&template, published, after(seconds)), fresh);
            }
        }
    }

    #[test]
    fn how_long_a_template_serves_is_not_in_its_key() {
        let (one, other) = (content(&template(60, 90)), content(&template(600, 900)));
        assert_eq!(one, other);
        assert_eq!(one["name"], "node");
        assert_eq!(one.get("ttl_s"), None);
    }
}
