//! Archives of trees: the same each time, and what their own parser reads.

use std::io::Write;

use super::*;
use crate::limits::Limits;

fn tree(entries: &[(&str, ItemKind, u32)]) -> Tree {
    let mut tree = Tree::new(&Limits::default());
    for (path, kind, mode) in entries {
        let item = Item {
            kind: kind.clone(),
            mode: *mode,
            mtime: 1_700_000_000,
        };
        tree.insert(path.parse().unwrap(), item).unwrap();
    }
    tree
}

fn symlink(target: &str) -> ItemKind {
    ItemKind::Symlink {
        target: target.to_owned(),
    }
}

#[tokio::test]
async fn an_archive_is_the_same_each_time_and_reads_back_as_the_tree() {
    let into = tempfile::tempdir().unwrap();
    let mut spool = tempfile::tempfile().unwrap();
    spool.write_all(b"..hello").unwrap();
    let file = ItemKind::File(Extent { offset: 2, size: 5 });
    let deep = format!("{}/x", "d".repeat(120));
    let far = format!("./{}", "t".repeat(150));
    let tree = tree(&[
        ("a", ItemKind::Directory, 0o755),
        ("a/b", file.clone(), 0o644),
        ("a-b", file.clone(), 0o755),
        ("empty", ItemKind::Directory, 0o755),
        ("link", symlink("./a//b"), 0o777),
        ("far", symlink(&far), 0o777),
        (&deep, file, 0o644),
    ]);
    let (first, digest) = write(&tree, &spool, into.path()).unwrap();
    let (_, again) = write(&tree, &spool, into.path()).unwrap();
    assert_eq!(digest, again);
    let copy = first.try_clone().unwrap();
    let archive = crate::Archive::open(first, &Limits::default(), into.path()).await;
    assert_eq!(archive.unwrap().entries(), 8);
    assert_eq!(names(&copy), ["a-b", "a/b", &deep, "empty/", "far", "link"]);
}

fn names(mut archive: &File) -> Vec<String> {
    std::io::Seek::rewind(&mut archive).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive).unwrap());
    let entries = archive.entries().unwrap();
    let name = |entry: io::Result<tar::Entry<'_, _>>| {
        let path = entry.unwrap().path_bytes().into_owned();
        String::from_utf8(path).unwrap()
    };
    entries.map(name).collect()
}
