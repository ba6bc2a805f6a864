//! Publishing: files, then the manifest, then the pointer. Until the pointer moves nothing is visible; what a dead
//! publisher left are objects that nobody names.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use bus::objects::Objects;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use schemas::{Sha256Digest, names};
use tracing::info;

use crate::Store;
use crate::error::StoreError;
use crate::key::KeyParts;
use crate::manifest::{Details, Manifest, StoredFile, check_name};
use crate::objects;
use crate::pack::pack;
use crate::progress::Progress;

/// 2: memory and disk, the two large files of a snapshot, at the same time.
const PARALLEL: usize = 2;

/// What became of a snapshot that was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The digest of the manifest that the key now leads to.
    pub digest: Sha256Digest,
    /// That manifest.
    pub manifest: Manifest,
    /// How many bytes had to be sent, compressed.
    pub uploaded_bytes: u64,
    /// The snapshot's size in the object store: its chunks, compressed, and the manifest.
    pub stored_bytes: u64,
    /// How many chunks it has that are not zero.
    pub chunks: u64,
    /// How many of them had to be sent.
    pub chunks_uploaded: u64,
    /// Whether it is the one given to [`Store::publish`]. `false`: another bakery published this key in the meantime;
    /// its snapshot is as good, and it stands.
    pub won: bool,
}

impl Store {
    /// Publishes every file in `dir` as the snapshot with the key of `parts`.
    ///
    /// `dir` holds regular files with plain names and nothing else; they must not change meanwhile. A snapshot that was
    /// published under this key before the call is replaced; one that appears during the call stands.
    pub async fn publish(
        &self,
        dir: &Path,
        parts: KeyParts,
        details: Details,
        _progress: &dyn Progress,
    ) -> Result<Published, StoreError> {
        let failed = || StoreError::pointers("publish a snapshot");
        let name = names::snapshot_pointer(&parts.key());
        let before = self.pointers.get(&name).await.map_err(failed())?;
        let (files, sent_files) = self.store_files(dir).await?;
        let manifest = Manifest::new(parts, details, files, Timestamp::now());
        let (digest, sent_manifest) = self.store_manifest(&manifest).await?;
        let uploaded_bytes = sent_files + sent_manifest;
        let replaced = self.pointers.replace(&name, before, digest).await;
        if !replaced.map_err(failed())? {
            return self.standing(&manifest.key, uploaded_bytes).await;
        }
        info!(key = %manifest.key, %digest, uploaded_bytes, "published a snapshot");
        Ok(Published {
            digest,
            manifest,
            uploaded_bytes,
            stored_bytes: 0,
            chunks: 0,
            chunks_uploaded: 0,
            won: true,
        })
    }

    /// Stores the files of `dir`; returns them sorted by name, and how many bytes were sent.
    async fn store_files(&self, dir: &Path) -> Result<(Vec<StoredFile>, u64), StoreError> {
        let scratch = self.cache.scratch()?;
        let uploads: Vec<_> = list(dir)?
            .into_iter()
            .map(|(name, path)| store_file(&self.objects, name, path, scratch))
            .collect();
        let stored: Vec<(StoredFile, u64)> = stream::iter(uploads)
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let sent = stored.iter().map(|(_, sent)| sent).sum();
        Ok((stored.into_iter().map(|(file, _)| file).collect(), sent))
    }

    async fn store_manifest(&self, manifest: &Manifest) -> Result<(Sha256Digest, u64), StoreError> {
        let bytes = manifest.to_bytes();
        let digest = Sha256Digest::of(&bytes);
        let scratch = self.cache.scratch()?;
        let file = spool(&bytes, scratch).map_err(StoreError::disk("write a manifest"))?;
        let sent = objects::store(&self.objects, &digest, file, bytes.len() as u64).await?;
        Ok((digest, sent))
    }

    /// What another publisher made of the key.
    async fn standing(
        &self,
        key: &Sha256Digest,
        uploaded_bytes: u64,
    ) -> Result<Published, StoreError> {
        let digest = self.find(key).await?;
        let digest = digest.ok_or(StoreError::NotFound { key: *key })?;
        let manifest = self.manifest(&digest).await?;
        info!(%key, %digest, "another bakery published this snapshot first");
        Ok(Published {
            digest,
            manifest,
            uploaded_bytes,
            stored_bytes: 0,
            chunks: 0,
            chunks_uploaded: 0,
            won: false,
        })
    }
}

/// An unnamed file with these bytes, to be read from its start.
fn spool(bytes: &[u8], scratch: &Path) -> std::io::Result<File> {
    let mut file = tempfile::tempfile_in(scratch)?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Compresses and stores one file.
async fn store_file(
    objects: &Objects,
    name: String,
    path: PathBuf,
    scratch: &Path,
) -> Result<(StoredFile, u64), StoreError> {
    let doing = format!("compress {}", path.display());
    let scratch = scratch.to_owned();
    let packed = tokio::task::spawn_blocking(move || pack(&path, &scratch))
        .await
        .expect("compressing neither panics nor is it cancelled")
        .map_err(StoreError::disk(doing))?;
    let sent = objects::store(objects, &packed.object, packed.stream, packed.stored_bytes).await?;
    let file = StoredFile {
        name,
        size_bytes: packed.size_bytes,
        sha256: packed.sha256,
        object: packed.object,
        stored_bytes: packed.stored_bytes,
    };
    Ok((file, sent))
}

/// The files of a snapshot's directory, sorted by name.
fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let unreadable = || StoreError::disk(format!("list {}", dir.display()));
    let refuse = |problem| StoreError::Unpublishable {
        path: dir.to_owned(),
        problem,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable())? {
        let entry = entry.map_err(unreadable())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().map_err(unreadable())?.is_file() {
            return Err(refuse(format!("{name:?} is not a regular file")));
        }
        check_name(&name).map_err(refuse)?;
        files.push((name, entry.path()));
    }
    if files.is_empty() {
        return Err(refuse("is empty".to_owned()));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(prepare: impl FnOnce(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let shown = dir.path().display().to_string();
        list(dir.path())
            .unwrap_err()
            .to_string()
            .replace(&shown, "DIR")
    }

    #[test]
    fn the_files_of_a_directory_come_sorted_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["state", "disk", "memory"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let names: Vec<_> = list(dir.path())
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["disk", "memory", "state"]);
    }

    #[test]
    fn what_is_no_plain_file_is_not_published() {
        assert_eq!(refused(|_| ()), "publish DIR: is empty");
        assert_eq!(
            refused(|dir| std::fs::create_dir(dir.join("below")).unwrap()),
            "publish DIR: \"below\" is not a regular file"
        );
        assert_eq!(
            refused(|dir| std::os::unix::fs::symlink("/etc/passwd", dir.join("memory")).unwrap()),
            "publish DIR: \"memory\" is not a regular file"
        );
        assert_eq!(
            refused(|dir| std::fs::write(dir.join(".hidden"), "").unwrap()),
            "publish DIR: \".hidden\" is not a plain file name"
        );
        assert_eq!(
            refused(|dir| std::fs::write(dir.join("manifest.json"), "").unwrap()),
            "publish DIR: \"manifest.json\" is the name of the manifest itself"
        );
    }
}
