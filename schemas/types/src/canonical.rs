//! Canonical JSON: object keys sorted by their bytes, no white space. Equal values give equal bytes, so their digest is a key.

use serde::Serialize;
use serde_json::Value;

use crate::digest::Sha256Digest;

/// `value` as canonical JSON. Fails only where `value` cannot be JSON at all: a map whose keys are not strings.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    write(&serde_json::to_value(value)?, &mut out)?;
    Ok(out)
}

/// The digest of `value`'s canonical JSON.
pub fn digest(value: &impl Serialize) -> Result<Sha256Digest, serde_json::Error> {
    to_vec(value).map(Sha256Digest::of)
}

/// Sorts by hand, since whether `serde_json` does depends on a feature that any crate of a build may turn on.
fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            serde_json::to_writer(out, value)
        }
        Value::Array(items) => write_between(b'[', items, b']', out, write),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_bytes());
            write_between(b'{', fields, b'}', out, |(name, value), out| {
                serde_json::to_writer(&mut *out, name)?;
                out.push(b':');
                write(value, out)
            })
        }
    }
}

/// Writes `items` with commas between them.
fn write_between<T>(
    open: u8,
    items: impl IntoIterator<Item = T>,
    close: u8,
    out: &mut Vec<u8>,
    mut one: impl FnMut(T, &mut Vec<u8>) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        one(item, out)?;
    }
    out.push(close);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth_and_nothing_is_padded() {
        let value = json!({"b": [1, {"z": null, "a": "x\n"}], "a": true, "B": 1.5});
        assert_eq!(
            to_vec(&value).unwrap(),
            br#"{"B":1.5,"a":true,"b":[1,{"a":"x\n","z":null}]}"#
        );
    }
}
