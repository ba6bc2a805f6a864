//! The environment that a job or a bake is for: one of the tenant's definitions by its name, or a whole definition inline.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::environment::Environment;
use crate::field_error::{self, FieldError};
use crate::token::Token;

/// Which environment. An object that has nothing but a `name` names a definition; every other is one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvironmentChoice {
    /// One of the tenant's definitions.
    Named(EnvironmentName),
    /// A definition that nobody has to have stored. Its name is shown in results and events, and stands in the subjects of its bakes.
    Inline(Box<Environment>),
}

/// An environment by its name in the tenant's definitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentName {
    /// The name.
    pub name: Token,
}

impl EnvironmentChoice {
    /// The environment's name.
    pub fn name(&self) -> &Token {
        match self {
            Self::Named(named) => &named.name,
            Self::Inline(environment) => &environment.name,
        }
    }

    /// The definition, where it is given here.
    pub fn inline(&self) -> Option<&Environment> {
        match self {
            Self::Named(_) => None,
            Self::Inline(environment) => Some(environment),
        }
    }

    /// Checks an inline definition, whose fields lie below `field`.
    pub(crate) fn check(&self, field: &str) -> Result<(), FieldError> {
        let Some(environment) = self.inline() else {
            return Ok(());
        };
        environment
            .check()
            .map_err(|error| FieldError::new(format!("{field}.{}", error.field), error.problem))
    }
}

impl From<Token> for EnvironmentChoice {
    fn from(name: Token) -> Self {
        Self::Named(EnvironmentName { name })
    }
}

/// Decided by the fields that are there, so that what is wrong with a definition is said of the definition.
impl<'de> Deserialize<'de> for EnvironmentChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let only_a_name = value
            .as_object()
            .is_some_and(|fields| fields.keys().all(|field| field == "name"));
        if only_a_name {
            return field_error::nested(value).map(Self::Named);
        }
        field_error::nested(value).map(Self::Inline)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_with_more_than_a_name_is_a_definition() {
        let read = |value| serde_json::from_value::<EnvironmentChoice>(value);
        let named = read(json!({"name": "widget"})).unwrap();
        assert_eq!((named.name().as_str(), named.inline()), ("widget", None));
        let inline = read(json!({"name": "widget", "template": "node"})).unwrap();
        assert_eq!(inline.inline().unwrap().template.as_str(), "node");
        let error = read(json!({"name": "widget", "inputs": []})).unwrap_err();
        assert!(error.to_string().contains("template"), "{error}");
        assert!(read(json!("widget")).is_err());
    }
}
