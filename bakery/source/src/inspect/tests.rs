//! Archives as `tar` writes them are read; everything else is refused, each with its sentence.

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;
use crate::error::InputProblem;

/// A tar under construction, header by header, so that it can hold what no writer would write.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(self, kind: EntryType, name: &str, content: &[u8]) -> Self {
        self.link(kind, name, "", content)
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, content.as_bytes())
    }

    fn link(mut self, kind: EntryType, name: &str, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_mode(0o4755);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn read_with(mut self, limits: &Limits) -> Result<(Tree, File), SourceError> {
        self.0.resize(self.0.len() + 1024, 0);
        read_bytes(&zstd::encode_all(self.0.as_slice(), 3).unwrap(), limits)
    }

    fn read(self) -> Result<(Tree, File), SourceError> {
        self.read_with(&Limits::default())
    }

    fn refused(self) -> String {
        self.read().unwrap_err().to_string()
    }

    fn refused_with(self, limits: &Limits) -> String {
        self.read_with(limits).unwrap_err().to_string()
    }
}

fn read_bytes(stored: &[u8], limits: &Limits) -> Result<(Tree, File), SourceError> {
    let archive = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &archive, stored).unwrap();
    let spool = tempfile::tempfile().unwrap();
    inspect(&archive, &spool, limits).map(|tree| (tree, spool))
}

fn content(tree: &Tree, mut spool: &File, name: &str) -> String {
    let extent = tree.input(&name.parse().unwrap()).unwrap();
    let mut text = String::new();
    spool.seek(SeekFrom::Start(extent.offset)).unwrap();
    spool.take(extent.size).read_to_string(&mut text).unwrap();
    text
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.items().keys().map(TreePath::as_str).collect()
}

#[test]
fn contents_are_found_in_the_spool_in_whatever_order_they_came() {
    let (tree, spool) = Tar::default()
        .entry(EntryType::Directory, "./", b"")
        .file("./src/main.js", "main")
        .entry(EntryType::Directory, "./src/", b"")
        .file("a", "")
        .link(EntryType::Symlink, "link", "/anywhere", b"")
        .file("package.json", "{}")
        .read()
        .unwrap();
    assert_eq!(
        paths(&tree),
        ["a", "link", "package.json", "src", "src/main.js"]
    );
    assert_eq!(content(&tree, &spool, "src/main.js"), "main");
    assert_eq!(content(&tree, &spool, "package.json"), "{}");
    assert_eq!(content(&tree, &spool, "a"), "");
    assert_eq!(tree.newest_mtime(), 1_700_000_000);
}

#[test]
fn an_archive_that_the_tar_crate_wrote_is_read_with_its_long_names() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(4);
    builder
        .append_data(&mut header.clone(), &long, b"long".as_slice())
        .unwrap();
    header.set_size(0);
    header.set_entry_type(EntryType::Symlink);
    builder
        .append_link(&mut header, "link", "t".repeat(200))
        .unwrap();
    let (tree, spool) = Tar(builder.into_inner().unwrap()).read().unwrap();
    assert_eq!(content(&tree, &spool, &long), "long");
    let link = &tree.items()[&"link".parse().unwrap()].kind;
    assert!(matches!(link, ItemKind::Symlink { target } if *target == "t".repeat(200)));
}

#[test]
fn a_pax_header_names_and_dates_the_entry_after_it() {
    let (tree, spool) = Tar::default()
        .entry(EntryType::XGlobalHeader, "g", b"13 comment=x\n")
        .entry(
            EntryType::XHeader,
            "x",
            b"17 path=new/name\n20 mtime=1800000000\n",
        )
        .file("old", "text")
        .file("next", "")
        .read()
        .unwrap();
    assert_eq!(paths(&tree), ["new", "new/name", "next"]);
    assert_eq!(content(&tree, &spool, "new/name"), "text");
    assert_eq!(tree.newest_mtime(), 1_800_000_000);
}

#[test]
fn only_permission_bits_of_a_mode_are_kept() {
    let (tree, _) = Tar::default().file("a", "").read().unwrap();
    assert_eq!(tree.items()[&"a".parse().unwrap()].mode, 0o755);
}

#[test]
fn a_path_that_leaves_the_tree_is_refused() {
    for (name, problem) in [
        ("/etc/passwd", "must be relative to the source tree"),
        ("../x", "must not leave the source tree"),
        ("a/../../x", "must not leave the source tree"),
        ("./../x", "must not leave the source tree"),
        ("a//b", "must not contain an empty part"),
        ("a/./b", "must not contain a `.` part"),
        ("a/", "must not contain an empty part"),
    ] {
        let sentence = Tar::default().file(name, "").refused();
        let shown = name.strip_prefix("./").unwrap_or(name);
        assert_eq!(
            sentence,
            format!("the source archive has an entry whose path {problem}, is {shown:?}")
        );
    }
    assert_eq!(
        Tar::default().file("", "").refused(),
        "the source archive has an entry whose path must not be empty"
    );
    assert_eq!(
        Tar::default().file(".", "").refused(),
        "the source archive has an entry whose path is the tree itself, but it is no directory"
    );
}

