//! Archives put into the fake guest, whose files lie in a directory of this machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tempfile::TempDir;
use vm::fake::FakeDriver;
use vm::{BakeVm, BootSpec, Driver, Machine, Slot};
use wire::User;

use super::*;

/// A time that no entry of the archive carries.
const MTIME: i64 = 1_600_000_000;

/// A fake guest and the directory that it takes for `/build/src`.
struct Guest {
    vm: Box<dyn BakeVm>,
    base: TempDir,
}

impl Guest {
    async fn boot() -> Self {
        let base = tempfile::tempdir().unwrap();
        let disk = base.path().join("disk");
        fs::write(&disk, "").unwrap();
        let spec = BootSpec {
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            disk,
            machine: Machine {
                vcpu: 1,
                memory_mib: 64,
            },
        };
        let slot = Slot::create(&base.path().join("slots")).unwrap();
        let vm = FakeDriver::default().boot(spec, slot).await.unwrap();
        Self { vm, base }
    }

    fn agent(&self) -> AgentClient {
        self.vm.agent().clone()
    }

    fn tree(&self) -> PathBuf {
        let mut slots = fs::read_dir(self.base.path().join("slots")).unwrap();
        slots.next().unwrap().unwrap().path().join("root/build/src")
    }
}

fn put_spec() -> PutSpec {
    PutSpec {
        root: "/build/src".to_owned(),
        owner: User::BUILD,
    }
}

/// A tree with a large file, a link, an input at the top and one below a directory that no entry names.
async fn archive() -> Archive {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mtime(1_700_000_000);
    header.set_mode(0o640);
    let large = large();
    let files = [
        ("web/package.json", b"{}".as_slice()),
        ("src/large", &large),
        ("Makefile", b"all:\n"),
        ("empty", b""),
    ];
    for (name, content) in files {
        header.set_size(content.len() as u64);
        tar.append_data(&mut header.clone(), name, content).unwrap();
    }
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    tar.append_link(&mut header, "link", "src/large").unwrap();
    let stored = zstd::encode_all(tar.into_inner().unwrap().as_slice(), 3).unwrap();
    let into = tempfile::tempdir().unwrap();
    let file = tempfile::tempfile_in(into.path()).unwrap();
    file.write_all_at(&stored, 0).unwrap();
    Archive::open(file, &Limits::default(), into.path())
        .await
        .unwrap()
}

/// More than one piece, and no two pieces alike.
fn large() -> Vec<u8> {
    (0..50_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn paths(texts: &[&str]) -> Vec<TreePath> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_tree_arrives_in_the_guest_as_it_was_packed_with_one_time() {
    let guest = Guest::boot().await;
    let (agent, archive) = (guest.agent(), archive().await);
    let summary = archive
        .put_into(&agent, &put_spec(), &BTreeSet::new(), MTIME)
        .await
        .unwrap();
    assert_eq!(summary.entries, archive.entries());
    assert_eq!(summary.bytes, large().len() as u64 + 7);
    let tree = guest.tree();
    assert_eq!(fs::read(tree.join("src/large")).unwrap(), large());
    assert_eq!(fs::read(tree.join("web/package.json")).unwrap(), b"{}");
    assert_eq!(fs::read(tree.join("empty")).unwrap(), b"");
    assert_eq!(
        fs::read_link(tree.join("link")).unwrap(),
        PathBuf::from("src/large")
    );
    let metadata = fs::metadata(tree.join("Makefile")).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.mtime()), (0o640, MTIME));
    assert_eq!(
        fs::metadata(tree.join("web")).unwrap().mode() & 0o777,
        0o755
    );
}

#[tokio::test]
async fn what_is_to_be_skipped_is_not_touched() {
    let guest = Guest::boot().await;
    let (agent, archive) = (guest.agent(), archive().await);
    let skip = paths(&["web/package.json"]).into_iter().collect();
    archive
        .put_into(&agent, &put_spec(), &skip, MTIME)
        .await
        .unwrap();
    assert!(guest.tree().join("Makefile").exists());
    assert!(!guest.tree().join("web/package.json").exists());
}

#[tokio::test]
async fn a_bake_gets_the_inputs_and_nothing_else() {
    let guest = Guest::boot().await;
    let (agent, archive) = (guest.agent(), archive().await);
    let inputs = paths(&["web/package.json"]);
    let summary = archive
        .put_inputs(&agent, &put_spec(), &inputs, MTIME)
        .await
        .unwrap();
    assert_eq!((summary.entries, summary.bytes), (2, 2));
    let names: Vec<_> = fs::read_dir(guest.tree())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["web"]);
}

#[tokio::test]
async fn an_input_that_is_a_link_or_a_directory_is_named_and_nothing_is_put() {
    let guest = Guest::boot().await;
    let (agent, archive) = (guest.agent(), archive().await);
    for (input, sentence) in [
        (
            "link",
            "input link: is a symbolic link, inputs are regular files",
        ),
        ("src", "input src: is a directory, inputs are regular files"),
        ("link/x", "input link/x: lies behind the symbolic link link"),
    ] {
        let put = archive
            .put_inputs(&agent, &put_spec(), &paths(&[input]), MTIME)
            .await;
        assert_eq!(put.unwrap_err().to_string(), sentence);
    }
    assert!(!guest.tree().exists());
}
