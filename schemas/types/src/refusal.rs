//! What is told of a body that is no job, or whose id belongs to another body: by the worker that takes it, or by the bakery's janitor
//! where no worker does. Both say the same, so whoever comes second changes nothing.

use crate::field_error::FieldError;
use crate::job::{Job, peek_id};
use crate::reason::Reason;
use crate::token::Token;

/// 200 bytes of a body that has no name of its own: its publisher has nothing else to know it by.
const QUOTED_BYTES: usize = 200;

/// Why a message of the queue is no job, and under which name its result stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The result's `job_id`: the id where the body owns it, else `invalid-<stream sequence>`.
    pub name: Token,
    /// `invalid_job` or `id_conflict`.
    pub reason: Reason,
    /// The same in one sentence for a person.
    pub message: String,
}

impl Refusal {
    /// A body without an id that can be used. `sequence` is its message's, in its stream.
    pub fn unnamed(sequence: u64, body: &[u8]) -> Self {
        let problem = match Job::parse(body) {
            Ok(job) => format!("id: {} cannot be used", job.id),
            Err(error) => error.to_string(),
        };
        Self {
            name: invalid_name(sequence),
            reason: Reason::InvalidJob,
            message: quoting(&problem, body),
        }
    }

    /// A body whose `id` belongs to another.
    pub fn conflict(sequence: u64, id: &Token, body: &[u8]) -> Self {
        Self {
            name: invalid_name(sequence),
            reason: Reason::IdConflict,
            message: quoting(&format!("id: another job has {id}"), body),
        }
    }

    /// A body that owns its `id`, and has this error.
    pub fn invalid(id: Token, error: &FieldError) -> Self {
        Self {
            name: id,
            reason: Reason::InvalidJob,
            message: error.to_string(),
        }
    }
}

/// The id of a body, as a word of subjects and keys; none where it has none that can be used.
pub fn job_id(body: &[u8]) -> Option<Token> {
    peek_id(body).map(Token::from)
}

fn invalid_name(sequence: u64) -> Token {
    format!("invalid-{sequence}")
        .parse()
        .expect("a word and a number make a token")
}

fn quoting(problem: &str, body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(QUOTED_BYTES)]);
    format!(
        "{problem}; the body begins with \"{}\"",
        start.escape_debug()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_an_id_is_known_by_its_place_and_its_first_bytes() {
        let refusal = Refusal::unnamed(7, &[b"{\"x\n\": ".as_slice(), &[b'y'; 300]].concat());
        assert_eq!(refusal.name.as_str(), "invalid-7");
        let quoted = r#"the body begins with "{\"x\n\": yyy"#;
        assert!(refusal.message.contains(quoted), "{}", refusal.message);
        assert!(refusal.message.len() < 400, "{}", refusal.message);
    }

    #[test]
    fn a_body_whose_id_is_taken_leaves_that_id_alone() {
        let refusal = Refusal::conflict(8, &"j1".parse().unwrap(), b"{}");
        let expected = (Reason::IdConflict, "invalid-8");
        assert_eq!((refusal.reason, refusal.name.as_str()), expected);
        assert!(
            refusal
                .message
                .starts_with("id: another job has j1; the body")
        );
    }
}
