//! A snapshot key's parts, one a row, and which of them differ between two keys.
//!
//! What always holds: two keys that differ have a row that differs, for every part of a key is in some row.

use serde::Serialize;
use serde_json::Value;
use store::KeyParts;

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// Its name; that of an input has the path, and that of a part of the definition its field.
    pub(crate) part: String,
    /// Its value: text as it is, anything else as JSON.
    pub(crate) value: String,
}

/// A part that two keys do not share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Its name.
    pub(crate) part: String,
    /// What the first has; none where it has no such part.
    pub(crate) first: Option<String>,
    /// What the second has.
    pub(crate) second: Option<String>,
}

/// Every part, in the order in which they are documented: whose it is, what it was made from, where it runs. The fields of objects
/// follow their bytes.
pub(crate) fn rows(parts: &KeyParts) -> Vec<Row> {
    let value = serde_json::to_value(parts).expect("key parts are JSON");
    let mut rows = Vec::new();
    for part in ORDER {
        add(&mut rows, part, &value[part], DEPTH);
    }
    rows
}

/// What differs, in the same order.
pub(crate) fn differences(first: &KeyParts, second: &KeyParts) -> Vec<Difference> {
    let (first, mut second) = (rows(first), rows(second));
    let mut found = Vec::new();
    for row in first {
        let other = second.iter().position(|other| other.part == row.part);
        let other = other.map(|index| second.remove(index).value);
        if other.as_ref() != Some(&row.value) {
            found.push(Difference {
                part: row.part,
                first: Some(row.value),
                second: other,
            });
        }
    }
    found.extend(second.into_iter().map(|row| Difference {
        part: row.part,
        first: None,
        second: Some(row.value),
    }));
    found
}

/// All parts of [`KeyParts`]; a test compares.
const ORDER: [&str; 17] = [
    "version",
    "tenant",
    "trust",
    "template_key",
    "definition",
    "inputs",
    "egress",
    "salt",
    "kernel",
    "agent",
    "root",
    "ca",
    "host_class",
    "cpu_model",
    "vcpu",
    "memory_mib",
    "disk_mib",
];

/// 1: an input has a row, and a field of the definition; what lies deeper is read as a whole.
const DEPTH: u32 = 1;

fn add(rows: &mut Vec<Row>, part: &str, value: &Value, depth: u32) {
    match value {
        Value::Object(fields) if depth > 0 && !fields.is_empty() => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_bytes());
            for (name, value) in fields {
                add(rows, &format!("{part}.{name}"), value, depth - 1);
            }
        }
        Value::String(text) => rows.push(Row {
            part: part.to_owned(),
            value: text.clone(),
        }),
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {
            rows.push(Row {
                part: part.to_owned(),
                value: value.to_string(),
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use schemas::{Sha256Digest, Trust};
    use serde_json::json;

    use super::*;

    pub(crate) fn parts() -> KeyParts {
        KeyParts {
            version: store::KEY_VERSION,
            tenant: Some("acme".parse().unwrap()),
            trust: Some(Trust::Untrusted),
            template_key: Some(Sha256Digest::of("template")),
            definition: json!({"name": "widget", "inputs": ["lock"], "setup": [{"name": "deps"}]}),
            kernel: Sha256Digest::of("kernel"),
            agent: Sha256Digest::of("agent"),
            root: None,
            host_class: "qemu-7_2-tcg-0123abcd".parse().unwrap(),
            cpu_model: "max".to_owned(),
            vcpu: 1,
            memory_mib: 1024,
            disk_mib: 4096,
            inputs: [("lock".parse().unwrap(), Sha256Digest::of("1"))].into(),
            egress: json!({"registries": []}),
            ca: None,
            salt: String::new(),
        }
    }

    #[test]
    fn every_part_has_a_row() {
        let value = serde_json::to_value(parts()).unwrap();
        let all: BTreeSet<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(all, BTreeSet::from(ORDER));
        let rows = rows(&parts());
        let of = |part: &str| {
            rows.iter()
                .find(|row| row.part == part)
                .unwrap()
                .value
                .clone()
        };
        assert_eq!(of("inputs.lock"), Sha256Digest::of("1").to_string());
        assert_eq!(of("definition.setup"), r#"[{"name":"deps"}]"#);
        assert_eq!(
            (of("tenant"), of("root"), of("vcpu")),
            ("acme".into(), "null".into(), "1".into())
        );
    }

    #[test]
    fn only_what_differs_is_told_also_what_one_of_them_does_not_have() {
        assert_eq!(differences(&parts(), &parts()), []);
        let mut other = parts();
        other.inputs = [
            ("lock".parse().unwrap(), Sha256Digest::of("2")),
            ("package.json".parse().unwrap(), Sha256Digest::of("p")),
        ]
        .into();
        other.memory_mib = 2048;
        let found = differences(&parts(), &other);
        let told: Vec<_> = found.iter().map(|one| one.part.as_str()).collect();
        assert_eq!(told, ["inputs.lock", "memory_mib", "inputs.package.json"]);
        assert_eq!(found[1].first.as_deref(), Some("1024"));
        assert_eq!(found[2].first, None);
        let back = differences(&other, &parts());
        assert!(
            back.iter()
                .any(|one| one.part == "inputs.package.json" && one.second.is_none())
        );
    }

    #[test]
    fn two_keys_that_differ_have_a_row_that_differs() {
        let mut other = parts();
        other.salt = "x".into();
        assert_ne!(parts().key(), other.key());
        assert_eq!(differences(&parts(), &other)[0].part, "salt");
    }
}
