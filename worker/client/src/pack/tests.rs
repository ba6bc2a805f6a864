//! Packing real repositories.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;

/// A repository with one commit, made at a fixed time.
pub(crate) fn repository() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("web/src")).unwrap();
    fs::write(at("web/src/app.js"), "app\n").unwrap();
    fs::write(at("web-index"), "index\n").unwrap();
    fs::write(at("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o775)).unwrap();
    fs::write(at(".gitattributes"), "*.js text eol=crlf export-ignore\n").unwrap();
    fs::write(at("a".repeat(120).as_str()), "long name\n").unwrap();
    symlink("./src//app.js", at("web/link")).unwrap();
    git(dir.path(), &["init", "-q"]);
    commit(dir.path());
    dir
}

fn commit(dir: &Path) {
    git(dir, &["add", "-A"]);
    git(
        dir,
        &[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.com",
            "commit",
            "-q",
            "-m",
            "c",
        ],
    );
}

pub(crate) fn git(dir: &Path, command: &[&str]) {
    let mut git = Command::new("git");
    git.arg("-C").arg(dir).args(command);
    git.env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000");
    assert!(git.status().unwrap().success(), "git {command:?}");
}

/// Path to type, mode and content (or target), in the order of the archive.
fn listing(packed: Packed) -> Vec<(String, EntryType, u32, String)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed.file).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 1_700_000_000)
        );
        let (entry_type, mode) = (header.entry_type(), header.mode().unwrap());
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let target = entry
            .link_name_bytes()
            .map(|target| String::from_utf8(target.into_owned()).unwrap());
        (path, entry_type, mode, target.unwrap_or(content))
    });
    entries.collect()
}

#[test]
fn the_archive_holds_what_is_committed_sorted_and_as_git_stores_it() {
    let dir = repository();
    fs::write(dir.path().join("run.sh"), "changed\n").unwrap();
    fs::write(dir.path().join("untracked"), "x").unwrap();
    let listing = listing(pack(&Head::of(dir.path()).unwrap()).unwrap());
    let (file, link) = (EntryType::Regular, EntryType::Symlink);
    let expected = [
        (
            ".gitattributes",
            file,
            0o644,
            "*.js text eol=crlf export-ignore\n",
        ),
        (&"a".repeat(120), file, 0o644, "long name\n"),
        ("run.sh", file, 0o755, "#!/bin/sh\n"),
        ("web-index", file, 0o644, "index\n"),
        ("web/link", link, 0o777, "./src//app.js"),
        ("web/src/app.js", file, 0o644, "app\n"),
    ];
    let expected: Vec<_> = expected
        .map(|(path, kind, mode, text)| (path.to_owned(), kind, mode, text.to_owned()))
        .into();
    assert_eq!(listing, expected);
}

#[test]
fn the_target_of_a_link_is_kept_byte_for_byte_whatever_its_length() {
    let dir = repository();
    let targets = [
        format!("./a//{}/.", "b".repeat(92)),
        format!("./a//{}/.", "b".repeat(93)),
        format!("./a//{}/../", "b".repeat(300)),
    ];
    for (index, target) in targets.iter().enumerate() {
        symlink(target, dir.path().join(format!("link-{index}"))).unwrap();
    }
    commit(dir.path());
    let listing = listing(pack(&Head::of(dir.path()).unwrap()).unwrap());
    let kept: Vec<_> = listing
        .into_iter()
        .filter(|(path, ..)| path.starts_with("link-"))
        .map(|(_, _, _, target)| target)
        .collect();
    assert_eq!(kept, targets);
}

