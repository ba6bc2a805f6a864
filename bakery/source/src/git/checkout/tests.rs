//! Trees of git's own, and trees that git would never make.

use gix_object::compute_hash;

use super::*;
use crate::git::batch::{Batch, object_id};
use crate::testing::repository::Repository;

/// Objects made up by a test.
struct Made(Objects);

impl Made {
    fn new() -> Self {
        Self(Objects::new(
            tempfile::tempfile().unwrap(),
            &Limits::default(),
        ))
    }

    fn add(&mut self, kind: Kind, bytes: &[u8]) -> ObjectId {
        let id = compute_hash(gix_hash::Kind::Sha1, kind, bytes).unwrap();
        let mut object = self.0.begin(id, kind, bytes.len() as u64).unwrap();
        self.0.take(&mut object, bytes).unwrap();
        self.0.complete(object).unwrap();
        id
    }

    fn tree(&mut self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(id.as_slice());
        }
        self.add(Kind::Tree, &bytes)
    }
}

fn grown(
    objects: &Objects,
    tree: ObjectId,
    limits: &Limits,
) -> Result<(Tree, Vec<Gitlink>), GitProblem> {
    let (mut into, mut bytes) = (Tree::new(limits), 0);
    let mut checkout = Checkout::new(objects, limits, &mut into, &mut bytes, 7);
    let gitlinks = checkout.add(tree, &TreePath::root())?;
    Ok((into, gitlinks))
}

fn refused(objects: &Made, tree: ObjectId) -> String {
    let error = grown(&objects.0, tree, &Limits::default()).unwrap_err();
    error.to_string()
}

