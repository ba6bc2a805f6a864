//! The live log. A chunk's body is raw bytes, at most [`MAX_CHUNK_BYTES`]; where it belongs stands in its headers. Subject:
//! [`crate::names::log_subject`].
//!
//! | header | meaning |
//! | --- | --- |
//! | `Attempt` | the attempt, from 1 |
//! | `Step` | the step; absent where none wrote it |
//! | `Stream` | `stdout`, `stderr` or `system` |
//! | `Seq` | place among the chunks of this attempt, from 1; a gap is a lost chunk |
//! | `Time` | when the bytes were read, RFC 3339 |
//! | `Eof` | `true` on the last chunk of an attempt, which may have no bytes |

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::text::{TextError, quoted};
use crate::token::Token;

/// Most bytes of one chunk: a sixteenth of the default `max_payload` of a NATS server.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;

pub(crate) const ATTEMPT: &str = "Attempt";
pub(crate) const STEP: &str = "Step";
pub(crate) const STREAM: &str = "Stream";
pub(crate) const SEQ: &str = "Seq";
pub(crate) const TIME: &str = "Time";
pub(crate) const EOF: &str = "Eof";

/// Where a chunk belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The attempt, from 1.
    pub attempt: u32,
    /// The step that wrote it, if one did.
    pub step: Option<Token>,
    /// Which of its outputs.
    pub stream: LogStream,
    /// Place among the chunks of this attempt, from 1.
    pub seq: u64,
    /// When the bytes were read.
    pub time: Timestamp,
    /// Whether this is the last chunk of the attempt.
    pub eof: bool,
}

/// Which output a chunk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// The step's standard output.
    Stdout,
    /// The step's standard error.
    Stderr,
    /// The worker's own remarks.
    System,
}

impl ChunkHeader {
    /// Names and values, as they are put into a message.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            (ATTEMPT, self.attempt.to_string()),
            (STREAM, self.stream.to_string()),
            (SEQ, self.seq.to_string()),
            (TIME, self.time.to_string()),
        ];
        pairs.extend(self.step.as_ref().map(|step| (STEP, step.to_string())));
        pairs.extend(self.eof.then(|| (EOF, "true".to_owned())));
        pairs
    }

    /// Reads what [`ChunkHeader::to_pairs`] wrote; `value_of` looks a header up.
    pub fn read<'a>(value_of: impl Fn(&str) -> Option<&'a str>) -> Result<Self, TextError> {
        let needed = |name: &str| {
            value_of(name).ok_or_else(|| TextError::new(format!("must have the header {name}")))
        };
        Ok(Self {
            attempt: number(ATTEMPT, needed(ATTEMPT)?)?,
            step: value_of(STEP).map(str::parse).transpose()?,
            stream: needed(STREAM)?.parse()?,
            seq: number(SEQ, needed(SEQ)?)?,
            time: number(TIME, needed(TIME)?)?,
            eof: value_of(EOF) == Some("true"),
        })
    }
}

impl fmt::Display for LogStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        })
    }
}

impl FromStr for LogStream {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            "system" => Ok(Self::System),
            other => Err(TextError::new(format!(
                "must be `stdout`, `stderr` or `system`, is {}",
                quoted(other)
            ))),
        }
    }
}

/// The value of a header that is written as a number or a time.
fn number<T: FromStr>(name: &str, text: &str) -> Result<T, TextError> {
    text.parse().map_err(|_| {
        TextError::new(format!(
            "must have a header {name} that can be read, has {}",
            quoted(text)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_header_reads_back_what_it_writes() {
        let header = ChunkHeader {
            attempt: 2,
            step: Some(Token::parse("build").unwrap()),
            stream: LogStream::Stderr,
            seq: 7,
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            eof: true,
        };
        let pairs = header.to_pairs();
        let find = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(ChunkHeader::read(find).unwrap(), header);
    }

    #[test]
    fn a_chunk_without_its_headers_is_refused() {
        assert_eq!(
            ChunkHeader::read(|_| None).unwrap_err().to_string(),
            "must have the header Attempt"
        );
    }
}
