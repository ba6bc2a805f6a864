//! Dead letters one below the other, or as one JSON array; each is written when it is added, and nothing of it is kept.

use std::io::{self, Write};

use schemas::JobSubject;
use schemas::dead::DeadLetter;

use crate::summary::one_line;

/// A list that is being written.
#[derive(Debug)]
pub(super) struct Listing<W> {
    out: W,
    as_json: bool,
    is_empty: bool,
}

impl<W: Write> Listing<W> {
    /// One without letters.
    pub(super) fn begin(mut out: W, as_json: bool) -> io::Result<Self> {
        if as_json {
            write!(out, "[")?;
        }
        Ok(Self {
            out,
            as_json,
            is_empty: true,
        })
    }

    /// The next letter.
    pub(super) fn add(&mut self, letter: &DeadLetter) -> io::Result<()> {
        if !self.as_json {
            return writeln!(self.out, "{}", line(letter));
        }
        if !self.is_empty {
            write!(self.out, ",")?;
        }
        self.is_empty = false;
        Ok(serde_json::to_writer(&mut self.out, letter)?)
    }

    /// No further letter comes.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.as_json {
            writeln!(self.out, "]")?;
        }
        self.out.flush()
    }
}

/// One of them on one line.
fn line(letter: &DeadLetter) -> String {
    let subject = letter.subject.parse::<JobSubject>();
    let tenant = subject.map_or_else(|_| "?".to_owned(), |subject| subject.tenant.to_string());
    let attempts = match letter.attempts.len() {
        1 => "1 attempt".to_owned(),
        more => format!("{more} attempts"),
    };
    format!(
        "{:.0}  {tenant}  {}  {}, {attempts}: {}",
        letter.time,
        letter.job_id,
        one_line(&letter.reason.to_string()),
        one_line(&letter.message)
    )
}

#[cfg(test)]
mod tests {
    use schemas::Open;

    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../../schemas/examples/dead-letter.json");

    fn golden() -> DeadLetter {
        DeadLetter::parse(GOLDEN).unwrap()
    }

    #[test]
    fn a_dead_letter_is_told_on_one_line() {
        let id = "0193a6c2-7f52-7c1e-9a51-2f6f0f6d2b11";
        let words = "1 attempt failed for the hosts' own trouble";
        assert_eq!(
            line(&golden()),
            format!("2026-11-24T08:00:31Z  acme  {id}  max_attempts, 1 attempt: {words}")
        );
        let letter = DeadLetter {
            reason: Open::Other("new\u{1b}[2J\n".to_owned()),
            attempts: Vec::new(),
            ..golden()
        };
        let told = line(&letter);
        assert!(told.contains("0 attempts: ") && !told.contains(char::is_control));
    }

    #[test]
    fn as_json_the_letters_are_one_array_of_which_each_is_written_when_it_is_added() {
        for count in 0..3 {
            let mut written = Vec::new();
            let mut listing = Listing::begin(&mut written, true).unwrap();
            for added in 0..count {
                let before = listing.out.len();
                listing.add(&golden()).unwrap();
                assert!(listing.out.len() > before, "letter {added}");
            }
            listing.end().unwrap();
            let array: Vec<DeadLetter> = serde_json::from_slice(&written).unwrap();
            assert_eq!(array, vec![golden(); count]);
            assert!(written.ends_with(b"]\n"));
        }
    }
}
