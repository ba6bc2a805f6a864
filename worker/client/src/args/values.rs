//! Values of flags: what one argument may be.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use schemas::Token;
use schemas::job::OnMissing;
use schemas::source::ArchiveUri;

/// `[NAME: ]REST`. A colon and a space: a shell command may well start with `NAME=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The name, where one is given.
    pub(crate) name: Option<Token>,
    /// What is named.
    pub(crate) rest: String,
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair<N> {
    /// What stands before the first `=`.
    pub(crate) name: N,
    /// What stands after it.
    pub(crate) value: String,
}

impl FromStr for Named {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text
            .split_once(": ")
            .and_then(|(name, rest)| Some((Token::parse(name).ok()?, rest)));
        Ok(match named {
            Some((name, rest)) => Self {
                name: Some(name),
                rest: rest.trim().to_owned(),
            },
            None => Self {
                name: None,
                rest: text.to_owned(),
            },
        })
    }
}

impl<N: FromStr<Err: std::fmt::Display>> FromStr for Pair<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
        let name = name.parse().map_err(|error: N::Err| error.to_string())?;
        Ok(Self {
            name,
            value: value.to_owned(),
        })
    }
}

/// Where an archive lies.
pub(crate) fn archive_uri(text: &str) -> Result<ArchiveUri, String> {
    ArchiveUri::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// The words of messages.
pub(crate) fn on_missing() -> impl clap::builder::TypedValueParser<Value = OnMissing> {
    PossibleValuesParser::new(["bake", "cold", "fail"]).map(|word| {
        let value = serde_json::Value::String(word);
        serde_json::from_value(value).expect("each of these is a word of messages")
    })
}

#[cfg(test)]
mod tests {
    use schemas::EnvName;

    use super::*;

    fn named(text: &str) -> (Option<String>, String) {
        let Ok(named) = text.parse::<Named>();
        (named.name.map(|name| name.to_string()), named.rest)
    }

    #[test]
    fn a_name_ends_in_a_colon_and_a_space() {
        assert_eq!(named("make build"), (None, "make build".to_owned()));
        assert_eq!(
            named("test: npm test"),
            (Some("test".to_owned()), "npm test".to_owned())
        );
        assert_eq!(named("CC=clang make"), (None, "CC=clang make".to_owned()));
        assert_eq!(named("echo a: b"), (None, "echo a: b".to_owned()));
        assert_eq!(named("dist:**"), (None, "dist:**".to_owned()));
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        let pair: Pair<EnvName> = "A=b=c".parse().unwrap();
        assert_eq!((pair.name.as_str(), pair.value.as_str()), ("A", "b=c"));
        assert!("A".parse::<Pair<EnvName>>().is_err());
        assert!("1A=b".parse::<Pair<EnvName>>().is_err());
    }
}
