//! Values of flags: what one argument may be.

use std::fmt;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use schemas::job::OnMissing;
use schemas::source::ArchiveUri;
use schemas::{Sha256Digest, Token};

/// 6 digits, as `bakery inspect` asks for: among a million snapshots two share them once in sixteen, and then more are asked for.
const SHORTEST_PREFIX: usize = 6;

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

/// The first digits of a key, or all of it. `sha256:` may stand before them, as in a job's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyPrefix(String);

impl KeyPrefix {
    /// Whether the key begins so.
    pub(crate) fn begins(&self, key: &Sha256Digest) -> bool {
        key.to_string().starts_with(&self.0)
    }
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

impl FromStr for KeyPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if (SHORTEST_PREFIX..=64).contains(&digits.len()) && digits.bytes().all(hexadecimal) {
            return Ok(Self(digits.to_owned()));
        }
        Err(format!(
            "must be {SHORTEST_PREFIX} to 64 lower-case hexadecimal digits, is {text:.80?}"
        ))
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
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

    #[test]
    fn a_key_is_given_by_six_digits_at_least() {
        let key = Sha256Digest::of("a");
        let whole = key.to_string();
        for text in [&whole, &whole[..6], &format!("sha256:{whole}")] {
            assert!(text.parse::<KeyPrefix>().unwrap().begins(&key));
        }
        let said = |text: &str| text.parse::<KeyPrefix>().unwrap_err();
        for text in [&whole[..5], "", "WIDGET", &format!("{whole}0")] {
            assert!(said(text).contains("6 to 64 lower-case hexadecimal digits"));
        }
    }
}
