//! Streams of git's own, whole, cut, changed, and made up.

use std::io::Write;

use super::*;
use crate::git::checkout;
use crate::limits::Limits;
use crate::testing::repository::Repository;

fn objects() -> Objects {
    Objects::new(tempfile::tempfile().unwrap(), &Limits::default())
}

fn read(stream: &[u8]) -> Result<Objects, GitProblem> {
    let mut batch = Batch::new(objects());
    batch.feed(stream)?;
    batch.finish()
}

fn refused(stream: &[u8]) -> String {
    read(stream).unwrap_err().to_string()
}

/// One object as git writes it.
fn object(id: &str, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = format!("{id} {kind} {}\n", bytes.len()).into_bytes();
    stream.write_all(bytes).unwrap();
    stream.push(b'\n');
    stream
}

/// A repository with one commit of a file of 300 KiB and an empty one.
fn repository() -> (Repository, String) {
    let repository = Repository::new();
    let large: Vec<u8> = (0..300_000_u32)
        .flat_map(u32::to_le_bytes)
        .take(300_000)
        .collect();
    repository.write("a/large", &large);
    repository.write("empty", b"");
    let commit = repository.commit();
    (repository, commit)
}

#[test]
fn a_stream_is_read_whatever_the_pieces_that_it_comes_in() {
    let (repository, commit) = repository();
    let stream = repository.stream(&commit);
    let id = object_id(&commit).unwrap();
    for size in [1, 7, 4096, stream.len()] {
        let mut batch = Batch::new(objects());
        for piece in stream.chunks(size) {
            batch.feed(piece).unwrap();
        }
        let objects = batch.finish().unwrap();
        let commit = checkout::commit(&objects, &id).unwrap();
        assert_eq!(commit.time, 1_700_000_000);
        assert!(objects.has(&commit.tree));
    }
}

#[test]
fn one_flipped_bit_is_refused() {
    let (repository, commit) = repository();
    let mut stream = repository.stream(&commit);
    let middle = stream.len() / 2;
    stream[middle] ^= 1;
    assert!(matches!(read(&stream), Err(GitProblem::Id { .. })));
}

#[test]
fn another_objects_bytes_under_an_id_are_refused() {
    let hello = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
    assert!(read(&object(hello, "blob", b"hello")).is_ok());
    let error = read(&object(hello, "blob", b"hellO")).unwrap_err();
    assert_eq!(error.reason(), schemas::Reason::SourceDigestMismatch);
    assert_eq!(error.fault(), store::Fault::Job);
    // The kind is part of what is hashed.
    assert!(refused(&object(hello, "tag", b"hello")).contains("hashes to"));
}

#[test]
fn a_stream_that_ends_early_is_refused() {
    let (repository, commit) = repository();
    let stream = repository.stream(&commit);
    for end in [1, 60, stream.len() / 2, stream.len() - 1] {
        let sentence = refused(&stream[..end]);
        assert_eq!(sentence, "what the fetch VM sends ends within an object");
    }
    assert!(read(b"").is_ok());
}

#[test]
fn what_git_does_not_write_is_refused_before_it_costs_anything() {
    let id = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
    let upper = id.to_uppercase();
    for line in [
        format!("{id} blob +5\n"),
        format!("{id} blob 5 6\n"),
        format!("{id} blob\n"),
        format!("{id} bolb 5\n"),
        format!("{id} blob 99999999999999999999\n"),
        format!("{upper} blob 5\n"),
        format!("{} blob 5\n", &id[1..]),
        "\n".to_owned(),
    ] {
        let sentence = refused(line.as_bytes());
        assert_eq!(
            sentence, "what the fetch VM sends has a line that announces no object",
            "{line}"
        );
    }
    assert_eq!(
        refused(&[b'a'; 100]),
        "what the fetch VM sends has a line that is too long"
    );
    assert_eq!(
        refused(format!("{id} blob 9000000000\n").as_bytes()),
        "the tree is larger than 8589934592 bytes when decompressed"
    );
    assert_eq!(
        refused(format!("{id} missing\n").as_bytes()),
        format!("object {id} is missing")
    );
    let twice = [object(id, "blob", b"hello"), b"x".to_vec()].concat();
    assert_eq!(
        refused(&twice),
        "what the fetch VM sends ends within an object"
    );
    let unended = [&object(id, "blob", b"hello")[..53], b"x"].concat();
    assert!(
        refused(&unended).contains("line feed"),
        "{}",
        refused(&unended)
    );
}
