//! A root filesystem as a tar archive, pinned by the digest of its bytes: `.tar`, `.tar.zst` or `.tar.gz`.
//!
//! What always holds: the archive is on this machine's disk and hashes to the digest in the template before anything reads it.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bus::objects::ObjectsError;
use schemas::ObjectUri;
use schemas::https::HttpsUri;
use schemas::source::{ArchiveSource, ArchiveUri};
use tokio::io::AsyncWriteExt as _;

use super::Suppliers;
use crate::config::Config;
use crate::error::BakeError;
use crate::files;
use crate::program::{Program, TO_WRITE};

/// 16 GiB: no root filesystem is larger, and a server that never stops does not fill the disk.
const MAX_ARCHIVE_BYTES: u64 = 16 << 30;

/// How an archive is packed, as the end of its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Zstd,
    Gzip,
}

/// Fetches and unpacks the archive into the directory `tree`, which it makes; `into` is for what lies on the way.
pub(super) async fn unpack(
    archive: &ArchiveSource,
    suppliers: Suppliers<'_>,
    into: &Path,
    tree: &Path,
) -> Result<(), BakeError> {
    let packing = Packing::of(&archive.uri.to_string())?;
    let file = into.join("archive");
    match &archive.uri {
        ArchiveUri::S3(uri) => fetch_object(uri, suppliers, &file).await?,
        ArchiveUri::Https(uri) => fetch_https(uri, suppliers.config, into, &file).await?,
    }
    let (found, wanted) = (files::digest(&file).await?, archive.digest.sha256);
    if found != wanted {
        return Err(BakeError::root(format!(
            "the archive {} has the digest {found}, asked for was {wanted}",
            archive.uri
        )));
    }
    let plain = packing.plain(file).await?;
    extract(&plain, packing, tree).await?;
    std::fs::remove_file(&plain).map_err(BakeError::disk("remove", &plain))
}

/// An object of the operator's own, in the bucket for sources.
async fn fetch_object(
    uri: &ObjectUri,
    suppliers: Suppliers<'_>,
    to: &Path,
) -> Result<(), BakeError> {
    let bucket = &suppliers.objects.buckets().sources;
    if uri.bucket() != bucket {
        return Err(BakeError::root(format!(
            "the archive {uri} does not lie in s3://{bucket}/"
        )));
    }
    let download = suppliers.objects.get(uri.bucket(), uri.key()).await;
    let mut download = download.map_err(|error| match error {
        ObjectsError::NotFound { .. } => BakeError::root(format!("there is no archive {uri}")),
        other => BakeError::Objects(other),
    })?;
    let failed = || BakeError::disk("download an archive to", to);
    let mut file = tokio::fs::File::create(to).await.map_err(failed())?;
    let copied = tokio::io::copy(&mut download, &mut file).await;
    copied.map_err(failed())?;
    file.flush().await.map_err(failed())
}

/// From a host that the operator's configuration names.
async fn fetch_https(
    uri: &HttpsUri,
    config: &Config,
    into: &Path,
    to: &Path,
) -> Result<(), BakeError> {
    check_host(uri, config)?;
    let (ca, limit) = (&config.ca_bundle, MAX_ARCHIVE_BYTES);
    let fetching = source::fetch_https(uri, &config.archives, ca, limit, into);
    let (mut fetched, _digest) = Box::pin(fetching).await?;
    let named = to.to_owned();
    let copying = tokio::task::spawn_blocking(move || {
        fetched.rewind()?;
        io::copy(&mut fetched, &mut File::create(named)?)
    });
    let copied = copying
        .await
        .expect("copying neither panics nor is it cancelled");
    copied
        .map(drop)
        .map_err(BakeError::disk("copy an archive to", to))
}

/// Whether the operator allows the host. Nothing is resolved to find out.
fn check_host(uri: &HttpsUri, config: &Config) -> Result<(), BakeError> {
    let host = uri.endpoint();
    let allowed = &config.archives.hosts;
    if allowed
        .iter()
        .any(|allowed| allowed.to_string() == host.as_str())
    {
        return Ok(());
    }
    Err(BakeError::root(format!(
        "the host {host} is not in the configuration of this bakery: add it to archives.hosts there, or put the archive \
         into the bucket for sources"
    )))
}

/// Into a directory that is made for it. tar itself keeps to the directory: it takes `..` and absolute names for names inside, and makes
/// links that lead out of it last.
async fn extract(file: &Path, packing: Packing, tree: &Path) -> Result<(), BakeError> {
    files::make_directory(tree)?;
    std::fs::set_permissions(tree, std::fs::Permissions::from_mode(0o755))
        .map_err(BakeError::disk("set the mode of", tree))?;
    Program::contained("tar")
        .args(["--extract", "--numeric-owner", "--same-permissions"])
        .args(["--xattrs", "--xattrs-include=*"])
        .args(["--anchored", "--exclude=./dev/*", "--exclude=dev/*"])
        .args(packing.option())
        .args(["--file".as_ref(), file.as_os_str()])
        .args(["--directory".as_ref(), tree.as_os_str()])
        .run(TO_WRITE)
        .await?;
    Ok(())
}

impl Packing {
    fn of(name: &str) -> Result<Self, BakeError> {
        let endings = [
            (".tar", Self::Plain),
            (".tar.zst", Self::Zstd),
            (".tar.gz", Self::Gzip),
        ];
        let found = endings
            .into_iter()
            .find(|(ending, _)| name.ends_with(ending));
        found.map(|(_, packing)| packing).ok_or_else(|| {
            BakeError::root(format!(
                "the name of the archive {name} must end with .tar, .tar.zst or .tar.gz"
            ))
        })
    }

    /// The archive as tar reads it: the program for zstd is on few machines, and its library in this one.
    async fn plain(self, file: PathBuf) -> Result<PathBuf, BakeError> {
        match self {
            Self::Plain | Self::Gzip => Ok(file),
            Self::Zstd => {
                let plain = file.with_extension("tar");
                let (from, to) = (file.clone(), plain.clone());
                tokio::task::spawn_blocking(move || unpack_zstd(&from, &to))
                    .await
                    .expect("unpacking neither panics nor is it cancelled")
                    .map_err(BakeError::disk("unpack", &file))?;
                Ok(plain)
            }
        }
    }

    fn option(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Zstd => None,
            Self::Gzip => Some("--gzip"),
        }
    }
}

/// The archive goes: its content is on the disk a second time.
fn unpack_zstd(from: &Path, to: &Path) -> io::Result<()> {
    zstd::stream::copy_decode(File::open(from)?, File::create(to)?)?;
    std::fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_archive_says_how_it_is_packed() {
        let packing = |name: &str| Packing::of(name).map_err(|error| error.to_string());
        assert_eq!(packing("s3://b/a.tar"), Ok(Packing::Plain));
        assert_eq!(packing("s3://b/a.tar.zst"), Ok(Packing::Zstd));
        assert_eq!(packing("s3://b/a.tar.gz"), Ok(Packing::Gzip));
        let refused = packing("s3://b/a.zip").unwrap_err();
        assert!(
            refused.ends_with("must end with .tar, .tar.zst or .tar.gz"),
            "{refused}"
        );
    }
}
