//! The beginning of a snapshot key, by which a person names one.

use std::fmt;
use std::str::FromStr;

use crate::digest::Sha256Digest;
use crate::text::{TextError, quoted};

/// 6 digits: among a million snapshots two share them once in sixteen, and then more are asked for.
const SHORTEST: usize = 6;

/// All the digits of a key.
const LONGEST: usize = 64;

/// The first digits of a key, or all of it. `sha256:` may stand before them, as in a job's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// Whether the key begins so.
    pub fn begins(&self, key: &Sha256Digest) -> bool {
        key.to_string().starts_with(&self.0)
    }
}

impl FromStr for KeyPrefix {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if (SHORTEST..=LONGEST).contains(&digits.len()) && digits.bytes().all(hexadecimal) {
            return Ok(Self(digits.to_owned()));
        }
        Err(TextError::new(format!(
            "must be {SHORTEST} to {LONGEST} lower-case hexadecimal digits, is {}",
            quoted(text)
        )))
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_given_by_six_digits_at_least() {
        let key = Sha256Digest::of("a");
        let whole = key.to_string();
        for text in [&whole, &whole[..6], &format!("sha256:{whole}")] {
            assert!(text.parse::<KeyPrefix>().unwrap().begins(&key));
        }
        let said = |text: &str| text.parse::<KeyPrefix>().unwrap_err().to_string();
        for text in [&whole[..5], "", "WIDGET", &format!("{whole}0")] {
            assert!(said(text).contains("6 to 64 lower-case hexadecimal digits"));
        }
    }
}
