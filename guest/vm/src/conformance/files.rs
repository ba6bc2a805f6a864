//! Files: put, list, read.

use sha2::{Digest, Sha256};
use wire::{Entry, EntryKind, PutSpec, User};

use super::Outcome::{self, Passed};
use super::guest::{Failure, MTIME, SOURCE, check, directory, entry, equal, file, link, refusal};
use super::rig::Rig;

const MIB: usize = 1024 * 1024;

pub(super) async fn file_whole(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let modes = [0o755, 0o600, 0o4711];
    let mut entries: Vec<_> = modes
        .iter()
        .map(|mode| {
            let (entry, bytes) = file("", b"#!/bin/sh\n");
            let path = format!("file{mode:o}");
            (
                Entry {
                    path,
                    mode: *mode,
                    ..entry
                },
                bytes,
            )
        })
        .collect();
    entries.push(file("made/on/the/way", b""));
    let summary = guest.put(SOURCE, &entries).await?;
    equal("the number of entries", summary.entries, 4)?;
    equal("the number of bytes", summary.bytes, 30)?;
    let seen = guest
        .sh("stat -c '%a %s %Y' file755 file600 file4711 made/on/the/way; cat file755")
        .await?;
    let wanted =
        format!("755 10 {MTIME}\n600 10 {MTIME}\n4711 10 {MTIME}\n644 0 {MTIME}\n#!/bin/sh");
    equal("what is there", seen, wanted)?;
    Ok(Passed)
}

pub(super) async fn directories(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let tree = [
        directory("tree"),
        directory("tree/inner"),
        file("tree/inner/file", b"kept"),
    ];
    guest.put(SOURCE, &tree).await?;
    let stat = "stat -c '%F %a %Y' tree tree/inner";
    let wanted = format!("directory 755 {MTIME}\ndirectory 755 {MTIME}");
    equal("the directories", guest.sh(stat).await?, wanted)?;
    let again = entry("tree", EntryKind::Directory, 0o700);
    guest.put(SOURCE, &[(again, b"".as_slice())]).await?;
    equal(
        "the mode, put again",
        guest.sh("stat -c %a tree").await?,
        "700",
    )?;
    equal(
        "the content",
        guest.sh("cat tree/inner/file").await?,
        "kept",
    )?;
    Ok(Passed)
}

pub(super) async fn symbolic_link(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let entries = [
        link("dangling", "/no/such/file"),
        file("file", b"through"),
        link("link", "file"),
    ];
    guest.put(SOURCE, &entries).await?;
    let seen = guest.sh("stat -c '%F %Y' dangling link; cat link").await?;
    let wanted = format!("symbolic link {MTIME}\nsymbolic link {MTIME}\nthrough");
    equal("what is there", seen, wanted)?;
    Ok(Passed)
}

pub(super) async fn replaced(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let before = |name: &str, kind: &str| match kind {
        "file" => vec![file(name, b"old")],
        "link" => vec![link(name, "kept")],
        _ => vec![directory(name), file(&format!("{name}/inner"), b"old")],
    };
    let after = |name: &str, kind: &str| match kind {
        "file" => file(name, b"new"),
        "link" => link(name, "kept"),
        _ => directory(name),
    };
    let kinds = ["file", "link", "directory"];
    let pairs: Vec<_> = kinds
        .iter()
        .flat_map(|old| kinds.map(|new| (format!("{old}-{new}"), *old, new)))
        .filter(|(_, old, new)| old != new || *old == "file")
        .collect();
    let mut old = vec![file("kept", b"kept")];
    old.extend(pairs.iter().flat_map(|(name, old, _)| before(name, old)));
    let new: Vec<_> = pairs
        .iter()
        .map(|(name, _, new)| after(name, new))
        .collect();
    guest.put(SOURCE, &old).await?;
    guest.put(SOURCE, &new).await?;
    let seen = guest
        .sh("stat -c '%n %F' *-file *-link *-directory; cat kept *-file")
        .await?;
    let wanted = "directory-file regular file\nfile-file regular file\nlink-file regular file\n\
        directory-link symbolic link\nfile-link symbolic link\n\
        file-directory directory\nlink-directory directory\nkeptnewnewnew";
    equal("what is there", seen, wanted)?;
    Ok(Passed)
}

pub(super) async fn through_a_link(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let tree = [
        directory("outside"),
        file("outside/file", b"untouched"),
        link("link", "outside"),
    ];
    guest.put(SOURCE, &tree).await?;
    // The link gives way to a directory: what is put wins over what a build left.
    guest.put(SOURCE, &[file("link/file", b"put")]).await?;
    let seen = guest
        .sh("cat outside/file link/file; stat -c ' %F' link")
        .await?;
    equal("what is there", seen, "untouchedput directory")?;
    Ok(Passed)
}

pub(super) async fn refused(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for path in [
        "../escaped",
        "/escaped",
        "a/../../escaped",
        "a/..",
        "./a",
        "a//b",
        "a/",
        ".",
        "",
    ] {
        let result = guest.put(SOURCE, &[file(path, b"x")]).await;
        refusal(&format!("a put to {path:?}"), result)?;
    }
    for root in ["", "build/src", "/build/../build/src"] {
        let result = guest.put(root, &[file("escaped", b"x")]).await;
        refusal(&format!("a put into {root:?}"), result)?;
    }
    let seen = guest
        .sh("for file in ../escaped escaped a; do [ ! -e $file ] || echo $file; done")
        .await?;
    equal("what was written all the same", seen, "")?;
    Ok(Passed)
}

