//! A template's root filesystem: whatever it is made of, it ends as one tar of one digest.
//!
//! ```text
//! Debian packages ─ mmdebstrap ──────────────▶ ╮
//! OCI image       ─ skopeo, digests, umoci ──▶ tree ─ finish ─▶ packages ─ tar ─▶ root.tar (sorted, times clamped)
//! root archive    ─ digest, tar ─────────────▶ ╯
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`debian`], [`oci`], [`archive`] | the three bases, each of which fills the tree |
//! | [`finish`] | what every guest has: its user, its directories, its name, its certificate authorities |
//! | [`packages`] | what dpkg says is installed |
//!
//! What always holds: nothing that was fetched is read before its digest is the one asked for; no program of an image runs on the host;
//! nothing outside the tree is written, whatever links an image has; the same base gives the same bytes.

mod archive;
mod debian;
mod finish;
mod oci;
mod packages;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use bus::objects::Objects;
use nix::unistd::Uid;
use schemas::template::Base;

use crate::config::Config;
use crate::error::BakeError;
use crate::files;
use crate::program::{Program, TO_WRITE};
use crate::root::{Root, SOURCE_DATE_EPOCH};

/// Where bases come from.
#[derive(Clone, Copy)]
pub(crate) struct Suppliers<'a> {
    /// Debian's mirrors, registries and hosts that the operator allows.
    pub(crate) config: &'a Config,
    /// Where root archives of the operator's own lie.
    pub(crate) objects: &'a Objects,
}

/// Makes the root filesystem of `base` as an archive in the directory `into`. `ca` is the bundle that it takes over, if it does.
pub(crate) async fn make(
    base: &Base,
    suppliers: Suppliers<'_>,
    ca: Option<&Path>,
    into: &Path,
) -> Result<Root, BakeError> {
    check_user()?;
    let tree = into.join("tree");
    match base {
        Base::Debian(debian) => {
            let sources = &suppliers.config.debian_sources;
            debian::unpack(debian, sources, into, &tree).await?;
        }
        Base::Oci(image) => oci::unpack(image, &suppliers.config.oci, into, &tree).await?,
        Base::Archive(archive) => archive::unpack(archive, suppliers, into, &tree).await?,
    }
    let packages = finished(&tree, ca).await?;
    let tar = pack(&tree, into).await?;
    files::remove_tree(&tree).await?;
    Ok(Root {
        digest: files::digest(&tar).await?,
        tar,
        packages,
    })
}

/// What every base needs.
fn check_user() -> Result<(), BakeError> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(BakeError::root(
        "its files belong to many users, which only root can give them: run this bakery as root",
    ))
}

/// Writes what every guest has, beside the reactor; returns the packages.
async fn finished(tree: &Path, ca: Option<&Path>) -> Result<Vec<String>, BakeError> {
    let (tree, ca) = (tree.to_owned(), ca.map(Path::to_owned));
    let finishing = tokio::task::spawn_blocking(move || {
        finish::finish(&tree, ca.as_deref())?;
        packages::installed(&tree)
    });
    finishing
        .await
        .expect("finishing a tree neither panics nor is it cancelled")
}

/// The tree as an archive: files sorted by name, no time newer than [`SOURCE_DATE_EPOCH`], whole seconds. Devices are the guest
/// kernel's own affair.
async fn pack(tree: &Path, into: &Path) -> Result<PathBuf, BakeError> {
    let tar = into.join("root.tar");
    Program::new("tar")
        .args(["--create", "--format=posix", "--sort=name"])
        .args(["--numeric-owner", "--clamp-mtime"])
        .arg(format!("--mtime=@{SOURCE_DATE_EPOCH}"))
        // The default name of an extended header holds the process id; its times are those of the copy, or finer than a second.
        .arg("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime,delete=mtime")
        .args(["--xattrs", "--xattrs-include=*", "--exclude=./dev/*"])
        .args(["--file".as_ref(), tar.as_os_str()])
        .args(["--directory".as_ref(), tree.as_os_str()])
        .arg(".")
        .run(TO_WRITE)
        .await?;
    Ok(tar)
}
