//! Publishing: chunks, then the manifest, then the pointer. Until the pointer moves nothing is visible; what a dead
//! publisher left are objects that nobody names, and the next one finds them there.
//!
//! A collection may run at the same time. That it takes nothing that is relied upon here is argued in `collect`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::retry::{self, Failure, Policy};
use bus::telemetry::Causes;
use bytes::Bytes;
use jiff::Timestamp;
use schemas::{Sha256Digest, names};
use tracing::{info, warn};

use crate::Store;
use crate::error::StoreError;
use crate::key::KeyParts;
use crate::manifest::{Details, Manifest, check_name};
use crate::objects::{self, Kind};
use crate::progress::Progress;
use crate::upload::Uploaded;

/// 30 s: longer than an object store takes to start again, and nothing beside the bake before it.
const SECURE_FOR: Duration = Duration::from_secs(30);

/// What became of a snapshot that was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The digest of the manifest that the key now leads to.
    pub digest: Sha256Digest,
    /// That manifest.
    pub manifest: Manifest,
    /// How many bytes had to be sent: chunks, compressed, and the manifest.
    pub uploaded_bytes: u64,
    /// The snapshot's size in the object store: its chunks, compressed, each once, and the manifest.
    pub stored_bytes: u64,
    /// How many chunks it has that are not zero; one that occurs twice counts twice.
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
    /// published under this key before the call is replaced, and what the object store has of it is not trusted but sent
    /// again, also if its pointer is gone; one that appears during the call stands. What an interrupted call sent is not sent again.
    pub async fn publish(
        &self,
        dir: &Path,
        parts: KeyParts,
        details: Details,
        progress: &dyn Progress,
    ) -> Result<Published, StoreError> {
        let failed = || StoreError::pointers("publish a snapshot");
        let name = names::snapshot_pointer(&parts.key());
        let before = self.pointers.get(&name).await.map_err(failed())?;
        // The mark of a pointer that is gone has a revision: what was withdrawn may be damaged in more chunks than the one that was
        // found.
        let trusted = before.revision == 0;
        let files = list(dir)?;
        let uploaded = self.upload(files, &parts, trusted, progress).await?;
        let manifest = Manifest::new(parts, details, uploaded.files.clone(), Timestamp::now());
        let (digest, manifest_bytes) = self.put_manifest(&manifest).await?;
        let replaced = self.pointers.replace(&name, before, digest).await;
        let sent = uploaded.sent_bytes + manifest_bytes;
        if !replaced.map_err(failed())? {
            return self.standing(&manifest.key, &uploaded, sent).await;
        }
        if let Err(error) = Box::pin(self.secure_in_time(&uploaded)).await {
            Box::pin(self.take_back(&manifest, digest)).await;
            return Err(error);
        }
        info!(key = %manifest.key, %digest, uploaded_bytes = sent, "published a snapshot");
        Ok(published(digest, manifest, &uploaded, sent, true))
    }

    /// As [`Self::secure`], and again where the object store is away for a moment.
    async fn secure_in_time(&self, uploaded: &Uploaded) -> Result<(), StoreError> {
        let policy = Policy::up_to(SECURE_FOR);
        let secure = || async {
            let secured = Box::pin(self.secure(uploaded)).await;
            secured.map_err(|error| {
                if error.is_transient() {
                    Failure::Transient(error)
                } else {
                    Failure::Permanent(error)
                }
            })
        };
        retry::with(policy, "look at the chunks that were sent again", secure).await
    }

    /// Takes away the pointer that was just set: who publishes is told that it failed, and nobody must find what may have gaps.
    /// Where that fails too, whoever fetches it finds the gap, and withdraws it.
    async fn take_back(&self, manifest: &Manifest, digest: Sha256Digest) {
        let (key, taking) = (&manifest.key, async {
            let pointer = self.pointer(&manifest.key).await?;
            if pointer.digest != Some(digest) {
                return Ok(false);
            }
            self.retire(&manifest.key, pointer, Some(manifest)).await
        });
        if let Err(error) = taking.await {
            warn!(%key, %digest, error = %Causes(&error), "a snapshot that may have gaps stays published");
        }
    }

    /// Stores a manifest; returns its digest and length.
    pub(crate) async fn put_manifest(
        &self,
        manifest: &Manifest,
    ) -> Result<(Sha256Digest, u64), StoreError> {
        let bytes = Bytes::from(manifest.to_bytes());
        let (digest, length) = (Sha256Digest::of(&bytes), bytes.len() as u64);
        objects::put(&self.objects, Kind::Manifest, &digest, bytes).await?;
        Ok((digest, length))
    }

    /// What another publisher made of the key.
    async fn standing(
        &self,
        key: &Sha256Digest,
        uploaded: &Uploaded,
        sent: u64,
    ) -> Result<Published, StoreError> {
        let digest = self.find(key).await?;
        let digest = digest.ok_or(StoreError::NotFound { key: *key })?;
        let manifest = self.manifest(&digest).await?;
        info!(%key, %digest, "another bakery published this snapshot first");
        Ok(published(digest, manifest, uploaded, sent, false))
    }
}

fn published(
    digest: Sha256Digest,
    manifest: Manifest,
    uploaded: &Uploaded,
    uploaded_bytes: u64,
    won: bool,
) -> Published {
    Published {
        digest,
        stored_bytes: manifest.stored_bytes(),
        chunks: manifest.chunks().count() as u64,
        manifest,
        uploaded_bytes,
        chunks_uploaded: uploaded.sent_chunks,
        won,
    }
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
