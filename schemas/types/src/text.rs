//! Strings that have been checked: the macro behind [`crate::Token`], [`crate::TreePath`] and the like.
//!
//! A value of such a type always satisfies its rule: the only ways to one are `parse` and deserialisation, and both check.

use std::fmt;

/// 128 characters: enough to recognise what somebody wrote, and few enough for a log line and a result.
const QUOTED_CHARS: usize = 128;

/// Why a text is not a value of the type it was read as. Displays as a predicate: `must be …`, `must not …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(pub(crate) String);

impl TextError {
    /// A refusal with this sentence.
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// `text` in quotation marks, with its control characters escaped. Of a long text only the first 128 characters stand there, and `…`
/// behind them: whoever writes a message decides how long its texts are. A precision (`{text:.128?}`) does not do it: it cuts nothing.
pub fn quoted(text: &str) -> impl fmt::Display {
    fmt::from_fn(
        move |formatter| match text.char_indices().nth(QUOTED_CHARS) {
            Some((cut, _)) => write!(formatter, "{:?}…", &text[..cut]),
            None => write!(formatter, "{text:?}"),
        },
    )
}

/// Makes a string newtype that checks with `$check` and describes itself in JSON Schema with `$schema`.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, check: $check:path, schema: $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and takes it.
            pub fn parse(text: impl Into<String>) -> Result<Self, $crate::text::TextError> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text::TextError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

pub(crate) use text_type;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_quoted_whole_and_a_long_one_is_cut() {
        assert_eq!(quoted("a\nb").to_string(), r#""a\nb""#);
        let whole = "é".repeat(QUOTED_CHARS);
        assert_eq!(quoted(&whole).to_string(), format!("\"{whole}\""));
        let long = "é".repeat(100_000);
        assert_eq!(quoted(&long).to_string(), format!("\"{whole}\"…"));
    }

    #[test]
    fn no_refusal_repeats_a_text_however_long_it_is() {
        let long = "/".repeat(100_000);
        let refused: [(&str, Option<TextError>); 8] = [
            ("uri", long.parse::<crate::ObjectUri>().err()),
            ("commit", long.parse::<crate::digest::GitCommit>().err()),
            ("https", crate::https::HttpsUri::parse(&*long).err()),
            ("endpoint", crate::https::HostPort::parse(&*long).err()),
            ("range", crate::https::AddressRange::parse(&*long).err()),
            ("trust", long.parse::<crate::Trust>().err()),
            (
                "trigger",
                long.parse::<crate::names::BakeTriggerSubject>().err(),
            ),
            ("definition", long.parse::<crate::names::Definition>().err()),
        ];
        for (what, refusal) in refused {
            let length = refusal.expect(what).to_string().len();
            assert!(length < 300, "{what}: {length} bytes");
        }
    }
}
