//! Reads what `git cat-file --batch` writes, as it comes, and hands each object to [`Objects`].
//!
//! ```text
//! stream = { object }      object = id SP kind SP size LF bytes LF
//! ```
//!
//! What writes it runs in a guest, so it may be anything: a line is bounded, a size is checked before a byte is kept, and an object that
//! git says is missing ends the reading.

use gix_hash::ObjectId;
use gix_object::Kind;

use crate::git::objects::{Incoming, Objects};
use crate::git::problem::GitProblem;

/// Longest line before an object: an id of 40 digits, the longest kind, a size of 20 digits, two spaces.
const MAX_LINE: usize = 40 + 6 + 20 + 2;

/// A stream that is being read.
pub(crate) struct Batch {
    objects: Objects,
    state: State,
}

/// What comes next.
enum State {
    /// The line before an object, of which this has come.
    Line(Vec<u8>),
    /// The rest of an object.
    Bytes(Incoming),
    /// The line feed after an object.
    End,
}

impl Batch {
    /// The objects of the stream will be added to `objects`.
    pub(crate) fn new(objects: Objects) -> Self {
        Self {
            objects,
            state: State::Line(Vec::new()),
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), GitProblem> {
        while !bytes.is_empty() {
            let taken = match std::mem::replace(&mut self.state, State::End) {
                State::Line(line) => self.line(line, bytes)?,
                State::Bytes(object) => self.bytes(object, bytes)?,
                State::End if bytes[0] == b'\n' => {
                    self.state = State::Line(Vec::new());
                    1
                }
                State::End => return Err(GitProblem::Stream("has no line feed after an object")),
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Ends the stream, which must be between two objects.
    pub(crate) fn finish(self) -> Result<Objects, GitProblem> {
        match self.state {
            State::Line(line) if line.is_empty() => Ok(self.objects),
            State::Line(_) | State::Bytes(_) | State::End => {
                Err(GitProblem::Stream("ends within an object"))
            }
        }
    }

    /// Adds to a line; returns how many bytes it took.
    fn line(&mut self, mut line: Vec<u8>, bytes: &[u8]) -> Result<usize, GitProblem> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if line.len() + part.len() > MAX_LINE {
            return Err(GitProblem::Stream("has a line that is too long"));
        }
        line.extend_from_slice(part);
        if end.is_none() {
            self.state = State::Line(line);
            return Ok(part.len());
        }
        let (id, kind, size) = parse(&line)?;
        let object = self.objects.begin(id, kind, size)?;
        self.go_on(object)?;
        Ok(part.len() + 1)
    }

    /// Adds to an object; returns how many bytes it took.
    fn bytes(&mut self, mut object: Incoming, bytes: &[u8]) -> Result<usize, GitProblem> {
        let room = usize::try_from(object.left).unwrap_or(usize::MAX);
        let taken = bytes.len().min(room);
        self.objects.take(&mut object, &bytes[..taken])?;
        self.go_on(object)?;
        Ok(taken)
    }

    /// Waits for the rest of `object`, or files it.
    fn go_on(&mut self, object: Incoming) -> Result<(), GitProblem> {
        if object.left > 0 {
            self.state = State::Bytes(object);
            return Ok(());
        }
        self.state = State::End;
        self.objects.complete(object)
    }
}

/// The id, kind and size that a line announces.
fn parse(line: &[u8]) -> Result<(ObjectId, Kind, u64), GitProblem> {
    let odd = GitProblem::Stream("has a line that announces no object");
    let Ok(line) = std::str::from_utf8(line) else {
        return Err(odd);
    };
    let words: Vec<_> = line.split(' ').collect();
    let Some(id) = words.first().and_then(|id| object_id(id)) else {
        return Err(odd);
    };
    match words[1..] {
        ["missing"] => Err(GitProblem::Missing(id)),
        [kind, size] => {
            let kind = Kind::from_bytes(kind.as_bytes()).ok();
            let digits = size.bytes().all(|byte| byte.is_ascii_digit());
            let size = size.parse().ok().filter(|_| digits);
            kind.zip(size)
                .map(|(kind, size)| (id, kind, size))
                .ok_or(odd)
        }
        _ => Err(odd),
    }
}

/// An id in its one spelling: 40 lower-case digits.
pub(crate) fn object_id(text: &str) -> Option<ObjectId> {
    let lower = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && text.len() == 40)
        .then(|| ObjectId::from_hex(text.as_bytes()).ok())
        .flatten()
}

#[cfg(test)]
mod tests;
