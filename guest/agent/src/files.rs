//! Lists and reads regular files.
//!
//! What always holds: only regular files are listed or read, and no symbolic link is followed; a listing is sorted by path.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use glob::{MatchOptions, Pattern};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use wire::frame::MAX_DATA;
use wire::{Found, Lane, ListSpec, ReadSpec, ToHost};

use crate::beneath;
use crate::operations::Failure;
use crate::session::Half;

/// Most files and directories that one listing looks at: a tree of this size lists in some seconds even under emulation.
const MAX_LOOKED_AT: usize = 2_000_000;

/// Files in one message. A path has at most 4,096 bytes, so 15 of them fit whatever they are; the rest is overhead.
const BATCH: usize = 15;

const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Lists what `spec` asks for.
pub(crate) fn list(half: &Half, spec: &ListSpec) -> Result<(), Failure> {
    let mut search = Search {
        root: Path::new(&spec.root),
        found: BTreeMap::new(),
        looked_at: 0,
    };
    for glob in &spec.globs {
        let what = format!("glob {glob:?}");
        let pattern = Pattern::new(glob).map_err(Failure::doing(&what))?;
        search
            .walk(&literal_start(glob), &pattern)
            .map_err(Failure::doing(&what))?;
    }
    let files: Vec<Found> = search
        .found
        .into_values()
        .take(spec.limit as usize + 1)
        .collect();
    for batch in files.chunks(BATCH) {
        half.send(&ToHost::Found(batch.to_vec()))?;
    }
    Ok(())
}

/// The directories that a glob names before its first wildcard: all that it matches lies there.
fn literal_start(glob: &str) -> String {
    let literal = |part: &&str| !part.contains(['*', '?', '[']);
    let mut parts: Vec<&str> = glob.split('/').take_while(literal).collect();
    if parts.len() == glob.split('/').count() {
        // No wildcard at all: the last part is the file itself.
        parts.pop();
    }
    parts.join("/")
}

struct Search<'a> {
    root: &'a Path,
    found: BTreeMap<String, Found>,
    looked_at: usize,
}

impl Search<'_> {
    /// Looks at everything below `start`, depth first.
    fn walk(&mut self, start: &str, pattern: &Pattern) -> io::Result<()> {
        let mut todo = vec![start.to_owned()];
        while let Some(directory) = todo.pop() {
            let path = self.root.join(&directory);
            if !std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                continue;
            }
            for entry in std::fs::read_dir(&path)? {
                let entry = entry?;
                self.looked_at += 1;
                if self.looked_at > MAX_LOOKED_AT {
                    return Err(io::Error::other(
                        "the tree holds more than two million files",
                    ));
                }
                let name = entry.file_name().into_string().map_err(|name| {
                    io::Error::other(format!(
                        "the name {} in {directory:?} is not UTF-8",
                        name.display()
                    ))
                })?;
                let inner = if directory.is_empty() {
                    name
                } else {
                    format!("{directory}/{name}")
                };
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    todo.push(inner);
                } else if kind.is_file() && pattern.matches_with(&inner, MATCHING) {
                    let metadata = entry.metadata()?;
                    let (mode, size) = (metadata.mode() & 0o7777, metadata.len());
                    self.found.insert(
                        inner.clone(),
                        Found {
                            path: inner,
                            mode,
                            size,
                        },
                    );
                }
            }
        }
        Ok(())
    }
}

/// Reads one file: what it is, then its bytes. It is read twice, first for its digest, so that the host knows where the
/// bytes go before they come.
pub(crate) fn read(half: &Half, spec: &ReadSpec) -> Result<(), Failure> {
    let what = format!("read {}", spec.path);
    beneath::check(&spec.path).map_err(Failure::Problem)?;
    let root = beneath::open_root(&spec.root).map_err(Failure::doing(&what))?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let mut file = beneath::open(root.as_fd(), &spec.path, flags, Mode::empty())
        .map_err(Failure::doing(&what))?;
    let metadata = file.metadata().map_err(Failure::doing(&what))?;
    if !metadata.is_file() {
        return Err(Failure::Problem(format!("{what}: not a regular file")));
    }
    let size = metadata.len();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; MAX_DATA];
    let hashed = each_chunk(&mut file, size, &mut buffer, |chunk| {
        hasher.update(chunk);
        Ok(())
    });
    explain(hashed, &what)?;
    file.rewind().map_err(Failure::doing(&what))?;
    let digest = hasher.finalize().into();
    half.send(&ToHost::File {
        mode: metadata.mode() & 0o7777,
        size,
        digest,
    })?;
    let sent = each_chunk(&mut file, size, &mut buffer, |chunk| {
        Ok(half.send_data(Lane::Out, chunk)?)
    });
    explain(sent, &what)
}

/// Gives the first `size` bytes of a file to `take`; an error if it has become shorter.
fn each_chunk(
    file: &mut impl Read,
    size: u64,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut rest = file.take(size);
    let mut seen = 0;
    loop {
        match rest
            .read(buffer)
            .map_err(|error| Failure::Problem(error.to_string()))?
        {
            0 if seen == size => return Ok(()),
            0 => {
                return Err(Failure::Problem(
                    "it became shorter while it was read".into(),
                ));
            }
            count => {
                seen += count as u64;
                take(&buffer[..count])?;
            }
        }
    }
}

fn explain(result: Result<(), Failure>, what: &str) -> Result<(), Failure> {
    match result {
        Err(Failure::Problem(problem)) => Err(Failure::Problem(format!("{what}: {problem}"))),
        Err(Failure::Gone) => Err(Failure::Gone),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_starts_where_the_glob_has_its_first_wildcard() {
        let starts = [
            ("dist/**", "dist"),
            ("**", ""),
            ("a/b/*.js", "a/b"),
            ("a/b.js", "a"),
            ("b.js", ""),
        ];
        for (glob, start) in starts {
            assert_eq!(literal_start(glob), start, "{glob}");
        }
    }

    #[test]
    fn a_star_stops_at_a_slash_and_two_stars_do_not() {
        let matches = |glob: &str, path| Pattern::new(glob).unwrap().matches_with(path, MATCHING);
        assert!(matches("dist/*", "dist/a"));
        assert!(!matches("dist/*", "dist/a/b"));
        assert!(matches("dist/**", "dist/a/b"));
        assert!(matches("dist/**", "dist/.a"));
        assert!(matches("dist/**/*.js", "dist/a.js"));
    }
}
