//! A template's root filesystem, as an archive and as a disk.
//!
//! ```text
//! base ─▶ root.tar (its digest is in the key) ─ tar, mke2fs -d ─▶ disk (ext4, sparse, no journal)
//! ```
//!
//! What a program that fails says tells whose fault it is: [`refused`] turns the sentences by which it finds fault with what it was given
//! into an error of the definition's, which is not tried again. Any other failure is the host's.

use std::path::{Path, PathBuf};

use schemas::Sha256Digest;

use crate::error::BakeError;
use crate::files;
use crate::program::{Program, ProgramError, TO_WRITE};

/// 2020-01-01: no file of a root is newer, so that two bakes of the same packages give the same bytes. Setup steps see it as
/// their `SOURCE_DATE_EPOCH`. Any fixed time would do; archives in zip format know none before 1980.
pub(crate) const SOURCE_DATE_EPOCH: i64 = 1_577_836_800;

/// Fixed, as is all in the image that mke2fs would otherwise draw at random.
const FILE_SYSTEM_ID: &str = "00000000-0000-4000-8000-000000000000";

/// What tar says of archives that are broken, or hold what no root may: devices outside of `/dev`.
pub(crate) const BAD_ARCHIVE: &[&str] = &[
    "does not look like a tar archive",
    "Unexpected EOF in archive",
    "Skipping to next header",
    "Cannot mknod",
    "Cannot hard link to",
    "Not a directory",
];

/// What mke2fs says where the files are more than the disk holds.
const FULL: &[&str] = &["Could not allocate block", "Could not allocate inode"];

/// A root filesystem, as an archive.
#[derive(Debug)]
pub(crate) struct Root {
    /// The archive.
    pub(crate) tar: PathBuf,
    /// Its digest.
    pub(crate) digest: Sha256Digest,
    /// Its packages, `name=version`, sorted.
    pub(crate) packages: Vec<String>,
}

/// Makes the disk, `disk_mib` large, from the archive; `into` is for what lies on the way.
pub(crate) async fn disk(tar: &Path, disk_mib: u32, into: &Path) -> Result<PathBuf, BakeError> {
    let (tree, disk) = (into.join("tree"), into.join("disk"));
    files::make_directory(&tree)?;
    // Devices are the guest kernel's own affair.
    Program::without_devices("tar")
        .args(["--extract", "--numeric-owner", "--same-permissions"])
        .args(["--xattrs", "--xattrs-include=*", "--exclude=./dev/*"])
        .args(["--file".as_ref(), tar.as_os_str()])
        .args(["--directory".as_ref(), tree.as_os_str()])
        .run(TO_WRITE)
        .await
        .map_err(refused(BAD_ARCHIVE))?;
    // A fork is thrown away, never recovered: a journal would only be written twice. The file is new, so it is all zeros.
    Program::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0"])
        .args(["-U", FILE_SYSTEM_ID, "-E"])
        .arg(format!(
            "assume_storage_prezeroed=1,root_owner=0:0,hash_seed={FILE_SYSTEM_ID}"
        ))
        .args(["-d".as_ref(), tree.as_os_str()])
        .arg(&disk)
        .arg(format!("{disk_mib}M"))
        .run(TO_WRITE)
        .await
        .map_err(|error| does_not_fit(error, disk_mib))?;
    files::remove_tree(&tree).await?;
    Ok(disk)
}

/// For `map_err`: the definition's fault if the program said one of `sentences`, since it would say so again; else the host's.
pub(crate) fn refused(
    sentences: &'static [&'static str],
) -> impl FnOnce(ProgramError) -> BakeError {
    move |error| {
        if error.says(sentences) {
            BakeError::root(error.to_string())
        } else {
            BakeError::Program(error)
        }
    }
}

fn does_not_fit(error: ProgramError, disk_mib: u32) -> BakeError {
    if error.says(FULL) {
        return BakeError::root(format!(
            "it does not fit on a disk of {disk_mib} MiB: raise resources.disk_mib in the template"
        ));
    }
    BakeError::Program(error)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use store::Fault;

    use super::*;

    /// What comes of a root with one entry, on a disk of 8 MiB.
    async fn disk_of(mut header: tar::Header, name: &str, body: &[u8]) -> Result<(), BakeError> {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root.tar");
        let mut archive = tar::Builder::new(File::create(&root).unwrap());
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, body).unwrap();
        archive.finish().unwrap();
        disk(&root, 8, directory.path()).await.map(drop)
    }

    fn skipped() -> bool {
        let skipped = !nix::unistd::Uid::effective().is_root();
        if skipped {
            eprintln!("skipped: not root");
        }
        skipped
    }

    #[tokio::test]
    async fn a_root_that_does_not_fit_on_its_disk_is_the_definitions_fault() {
        if skipped() {
            return;
        }
        let small = disk_of(tar::Header::new_gnu(), "file", &[1; 1000]);
        small.await.unwrap();
        let body = vec![1; 16 << 20];
        let large = disk_of(tar::Header::new_gnu(), "file", &body);
        let error = large.await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "root filesystem: it does not fit on a disk of 8 MiB: raise resources.disk_mib in the template"
        );
        assert_eq!(error.fault(), Fault::Job);
    }

    #[tokio::test]
    async fn a_device_is_never_made() {
        if skipped() {
            return;
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Block);
        header.set_device_major(7).unwrap();
        header.set_device_minor(0).unwrap();
        let error = disk_of(header, "loop0", &[]).await.unwrap_err();
        assert!(error.to_string().contains("Cannot mknod"), "{error}");
        assert_eq!(error.fault(), Fault::Job);
    }

    #[tokio::test]
    async fn a_failure_that_says_nothing_of_the_definition_is_the_hosts() {
        let script = "echo 'tar: a: Cannot write: No space left on device' >&2; exit 2";
        let failing = Program::new("sh").args(["-c", script]).run(TO_WRITE);
        let error = failing.await.map_err(refused(BAD_ARCHIVE)).unwrap_err();
        assert_eq!(
            (error.fault(), error.reason()),
            (Fault::Host, "host_failed")
        );
    }
}