#[test]
fn a_user_who_has_signatures_shown_can_pack() {
    let dir = repository();
    git(dir.path(), &["config", "log.showSignature", "true"]);
    let gpg = dir.path().join(".git/gpg");
    fs::write(&gpg, "#!/bin/sh\necho 'gpg: no public key' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&gpg, fs::Permissions::from_mode(0o755)).unwrap();
    git(
        dir.path(),
        &["config", "gpg.program", gpg.to_str().unwrap()],
    );
    let commit = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
        author a <a@example.com> 1700000000 +0000\n\
        committer a <a@example.com> 1700000000 +0000\n\
        gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\nc\n";
    fs::write(dir.path().join(".git/signed"), commit).unwrap();
    let signed = Command::new("git")
        .arg("-C")
        .arg(dir.path())
        .args(["hash-object", "-t", "commit", "-w", ".git/signed"])
        .output()
        .unwrap();
    let signed = String::from_utf8(signed.stdout).unwrap();
    git(dir.path(), &["update-ref", "HEAD", signed.trim()]);
    assert_eq!(Head::of(dir.path()).unwrap().time, 1_700_000_000);
}

#[test]
fn two_copies_of_a_repository_give_the_same_bytes() {
    let digests = [repository(), repository()]
        .map(|dir| pack(&Head::of(dir.path()).unwrap()).unwrap().digest);
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn the_digest_is_that_of_the_file() {
    let dir = repository();
    let mut packed = pack(&Head::of(dir.path()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    packed.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(Sha256Digest::of(&bytes), packed.digest);
    assert_eq!(bytes.len() as u64, packed.size_bytes);
}

#[test]
fn a_folder_of_a_repository_is_a_tree_of_its_own() {
    let dir = repository();
    let listing: BTreeMap<_, _> =
        listing(pack(&Head::of(&dir.path().join("web")).unwrap()).unwrap())
            .into_iter()
            .map(|(path, _, _, text)| (path, text))
            .collect();
    assert_eq!(listing.keys().collect::<Vec<_>>(), ["link", "src/app.js"]);
}

#[test]
fn changes_that_are_not_committed_are_named_in_the_folder_they_are_in() {
    let dir = repository();
    let changes = |path: &Path| Head::of(path).unwrap().changes().unwrap();
    assert!(changes(dir.path()).is_empty());
    fs::write(dir.path().join("run.sh"), "changed\n").unwrap();
    fs::rename(dir.path().join("web-index"), dir.path().join("moved")).unwrap();
    assert_eq!(changes(dir.path()), ["run.sh", "web-index", "moved"]);
    assert!(changes(&dir.path().join("web")).is_empty());
}

#[test]
fn a_directory_as_it_stands_is_what_a_commit_of_it_would_be() {
    let dir = repository();
    let at = |path: &str| dir.path().join(path);
    fs::write(at(".gitignore"), "*.log\n").unwrap();
    fs::write(at("noise.log"), "ignored\n").unwrap();
    fs::write(at("web/src/app.js"), "changed\n").unwrap();
    fs::write(at("new"), "new\n").unwrap();
    fs::remove_file(at("run.sh")).unwrap();
    let objects = || {
        Command::new("find")
            .arg(at(".git"))
            .output()
            .unwrap()
            .stdout
    };
    let before = objects();
    let standing = |path: &Path| Head::of(path).unwrap().with_changes().unwrap();
    let packed = pack(&standing(dir.path())).unwrap();
    let folder = pack(&standing(&at("web"))).unwrap();
    assert_eq!(objects(), before, "the repository is as it was");
    assert_eq!(Head::of(dir.path()).unwrap().changes().unwrap().len(), 4);
    commit(dir.path());
    let committed = pack(&Head::of(dir.path()).unwrap()).unwrap();
    assert_eq!(packed.digest, committed.digest);
    let paths: Vec<_> = listing(packed).into_iter().map(|(path, ..)| path).collect();
    assert!(!paths.contains(&"noise.log".to_owned()) && !paths.contains(&"run.sh".to_owned()));
    let committed = pack(&Head::of(&at("web")).unwrap()).unwrap();
    assert_eq!(folder.digest, committed.digest);
}

#[test]
fn a_change_is_seen_that_neither_time_nor_size_tells() {
    let dir = repository();
    let file = dir.path().join("web-index");
    let at = |path: &Path, time: SystemTime| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    };
    // As if all were written in one second, long ago; the time of the inode cannot be turned back.
    git(dir.path(), &["config", "core.trustctime", "false"]);
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    at(&file, second);
    git(dir.path(), &["add", "-A"]);
    at(&dir.path().join(".git/index"), second);
    fs::write(&file, "INDEX\n").unwrap();
    at(&file, second);
    let standing = Head::of(dir.path()).unwrap().with_changes().unwrap();
    let listing = listing(pack(&standing).unwrap());
    assert!(
        listing.iter().any(|(.., content)| content == "INDEX\n"),
        "{listing:?}"
    );
}

#[test]
fn a_repository_inside_the_directory_is_refused_with_changes_too() {
    let dir = repository();
    fs::create_dir(dir.path().join("inner")).unwrap();
    git(&dir.path().join("inner"), &["init", "-q"]);
    fs::write(dir.path().join("inner/a"), "a\n").unwrap();
    commit(&dir.path().join("inner"));
    let error = pack(&Head::of(dir.path()).unwrap().with_changes().unwrap()).unwrap_err();
    assert!(
        error.to_string().starts_with("inner is a submodule"),
        "{error}"
    );
}

#[test]
fn a_directory_without_a_commit_is_refused_with_gits_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let error = Head::of(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not a git repository"), "{error}");
    git(dir.path(), &["init", "-q"]);
    assert!(matches!(
        Head::of(dir.path()).unwrap_err(),
        GitError::Refused { .. }
    ));
}
