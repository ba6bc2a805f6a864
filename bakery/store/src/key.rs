//! The snapshot key: a digest over everything that could change the frozen bytes or whether they can be restored.
//!
//! What always holds: equal parts give equal keys, on any machine and in any version that knows [`KEY_VERSION`]; a part
//! that differs gives another key. There is no near match.

use std::collections::BTreeMap;

use schemas::{Environment, HostClass, Sha256Digest, Token, TreePath, Trust, canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::manifest::Manifest;

/// Version of [`KeyParts`]. It rises when a part is added or read differently, and every snapshot is then baked anew.
pub const KEY_VERSION: u32 = 1;

/// Everything that makes a snapshot what it is. A part that does not apply is `null`, never left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyParts {
    /// Always [`KEY_VERSION`].
    pub version: u32,
    /// Whose snapshot it is; none for a template, which serves all.
    pub tenant: Option<Token>,
    /// How far the authors of its inputs are trusted; none for a template.
    pub trust: Option<Trust>,
    /// The key of the template that an environment was forked from; none for a template.
    pub template_key: Option<Sha256Digest>,
    /// The definition of the template or environment, with its setup steps and variables.
    pub definition: Value,
    /// The kernel's image.
    pub kernel: Sha256Digest,
    /// The initial RAM filesystem: the agent's binary and the kernel modules that it loads.
    pub agent: Sha256Digest,
    /// The root filesystem's tar, sorted and clamped; none for an environment, whose template has it.
    pub root: Option<Sha256Digest>,
    /// Where it can be restored.
    pub host_class: HostClass,
    /// The guest's CPU model in full, of which the host class has eight digits of a digest.
    pub cpu_model: String,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Disk, in MiB.
    pub disk_mib: u32,
    /// Every declared input file with the digest of its bytes; empty for a template.
    pub inputs: BTreeMap<TreePath, Sha256Digest>,
    /// What the setup steps may reach, in the words of the definition. The hosts behind a registry's name are the operator's
    /// and may change: they decide whether a bake succeeds, and the digests in the lockfiles decide what it installs.
    pub egress: Value,
    /// The bundle of certificate authorities put into the guest; none if there is none.
    pub ca: Option<Sha256Digest>,
    /// Free text of the definition's author: changing it asks for a new bake.
    pub salt: String,
}

impl KeyParts {
    /// The parts of an environment that is forked from `template`, for the files `inputs` of one source.
    ///
    /// Whoever knows the definition, the template's manifest and the source computes the same key: the bakery that makes the
    /// snapshot and the worker that looks for it.
    pub fn environment(
        tenant: &Token,
        trust: Trust,
        template: &Manifest,
        definition: &Environment,
        inputs: BTreeMap<TreePath, Sha256Digest>,
    ) -> Self {
        let base = &template.parts;
        Self {
            version: KEY_VERSION,
            tenant: Some(tenant.clone()),
            trust: Some(trust),
            template_key: Some(template.key),
            definition: json!(definition),
            kernel: base.kernel,
            agent: base.agent,
            root: None,
            host_class: base.host_class.clone(),
            cpu_model: base.cpu_model.clone(),
            vcpu: base.vcpu,
            memory_mib: base.memory_mib,
            disk_mib: base.disk_mib,
            inputs,
            egress: json!(definition.network),
            ca: base.ca,
            salt: definition.salt.clone(),
        }
    }

    /// The snapshot key: SHA-256 over the parts as canonical JSON.
    pub fn key(&self) -> Sha256Digest {
        canonical::digest(self).expect("key parts are JSON: their maps have strings as keys")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::manifest::Details;

    pub(crate) fn parts() -> KeyParts {
        KeyParts {
            version: KEY_VERSION,
            tenant: Some("acme".parse().unwrap()),
            trust: Some(Trust::Untrusted),
            template_key: Some(Sha256Digest::of("template")),
            definition: json!({"name": "widget", "setup": []}),
            kernel: Sha256Digest::of("kernel"),
            agent: Sha256Digest::of("agent"),
            root: Some(Sha256Digest::of("root")),
            host_class: "qemu-7_2-tcg-0123abcd".parse().unwrap(),
            cpu_model: "max".to_owned(),
            vcpu: 1,
            memory_mib: 1024,
            disk_mib: 4096,
            inputs: BTreeMap::from([(
                "package-lock.json".parse().unwrap(),
                Sha256Digest::of("lock"),
            )]),
            egress: json!({"setup": ["registry.example.com:443"]}),
            ca: Some(Sha256Digest::of("ca")),
            salt: "a".to_owned(),
        }
    }

    #[test]
    fn equal_parts_give_equal_keys() {
        assert_eq!(parts().key(), parts().key());
        let json = serde_json::to_string(&parts()).unwrap();
        assert_eq!(
            serde_json::from_str::<KeyParts>(&json).unwrap().key(),
            parts().key()
        );
    }

    /// Fails when a part is added without raising the version: snapshots that exist would be lost silently.
    #[test]
    fn the_key_of_version_1_never_changes() {
        assert_eq!(
            parts().key().to_string(),
            "9b050ed4e1626551255c2e4a5ea9adfa998d0b4fb4578b83734a690a89ff9dc7"
        );
    }

    fn environment_key(template: &str, definition: &str, lock: &str) -> Sha256Digest {
        let mut base = parts();
        base.salt = template.to_owned();
        let details = Details::default();
        let template = Manifest::new(base, details, Vec::new(), Timestamp::UNIX_EPOCH);
        let definition = Environment::parse(definition.as_bytes()).unwrap();
        let inputs = BTreeMap::from([("lock".parse().unwrap(), Sha256Digest::of(lock))]);
        let tenant = "acme".parse().unwrap();
        KeyParts::environment(&tenant, Trust::Untrusted, &template, &definition, inputs).key()
    }

    #[test]
    fn an_environments_key_follows_its_template_its_definition_and_its_inputs() {
        let definition = r#"{"name": "widget", "template": "node", "inputs": ["lock"]}"#;
        let explicit = r#"{"name": "widget", "template": "node", "inputs": ["lock"], "setup": []}"#;
        let other = r#"{"name": "widget", "template": "node", "network": {"registries": ["npm"]}}"#;
        let key = environment_key("a", definition, "1");
        assert_eq!(key, environment_key("a", explicit, "1"));
        assert_ne!(key, environment_key("b", definition, "1"));
        assert_ne!(key, environment_key("a", other, "1"));
        assert_ne!(key, environment_key("a", definition, "2"));
    }

    #[test]
    fn every_part_changes_the_key() {
        let whole = serde_json::to_value(parts()).unwrap();
        let names: Vec<_> = whole.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), 17);
        for name in names {
            let mut changed = whole.clone();
            changed[&name] = other_value(&name, &whole[&name]);
            let changed: KeyParts = serde_json::from_value(changed).unwrap();
            assert_ne!(changed.key(), parts().key(), "{name}");
        }
    }

    fn other_value(name: &str, value: &Value) -> Value {
        match (name, value) {
            ("trust", _) => json!("trusted"),
            ("inputs", _) => json!({"package-lock.json": Sha256Digest::of("another lock")}),
            (_, Value::Number(number)) => json!(number.as_u64().unwrap() + 1),
            (_, Value::String(text)) if text.len() == 64 => json!(Sha256Digest::of("another")),
            (_, Value::String(text)) => json!(format!("{text}x")),
            (_, value) => json!([value]),
        }
    }
}
