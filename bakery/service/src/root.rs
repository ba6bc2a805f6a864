//! A template's root filesystem, as an archive and as a disk.
//!
//! ```text
//! base ─▶ root.tar (its digest is in the key) ─ tar, mke2fs -d ─▶ disk (ext4, sparse, no journal)
//! ```

use std::path::{Path, PathBuf};

use schemas::Sha256Digest;

use crate::error::BakeError;
use crate::files;
use crate::program::{Program, TO_WRITE};

/// 2020-01-01: no file of a root is newer, so that two bakes of the same packages give the same bytes. Setup steps see it as
/// their `SOURCE_DATE_EPOCH`. Any fixed time would do; archives in zip format know none before 1980.
pub(crate) const SOURCE_DATE_EPOCH: i64 = 1_577_836_800;

/// Fixed, as is all in the image that mke2fs would otherwise draw at random.
const FILE_SYSTEM_ID: &str = "00000000-0000-4000-8000-000000000000";

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
    Program::new("tar")
        .args(["--extract", "--numeric-owner", "--same-permissions"])
        .args(["--xattrs", "--xattrs-include=*", "--exclude=./dev/*"])
        .args(["--file".as_ref(), tar.as_os_str()])
        .args(["--directory".as_ref(), tree.as_os_str()])
        .run(TO_WRITE)
        .await?;
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
        .await?;
    files::remove_tree(&tree).await?;
    Ok(disk)
}
