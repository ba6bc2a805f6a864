//! Reading a message strictly, and saying which field is wrong.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Why a message is refused: the field, by its path, and what is wrong with it, as in
/// `steps[0].timeout_s: must be between 1 and 86400, is 0`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The path of the field, `body` for the message as a whole.
    pub field: String,
    /// What is wrong, as a predicate.
    pub problem: String,
}

/// What [`FieldError::field`] is when no single field is to blame.
const WHOLE: &str = "body";

/// Most entries of an ordinary list: artifacts, the patterns of one, labels.
pub(crate) const MAX_LIST: usize = 64;

impl FieldError {
    /// `field` is wrong as `problem` says.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// Refuses a body that is too long, is not JSON, or is not a `T`.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], max_bytes: usize) -> Result<T, FieldError> {
    if body.len() > max_bytes {
        return Err(FieldError::new(
            WHOLE,
            format!("must be at most {max_bytes} bytes, is {}", body.len()),
        ));
    }
    if is_array(body) {
        return Err(FieldError::new(WHOLE, "must be a JSON object, is an array"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, error.inner())
    })?;
    reader.end().map_err(|error| explain(".", &error))?;
    Ok(value)
}

/// Stands around the path in the error of a [`nested`] value.
const NESTED: char = '\u{1f}';

/// Reads a part of a message whose type is known only once it was looked at. The reader of the whole message puts the path of the part
/// before the path inside it.
pub(crate) fn nested<T: DeserializeOwned, E: serde::de::Error>(
    part: serde_json::Value,
) -> Result<T, E> {
    serde_path_to_error::deserialize(part).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        E::custom(format_args!("{NESTED}{path}{NESTED}{inner}"))
    })
}

/// Whether a body is an array, which serde would take for a struct, field by field.
pub(crate) fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

/// Refuses a number outside its range.
pub(crate) fn in_range(field: &str, value: u64, min: u64, max: u64) -> Result<(), FieldError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("must be between {min} and {max}, is {value}"),
    ))
}

/// Refuses a list with fewer than `min` or more than [`MAX_LIST`] entries.
pub(crate) fn in_range_of_list(field: &str, len: usize, min: usize) -> Result<(), FieldError> {
    if (min..=MAX_LIST).contains(&len) {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("must have {min} to {MAX_LIST} entries, has {len}"),
    ))
}

/// Refuses the second of two equal names; `fields` gives each with the path of its field.
pub(crate) fn all_different<'a>(
    fields: impl IntoIterator<Item = (String, &'a str)>,
) -> Result<(), FieldError> {
    let mut seen = std::collections::BTreeSet::new();
    for (field, name) in fields {
        if !seen.insert(name) {
            return Err(FieldError::new(
                field,
                format!("must differ from every other, is {name:?} again"),
            ));
        }
    }
    Ok(())
}

/// serde's sentence, turned so that the field stands first.
fn explain(path: &str, error: &serde_json::Error) -> FieldError {
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            FieldError::new(WHOLE, format!("is not JSON: {error}"))
        }
        Category::Data => explain_data(path, &sentence(error)),
    }
}

fn explain_data(path: &str, sentence: &str) -> FieldError {
    let path = if path == "." { "" } else { path };
    let inside = sentence.strip_prefix(NESTED);
    if let Some((below, sentence)) = inside.and_then(|rest| rest.split_once(NESTED)) {
        let path = if below == "." {
            path.to_owned()
        } else {
            join(path, below)
        };
        return explain_data(&path, sentence);
    }
    if let Some(name) = quoted_after(sentence, "missing field ") {
        return FieldError::new(join(path, name), "is missing");
    }
    if let Some(name) = quoted_after(sentence, "duplicate field ") {
        return FieldError::new(ending_in(path, name), "is given twice");
    }
    if let Some(name) = quoted_after(sentence, "unknown field ") {
        return FieldError::new(ending_in(path, name), "is not a field of this message");
    }
    FieldError::new(if path.is_empty() { WHOLE } else { path }, sentence)
}

/// `serde_json` appends where in the text it stopped; the field says it better.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position)
        .map_or(text.clone(), str::to_owned)
}

/// The word in backticks that follows `start`.
fn quoted_after<'a>(sentence: &'a str, start: &str) -> Option<&'a str> {
    let rest = sentence.strip_prefix(start)?.strip_prefix('`')?;
    rest.split_once('`').map(|(name, _)| name)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// `path` where it already leads to the field `name`, as it does once its key was read; else the field below it.
fn ending_in(path: &str, name: &str) -> String {
    let there = path == name
        || path
            .strip_suffix(name)
            .is_some_and(|start| start.ends_with('.'));
    if there {
        path.to_owned()
    } else {
        join(path, name)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "count")]
        _count: u8,
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (body, sentence) in [
            (
                "{",
                "body: is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                "{\"inner\":[]} x",
                "body: is not JSON: trailing characters at line 1 column 14",
            ),
            ("[]", "body: must be a JSON object, is an array"),
            (
                "7",
                "body: invalid type: integer `7`, expected struct Outer",
            ),
            ("{}", "inner: is missing"),
            (r#"{"inner":[],"x":1}"#, "x: is not a field of this message"),
            (
                r#"{"inner":[{"count":1,"y.z":1}]}"#,
                "inner[0].y.z: is not a field of this message",
            ),
            (
                r#"{"inner":[{"count":1},{}]}"#,
                "inner[1].count: is missing",
            ),
            (
                r#"{"inner":[{"count":1,"count":1}]}"#,
                "inner[0].count: is given twice",
            ),
            (
                r#"{"inner":[{"count":300}]}"#,
                "inner[0].count: invalid value: integer `300`, expected u8",
            ),
        ] {
            assert_eq!(
                parse::<Outer>(body.as_bytes(), 100)
                    .unwrap_err()
                    .to_string(),
                sentence
            );
        }
    }

    #[test]
    fn a_body_beyond_its_limit_is_not_read() {
        assert_eq!(
            parse::<Outer>(b"{}", 1).unwrap_err().to_string(),
            "body: must be at most 1 bytes, is 2"
        );
    }
}