#[test]
fn a_commits_tree_is_what_git_would_check_out() {
    let repository = Repository::new();
    repository.write("a/b/file", b"text\r\n");
    repository.write(".gitattributes", b"* text=auto eol=crlf filter=lfs\n");
    let program = repository.write("run.sh", b"#!/bin/sh\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(program, mode).unwrap();
    std::os::unix::fs::symlink("../elsewhere", repository.path().join("a/link")).unwrap();
    repository.git(&["config", "filter.lfs.clean", "cat"]);
    let id = repository.commit();
    let mut batch = Batch::new(Made::new().0);
    batch.feed(&repository.stream(&id)).unwrap();
    let objects = batch.finish().unwrap();
    let commit = commit(&objects, &object_id(&id).unwrap()).unwrap();
    let (tree, gitlinks) = grown(&objects, commit.tree, &Limits::default()).unwrap();
    let found: Vec<_> = tree
        .items()
        .iter()
        .map(|(path, item)| (path.as_str(), item.mode))
        .collect();
    let expected = [
        (".gitattributes", 0o644),
        ("a", 0o755),
        ("a/b", 0o755),
        ("a/b/file", 0o644),
        ("a/link", 0o777),
        ("run.sh", 0o755),
    ];
    assert_eq!((found.as_slice(), gitlinks.len()), (&expected[..], 0));
}

#[test]
fn names_that_no_file_of_a_source_has_are_refused() {
    for name in [
        &b""[..],
        b".",
        b"..",
        b".git",
        b".GIT",
        b".gIt",
        b"a/b",
        b"\xff",
    ] {
        let mut objects = Made::new();
        let blob = objects.add(Kind::Blob, b"x");
        let tree = objects.tree(&[("100644", name, blob)]);
        let tree = objects.tree(&[("40000", b"in", tree)]);
        let sentence = refused(&objects, tree);
        assert!(sentence.starts_with("the tree has "), "{sentence}");
        assert!(sentence.contains(" in in, which "), "{sentence}");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let mut objects = Made::new();
    let blob = objects.add(Kind::Blob, b"x");
    let empty = objects.tree(&[]);
    let tree = objects.tree(&[("100644", b"a", blob), ("40000", b"a", empty)]);
    assert_eq!(refused(&objects, tree), "the tree has a twice");
}

#[test]
fn modes_that_git_does_not_give_are_refused() {
    for mode in ["100600", "104755", "60644", "10644", "0", "20644"] {
        let mut objects = Made::new();
        let blob = objects.add(Kind::Blob, b"x");
        let tree = objects.tree(&[(mode, b"a", blob)]);
        let sentence = refused(&objects, tree);
        assert!(
            sentence.starts_with("the tree has a with the mode"),
            "{sentence}"
        );
    }
    let mut objects = Made::new();
    let blob = objects.add(Kind::Blob, b"x");
    let tree = objects.tree(&[("100664", b"a", blob)]);
    let (tree, _) = grown(&objects.0, tree, &Limits::default()).unwrap();
    assert_eq!(tree.items().values().next().unwrap().mode, 0o644);
}

#[test]
fn an_object_that_is_missing_or_of_another_kind_is_refused_by_its_id() {
    let mut objects = Made::new();
    let blob = objects.add(Kind::Blob, b"x");
    let absent = compute_hash(gix_hash::Kind::Sha1, Kind::Blob, b"y").unwrap();
    let tree = objects.tree(&[("100644", b"a", absent)]);
    assert_eq!(
        refused(&objects, tree),
        format!("object {absent} is missing")
    );
    let tree = objects.tree(&[("40000", b"a", blob)]);
    assert_eq!(
        refused(&objects, tree),
        format!("object {blob} is a blob, and should be a tree")
    );
    let error = commit(&objects.0, &blob).unwrap_err();
    assert_eq!(error.reason(), schemas::Reason::InvalidJob);
}

#[test]
fn a_malformed_tree_or_commit_is_refused() {
    let mut objects = Made::new();
    let tree = objects.add(Kind::Tree, b"100644 a\0short");
    assert_eq!(
        refused(&objects, tree),
        format!("object {tree} is a malformed tree")
    );
    let id = objects.add(Kind::Commit, b"parent x\n");
    let sentence = commit(&objects.0, &id).unwrap_err().to_string();
    assert_eq!(sentence, format!("object {id} is a malformed commit"));
}

#[test]
fn a_small_tree_cannot_stand_for_more_than_a_source_may_hold() {
    let mut objects = Made::new();
    let blob = objects.add(Kind::Blob, &[0; 1000]);
    let mut tree = objects.tree(&[("100644", b"a", blob)]);
    for _ in 0..20 {
        tree = objects.tree(&[("40000", b"a", tree), ("40000", b"b", tree)]);
    }
    assert_eq!(
        refused(&objects, tree),
        "the tree has more than 250000 entries"
    );
    let limits = Limits {
        max_total_bytes: 1500,
        ..Limits::default()
    };
    let tree = objects.tree(&[("100644", b"a", blob), ("100644", b"b", blob)]);
    let sentence = grown(&objects.0, tree, &limits).unwrap_err().to_string();
    assert!(sentence.contains("larger than 1500 bytes"), "{sentence}");
}

#[test]
fn a_symbolic_link_needs_a_target_that_a_name_could_be() {
    for target in [&b""[..], b"\xff", b"a\0b", &[b'a'; 5000]] {
        let mut objects = Made::new();
        let blob = objects.add(Kind::Blob, target);
        let tree = objects.tree(&[("120000", b"a", blob)]);
        assert!(grown(&objects.0, tree, &Limits::default()).is_err());
    }
}

#[test]
fn a_submodule_is_an_empty_directory_and_a_commit() {
    let mut objects = Made::new();
    let other = compute_hash(gix_hash::Kind::Sha1, Kind::Commit, b"elsewhere").unwrap();
    let inner = objects.tree(&[("160000", b"lib", other)]);
    let tree = objects.tree(&[("40000", b"vendor", inner)]);
    let (tree, gitlinks) = grown(&objects.0, tree, &Limits::default()).unwrap();
    let path: TreePath = "vendor/lib".parse().unwrap();
    assert_eq!(tree.items()[&path].kind, ItemKind::Directory);
    assert_eq!(
        gitlinks,
        [Gitlink {
            path,
            inner: "vendor/lib".to_owned(),
            commit: other
        }]
    );
}
