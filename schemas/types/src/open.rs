//! A word of a set that may grow: readers meet words that they do not know yet, and must not fail on them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A word of the set `T`, or one that a newer publisher added to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Open<T> {
    /// A word that this version knows.
    Known(T),
    /// Any other word.
    Other(String),
}

impl<T> Open<T> {
    /// The word, if this version knows it.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(word) => Some(word),
            Self::Other(_) => None,
        }
    }
}

impl<T> From<T> for Open<T> {
    fn from(word: T) -> Self {
        Self::Known(word)
    }
}

impl<T: fmt::Display> fmt::Display for Open<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(word) => word.fmt(formatter),
            Self::Other(word) => formatter.write_str(word),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Open<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Open{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<T>(), {"type": "string"}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn an_unknown_word_is_kept_as_it_is() {
        let reason: Open<Reason> = serde_json::from_str("\"step_timeout\"").unwrap();
        assert_eq!(reason, Reason::StepTimeout.into());
        let reason: Open<Reason> = serde_json::from_str("\"sun_flare\"").unwrap();
        assert_eq!(reason.to_string(), "sun_flare");
        assert_eq!(serde_json::to_string(&reason).unwrap(), "\"sun_flare\"");
    }
}
