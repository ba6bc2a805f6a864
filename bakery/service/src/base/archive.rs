//! A root filesystem as a tar archive, pinned by the digest of its bytes: `.tar`, `.tar.zst` or `.tar.gz`.
//!
//! What always holds: the archive is on this machine's disk and hashes to the digest in the template before anything reads it; neither it
//! nor what is in it takes more of that disk than [`MAX_ARCHIVE_BYTES`]; no device is made of it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bus::objects::ObjectsError;
use schemas::ObjectUri;
use schemas::https::HttpsUri;
use schemas::source::{ArchiveSource, ArchiveUri};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::Suppliers;
use crate::config::Config;
use crate::error::BakeError;
use crate::files;
use crate::program::{Program, TO_WRITE};
use crate::root::{BAD_ARCHIVE, refused};

/// 16 GiB, as it is fetched and as it is unpacked: no root filesystem is larger, and neither a server that never stops nor an archive of
/// zeros fills the disk.
const MAX_ARCHIVE_BYTES: u64 = 16 << 30;

/// The archive as tar reads it.
const PLAIN: &str = "archive";

/// What gzip says of files that it did not make.
const BAD_GZIP: &[&str] = &[
    "not in gzip format",
    "unexpected end of file",
    "invalid compressed data",
    "trailing garbage",
];

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
    let file = into.join(packing.file());
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
    let plain = packing.plain(file, MAX_ARCHIVE_BYTES).await?;
    extract(&plain, tree).await?;
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
    let download = download.map_err(|error| match error {
        ObjectsError::NotFound { .. } => BakeError::root(format!("there is no archive {uri}")),
        other => BakeError::Objects(other),
    })?;
    save(download, to, MAX_ARCHIVE_BYTES).await
}

/// Writes what comes to a file, unless it is more than `limit` bytes.
async fn save(download: impl AsyncRead + Unpin, to: &Path, limit: u64) -> Result<(), BakeError> {
    let failed = || BakeError::disk("download an archive to", to);
    let mut file = tokio::fs::File::create(to).await.map_err(failed())?;
    let copied = tokio::io::copy(&mut download.take(limit + 1), &mut file).await;
    if copied.map_err(failed())? > limit {
        return Err(too_large(limit));
    }
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

fn too_large(limit: u64) -> BakeError {
    BakeError::root(format!(
        "the archive, or what is packed in it, is larger than {limit} bytes"
    ))
}

/// Into a directory that is made for it. tar itself keeps to the directory: it takes `..` and absolute names for names inside, and makes
/// links that lead out of it last.
async fn extract(file: &Path, tree: &Path) -> Result<(), BakeError> {
    files::make_directory(tree)?;
    std::fs::set_permissions(tree, std::fs::Permissions::from_mode(0o755))
        .map_err(BakeError::disk("set the mode of", tree))?;
    Program::without_devices("tar")
        .args(["--extract", "--numeric-owner", "--same-permissions"])
        .args(["--xattrs", "--xattrs-include=*"])
        .args(["--anchored", "--exclude=./dev/*", "--exclude=dev/*"])
        .args(["--file".as_ref(), file.as_os_str()])
        .args(["--directory".as_ref(), tree.as_os_str()])
        .run(TO_WRITE)
        .await
        .map(drop)
        .map_err(refused(BAD_ARCHIVE))
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

    /// What the file that is fetched is called: gzip goes by the ending.
    fn file(self) -> &'static str {
        match self {
            Self::Plain => PLAIN,
            Self::Zstd => "archive.zst",
            Self::Gzip => "archive.gz",
        }
    }

    /// The archive as tar reads it, which is not larger than `limit`; what it was packed in goes. The program for zstd is on few
    /// machines, and its library in this one.
    async fn plain(self, file: PathBuf, limit: u64) -> Result<PathBuf, BakeError> {
        let plain = file.with_file_name(PLAIN);
        match self {
            Self::Plain => {}
            Self::Zstd => {
                let to = plain.clone();
                tokio::task::spawn_blocking(move || unpack_zstd(&file, &to, limit))
                    .await
                    .expect("unpacking neither panics nor is it cancelled")?;
            }
            Self::Gzip => unpack_gzip(&file, limit).await?,
        }
        Ok(plain)
    }
}

fn unpack_zstd(from: &Path, to: &Path, limit: u64) -> Result<(), BakeError> {
    let unpacking = || -> io::Result<u64> {
        let decoder = zstd::stream::read::Decoder::new(File::open(from)?)?;
        let unpacked = io::copy(&mut decoder.take(limit + 1), &mut File::create(to)?)?;
        std::fs::remove_file(from)?;
        Ok(unpacked)
    };
    match unpacking() {
        Ok(unpacked) if unpacked > limit => Err(too_large(limit)),
        Ok(_) => Ok(()),
        // What the system says has a number; what has none says zstd, of what it reads.
        Err(error) if error.raw_os_error().is_none() => Err(BakeError::root(format!(
            "the archive cannot be unpacked by zstd: {error}"
        ))),
        Err(error) => Err(BakeError::disk("unpack", from)(error)),
    }
}

async fn unpack_gzip(file: &Path, limit: u64) -> Result<(), BakeError> {
    let unpacking = Program::writing_up_to("gzip", limit)
        .arg("--decompress")
        .arg(file)
        .run(TO_WRITE);
    unpacking.await.map(drop).map_err(|error| {
        if error.is_too_large() {
            too_large(limit)
        } else {
            refused(BAD_GZIP)(error)
        }
    })
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

    const LIMIT: u64 = 1000;

    /// What comes of a file that is packed so, where no more than [`LIMIT`] may be in it.
    async fn unpacked(packing: Packing, body: &[u8]) -> Result<usize, BakeError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(packing.file());
        save(body, &file, LIMIT).await?;
        let plain = packing.plain(file, LIMIT).await?;
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "what it was packed in is gone: {left:?}");
        Ok(std::fs::read(plain).unwrap().len())
    }

    async fn gzip(length: usize) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        std::fs::write(&file, vec![0; length]).unwrap();
        let packing = Program::new("gzip").arg(&file).run(TO_WRITE);
        packing.await.unwrap();
        std::fs::read(file.with_extension("gz")).unwrap()
    }

    fn zstd(length: usize) -> Vec<u8> {
        zstd::encode_all(vec![0; length].as_slice(), 0).unwrap()
    }

    #[tokio::test]
    async fn neither_an_archive_nor_what_is_in_it_is_larger_than_its_limit() {
        for (packing, fits, over) in [
            (Packing::Plain, vec![0; 1000], vec![0; 1001]),
            (Packing::Zstd, zstd(1000), zstd(1001)),
            (Packing::Gzip, gzip(1000).await, gzip(100_000).await),
        ] {
            assert_eq!(unpacked(packing, &fits).await.unwrap(), 1000);
            let error = unpacked(packing, &over).await.unwrap_err();
            let sentence = error.to_string();
            assert!(
                sentence.ends_with("is larger than 1000 bytes"),
                "{sentence}"
            );
        }
    }

    #[tokio::test]
    async fn an_archive_that_is_broken_is_the_definitions_fault() {
        for (packing, whole) in [
            (Packing::Zstd, zstd(1000)),
            (Packing::Gzip, gzip(1000).await),
        ] {
            for broken in [&whole[..whole.len() - 1], b"what is not packed"] {
                let error = unpacked(packing, broken).await.unwrap_err();
                assert_eq!(error.fault(), store::Fault::Job, "{error}");
            }
        }
    }
}