#[test]
fn a_long_name_or_a_pax_path_that_leaves_the_tree_is_refused_too() {
    let long = Tar::default()
        .entry(EntryType::GNULongName, "L", b"../x\0")
        .file("a", "");
    let pax = Tar::default()
        .entry(EntryType::XHeader, "x", b"13 path=../x\n")
        .file("a", "");
    for tar in [long, pax] {
        assert_eq!(
            tar.refused(),
            "the source archive has an entry whose path must not leave the source tree, is \"../x\""
        );
    }
}

#[test]
fn a_path_that_is_not_utf_8_or_has_a_nul_is_refused() {
    let name = Tar::default()
        .entry(EntryType::GNULongName, "L", b"a\xff\0")
        .file("a", "");
    assert_eq!(
        name.refused(),
        "the source archive has an entry whose path must be UTF-8, is \"a\u{fffd}\""
    );
    let name = Tar::default()
        .entry(EntryType::GNULongName, "L", b"a\0b\0")
        .file("a", "");
    assert_eq!(
        name.refused(),
        "the source archive has an entry whose path must not contain a NUL, is \"a\\0b\""
    );
}

#[test]
fn hard_links_devices_and_sparse_files_are_refused() {
    for (kind, name) in [
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a character device"),
        (EntryType::Block, "a block device"),
        (EntryType::Fifo, "a fifo"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::new(b'V'), "of an unknown kind"),
    ] {
        assert_eq!(
            Tar::default().link(kind, "a", "b", b"").refused(),
            format!(
                "the source archive has a, which is {name}: only files, directories and symbolic links are taken"
            )
        );
    }
}

#[test]
fn a_directory_or_link_with_content_is_refused() {
    for kind in [EntryType::Directory, EntryType::Symlink] {
        assert_eq!(
            Tar::default().link(kind, "a", "b", b"content").refused(),
            "the source archive has a, which is no file and still has content"
        );
    }
}

#[test]
fn a_link_without_a_target_is_refused() {
    assert_eq!(
        Tar::default().entry(EntryType::Symlink, "a", b"").refused(),
        "the source archive has a, a symbolic link whose target is empty or not UTF-8"
    );
}

#[test]
fn a_path_that_stands_twice_is_refused_however_it_is_written() {
    assert_eq!(
        Tar::default().file("a", "1").file("./a", "2").refused(),
        "the source archive has a twice"
    );
}

#[test]
fn a_file_behind_a_link_is_refused() {
    assert_eq!(
        Tar::default()
            .link(EntryType::Symlink, "a", "/etc", b"")
            .file("a/passwd", "")
            .refused(),
        "the source archive has a/passwd, which lies below a, which is no directory"
    );
}

#[test]
fn an_input_behind_a_link_is_not_found() {
    let (tree, _) = Tar::default()
        .link(EntryType::Symlink, "a", "b", b"")
        .file("b/lock", "")
        .read()
        .unwrap();
    assert_eq!(
        tree.input(&"a/lock".parse().unwrap()),
        Err(InputProblem::BelowSymlink("a".parse().unwrap()))
    );
}

#[test]
fn an_extension_that_two_readers_could_understand_differently_is_refused() {
    let stray =
        "the source archive has a long name or pax header without its entry, or two for one";
    let long = |tar: Tar| tar.entry(EntryType::GNULongName, "L", b"a\0");
    let pax = |tar: Tar| tar.entry(EntryType::XHeader, "x", b"10 path=b\n");
    assert_eq!(long(Tar::default()).refused(), stray);
    assert_eq!(long(long(Tar::default())).file("c", "").refused(), stray);
    assert_eq!(pax(pax(Tar::default())).file("c", "").refused(), stray);
    assert_eq!(pax(long(Tar::default())).file("c", "").refused(), stray);
    assert_eq!(
        Tar::default()
            .entry(EntryType::XHeader, "x", b"10 size=9\n")
            .file("c", "12345")
            .refused(),
        "the source archive has a pax header that gives another size than the entry's own header"
    );
}

#[test]
fn extensions_that_are_too_large_are_refused_unread() {
    assert_eq!(
        Tar::default()
            .entry(EntryType::GNULongName, "L", &[b'a'; 5000])
            .file("c", "")
            .refused(),
        "the source archive has a path or link target of more than 4096 bytes"
    );
    assert_eq!(
        Tar::default()
            .entry(EntryType::XHeader, "x", &vec![b'1'; 70_000])
            .file("c", "")
            .refused(),
        "the source archive has a pax header that is larger than 64 KiB"
    );
}