pub(super) async fn refused_early(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let large = vec![7; 4 * MIB];
    let result = guest.put(SOURCE, &[file("../escaped", &large)]).await;
    refusal("a large put to \"../escaped\"", result)?;
    equal(
        "a later command's output",
        guest.sh("echo well").await?,
        "well",
    )?;
    Ok(Passed)
}

pub(super) async fn listed(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let paths = [
        "out/a.txt",
        "out/b.bin",
        "out/deep/er/c.txt",
        "out/.hidden",
        "out-file",
        "z.txt",
    ];
    let mut entries = paths.map(|path| file(path, path.as_bytes())).to_vec();
    entries.extend([
        link("out/link.txt", "a.txt"),
        link("linked", "out"),
        directory("out/empty.txt"),
    ]);
    guest.put(SOURCE, &entries).await?;
    let expected: [(&[&str], &[&str]); 7] = [
        (&["out/*"], &["out/.hidden", "out/a.txt", "out/b.bin"]),
        (
            &["out/**"],
            &["out/.hidden", "out/a.txt", "out/b.bin", "out/deep/er/c.txt"],
        ),
        (&["**/*.txt"], &["out/a.txt", "out/deep/er/c.txt", "z.txt"]),
        (&["out/?.txt", "out/[ab].*"], &["out/a.txt", "out/b.bin"]),
        (&["z.txt", "out-file", "z.txt"], &["out-file", "z.txt"]),
        (&["linked/*", "nothing/**"], &[]),
        (&[], &[]),
    ];
    for (globs, wanted) in expected {
        let found = guest.list(globs, 100).await?;
        let seen: Vec<&str> = found.iter().map(|file| file.path.as_str()).collect();
        equal(&format!("what {globs:?} lists"), seen, wanted)?;
        let right = |file: &wire::Found| file.size == file.path.len() as u64 && file.mode == 0o644;
        check(
            found.iter().all(right),
            &format!("sizes and modes: {found:?}"),
        )?;
    }
    refusal("a glob that is none", guest.list(&["a***"], 100).await)?;
    Ok(Passed)
}

pub(super) async fn limit(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let names: Vec<String> = (10..60).map(|number| format!("many/{number}")).collect();
    let entries: Vec<_> = names.iter().map(|name| file(name, b"")).collect();
    guest.put(SOURCE, &entries).await?;
    for (limit, wanted) in [(0, 1), (20, 21), (49, 50), (50, 50), (1000, 50)] {
        let found = guest.list(&["many/*"], limit).await?;
        let seen: Vec<&str> = found.iter().map(|file| file.path.as_str()).collect();
        equal(&format!("the list up to {limit}"), seen, &names[..wanted])?;
    }
    Ok(Passed)
}

pub(super) async fn read(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let large = noise(MIB + 1);
    let contents: [(&str, &[u8]); 3] = [("dir/large", &large), ("empty", b""), (".name", b"x")];
    guest
        .put(SOURCE, &contents.map(|(path, bytes)| file(path, bytes)))
        .await?;
    for (path, bytes) in contents {
        let seen = guest.read(SOURCE, path).await?;
        check(seen.bytes == bytes, &format!("{path} came changed"))?;
        equal("the mode", seen.mode, 0o644)?;
        let digest: wire::Digest = Sha256::digest(bytes).into();
        equal("the announced digest", seen.digest, digest)?;
    }
    Ok(Passed)
}

pub(super) async fn not_read(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let tree = [
        file("dir/file", b"x"),
        link("link", "dir/file"),
        link("linked", "dir"),
    ];
    guest.put(SOURCE, &tree).await?;
    for path in [
        "link",
        "linked/file",
        "dir",
        "absent",
        "../src/dir/file",
        "/build/src/dir/file",
        "",
    ] {
        refusal(&format!("reading {path:?}"), guest.read(SOURCE, path).await)?;
    }
    let linked = format!("{SOURCE}/linked");
    refusal("reading below a link", guest.read(&linked, "file").await)?;
    Ok(Passed)
}

pub(super) async fn large(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let bytes = noise(8 * MIB);
    let (entry, _) = file("large", &bytes);
    let mut put = guest.agent().put(&PutSpec {
        root: SOURCE.into(),
        owner: User::BUILD,
    })?;
    put.entry(&entry).await?;
    // In pieces that fit no frame.
    for chunk in bytes.chunks(99_991) {
        put.bytes(chunk).await?;
    }
    let summary = put.finish().await?;
    equal("the number of bytes", summary.bytes, bytes.len() as u64)?;
    let seen = guest.sh("sha256sum <large").await?;
    let wanted = format!("{:x}", Sha256::digest(&bytes));
    equal(
        "the digest in the guest",
        seen.split_whitespace().next(),
        Some(wanted.as_str()),
    )?;
    Ok(Passed)
}

/// Bytes that show it when some of them are lost, repeated or out of order: the linear generator of Knuth's MMIX.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}
