//! The bytes of files that git stores.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::GitError;

/// The bytes of files, asked for one after another from one git process.
#[derive(Debug)]
pub(crate) struct Blobs {
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    child: Child,
}

impl Blobs {
    /// Starts `git cat-file --batch`.
    pub(super) fn open(mut git: Command) -> Result<Self, GitError> {
        let mut child = git
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(GitError::Run)?;
        let piped = "it is a pipe, as asked for above";
        let ask = child.stdin.take().expect(piped);
        let answer = BufReader::new(child.stdout.take().expect(piped));
        Ok(Self { ask, answer, child })
    }

    /// Asks for a file: gives its size, and hands its bytes to `take`, which must read them all.
    pub(crate) fn read<T, E: From<io::Error> + From<GitError>>(
        &mut self,
        id: &str,
        take: impl FnOnce(u64, &mut dyn io::Read) -> Result<T, E>,
    ) -> Result<T, E> {
        writeln!(self.ask, "{id}")?;
        self.ask.flush()?;
        let mut header = String::new();
        self.answer.read_line(&mut header)?;
        let size = size_of_blob(&header).ok_or(GitError::Answer { said: header })?;
        let taken = take(size, &mut self.answer.by_ref().take(size))?;
        let mut end = [0];
        self.answer.read_exact(&mut end)?;
        Ok(taken)
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        // It only reads, and there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The size in `<id> blob <size>`.
fn size_of_blob(header: &str) -> Option<u64> {
    let mut words = header.split_whitespace().skip(1);
    if words.next()? != "blob" {
        return None;
    }
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_object_has_no_size() {
        assert_eq!(size_of_blob("abc blob 12\n"), Some(12));
        assert_eq!(size_of_blob("abc missing\n"), None);
        assert_eq!(size_of_blob("abc tree 12\n"), None);
        assert_eq!(size_of_blob(""), None);
    }
}