#[test]
fn every_limit_has_its_sentence() {
    let limits = Limits {
        max_total_bytes: 10_000,
        max_entries: 2,
        max_path_bytes: 8,
        ..Limits::default()
    };
    assert_eq!(
        Tar::default().file("123456789", "").refused_with(&limits),
        "the source archive has a path or link target of more than 8 bytes"
    );
    assert_eq!(
        Tar::default()
            .link(EntryType::Symlink, "a", "123456789", b"")
            .refused_with(&limits),
        "the source archive has a path or link target of more than 8 bytes"
    );
    assert_eq!(
        Tar::default()
            .file("a", "")
            .file("b", "")
            .file("c", "")
            .refused_with(&limits),
        "the source archive has more than 2 entries"
    );
    assert_eq!(
        Tar::default()
            .file("a", &"x".repeat(20_000))
            .refused_with(&limits),
        "the source archive is larger than 10000 bytes when decompressed"
    );
}

#[test]
fn a_decompression_bomb_is_stopped_by_its_ratio() {
    let bomb = Tar::default().entry(EntryType::Regular, "a", &vec![0; 64 << 20]);
    assert_eq!(
        bomb.refused(),
        "the source archive decompresses to more than 200 times its size"
    );
}

#[test]
fn what_is_no_archive_is_refused() {
    let sentence = "the source archive is not a readable .tar.zst";
    let refused = |bytes: &[u8]| {
        read_bytes(bytes, &Limits::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused(b"not zstd"), sentence);
    assert_eq!(
        refused(&zstd::encode_all([b'x'; 600].as_slice(), 3).unwrap()),
        sentence
    );
    let whole = zstd::encode_all(Tar::default().file("a", "content").0.as_slice(), 3).unwrap();
    assert_eq!(refused(&whole[..whole.len() - 4]), sentence);
    let cut = &Tar::default().file("a", &"x".repeat(2000)).0[..1024];
    assert_eq!(refused(&zstd::encode_all(cut, 3).unwrap()), sentence);
}

#[test]
fn an_empty_archive_is_an_empty_tree() {
    let (tree, _) = Tar::default().read().unwrap();
    assert_eq!((tree.items().len(), tree.newest_mtime()), (0, 0));
}

/// What must hold of every tree that was accepted, whoever wrote the archive.
fn check_tree(tree: &Tree, spool: &File) {
    let spooled = spool.metadata().unwrap().len();
    for (path, item) in tree.items() {
        assert!(!path.is_root() && !path.as_str().starts_with('/'));
        assert!(
            !path
                .as_str()
                .split('/')
                .any(|part| matches!(part, "" | "." | ".."))
        );
        if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
            let above = &tree.items()[&parent].kind;
            assert!(matches!(above, ItemKind::Directory | ItemKind::Implied));
        }
        if let ItemKind::File(extent) = item.kind {
            assert!(extent.offset + extent.size <= spooled);
        }
    }
}

proptest! {
    #[test]
    fn any_paths_and_kinds_give_a_tree_within_itself_or_a_refusal(
        entries in proptest::collection::vec(("[ab./]{0,8}", 0_u8..10, "[ab./]{0,4}"), 0..8),
    ) {
        let tar = entries.iter().fold(Tar::default(), |tar, (name, kind, target)| {
            tar.link(EntryType::new(b'0' + kind), name, target, b"")
        });
        if let Ok((tree, spool)) = tar.read() {
            check_tree(&tree, &spool);
        }
    }

    #[test]
    fn any_long_names_give_a_tree_within_itself_or_a_refusal(
        names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
    ) {
        let tar = names.iter().fold(Tar::default(), |tar, name| {
            tar.entry(EntryType::GNULongName, "L", name).file("a", "")
        });
        if let Ok((tree, spool)) = tar.read() {
            check_tree(&tree, &spool);
        }
    }

    #[test]
    fn any_bytes_in_a_compressed_stream_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..2048),
    ) {
        let stored = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        let _ = read_bytes(&stored, &Limits::default());
        let _ = read_bytes(&bytes, &Limits::default());
    }

    #[test]
    fn any_damage_to_a_good_archive_gives_a_tree_within_itself_or_a_refusal(
        damage in proptest::collection::vec((0_usize..3072, any::<u8>()), 1..4),
        mend in any::<bool>(),
    ) {
        let mut tar = Tar::default()
            .entry(EntryType::XHeader, "x", b"10 path=b\n")
            .file("a", "content")
            .file("c/d", "more");
        for (position, byte) in damage {
            if let Some(there) = tar.0.get_mut(position) {
                *there = byte;
            }
        }
        if mend {
            mend_checksums(&mut tar.0);
        }
        if let Ok((tree, spool)) = tar.read() {
            check_tree(&tree, &spool);
        }
    }
}

/// Gives every block that stood as a header a right checksum again, so that damage reaches what lies behind it.
fn mend_checksums(bytes: &mut [u8]) {
    for start in [0, 1024, 2048] {
        let mut header = Header::new_gnu();
        let block = &mut bytes[start..start + 512];
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
}
