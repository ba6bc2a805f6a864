//! The manifest: what a snapshot consists of and what made it. Stored under its own digest, as canonical JSON.
//!
//! What always holds of a manifest that was parsed: its key is the key of its parts, its files have plain names, each
//! once, and their chunks lie within them in order. So a manifest cannot name a file outside the directory that a snapshot
//! is written to, nor a place outside a file.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use schemas::{Sha256Digest, canonical};
use serde::{Deserialize, Serialize};

use crate::cache::USED_FILE;
use crate::chunk::{self, MAX_STORED_BYTES};
use crate::key::KeyParts;

/// Value of [`Manifest::schema`]. Whoever changes it changes [`crate::KEY_VERSION`] too: a manifest that cannot be read counts as
/// damaged, and releases that share a key must not take each other's snapshots away.
pub const MANIFEST_SCHEMA: &str = "sourdough/snapshot/v2";

/// The manifest's name in a cached snapshot's directory; no file of a snapshot may have it.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// What a snapshot consists of and what made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// The snapshot key: that of `parts`.
    pub key: Sha256Digest,
    /// Everything that went into the key.
    pub parts: KeyParts,
    /// When it was published.
    pub created_at: Timestamp,
    /// Its files, sorted by name.
    pub files: Vec<StoredFile>,
    /// What else is known of the bake.
    #[serde(flatten)]
    pub details: Details,
}

/// What is worth knowing of a bake and is not in the key, since the key's parts decide it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// A template's installed packages, `name=version`, sorted; empty for an environment.
    #[serde(default)]
    pub packages: Vec<String>,
    /// The time that the root filesystem's files were clamped to, in seconds since the Unix epoch.
    #[serde(default)]
    pub source_date_epoch: Option<i64>,
    /// What was found when it was forked before it was published; none if it was not.
    #[serde(default)]
    pub gate: Option<GateReport>,
}

/// What the throw-away forks of a snapshot showed before it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// When it was done.
    pub checked_at: Timestamp,
    /// The forks, in the order in which they were made.
    pub forks: Vec<ForkReport>,
    /// Whether the forks' random bytes differ.
    pub entropy_differs: bool,
    /// Whether the forks' random UUIDs differ.
    pub uuid_differs: bool,
    /// Whether the forks' disks had the same content.
    pub disks_agree: bool,
    /// How many canaries were searched for in memory and disk; none was found.
    pub canaries: u32,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What one throw-away fork showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkReport {
    /// From the fork to the agent's first answer, in milliseconds.
    pub answered_ms: u64,
    /// The guest's clock less the host's, in milliseconds.
    pub clock_skew_ms: i64,
    /// Digest over the disk's content as the guest sees it.
    pub disk_digest: Sha256Digest,
}

/// One file of a snapshot and the chunks that it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Name in the snapshot's directory.
    pub name: String,
    /// Length, holes included.
    pub size_bytes: u64,
    /// Its chunks of 512 KiB, ascending; those of nothing but zeros are left out.
    pub chunks: Vec<Chunk>,
}

/// One chunk of a file; `[index, "digest", stored_bytes]` in JSON, for there are thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, Sha256Digest, u32)", into = "(u32, Sha256Digest, u32)")]
pub struct Chunk {
    /// Which of the file's chunks it is, from 0.
    pub index: u32,
    /// Digest of its plain bytes, which names its object.
    pub sha256: Sha256Digest,
    /// Length of the object: the chunk, compressed.
    pub stored_bytes: u32,
}

impl From<(u32, Sha256Digest, u32)> for Chunk {
    fn from((index, sha256, stored_bytes): (u32, Sha256Digest, u32)) -> Self {
        Self {
            index,
            sha256,
            stored_bytes,
        }
    }
}

impl From<Chunk> for (u32, Sha256Digest, u32) {
    fn from(chunk: Chunk) -> Self {
        (chunk.index, chunk.sha256, chunk.stored_bytes)
    }
}

impl StoredFile {
    /// Its plain bytes that are not in holes.
    pub fn data_bytes(&self) -> u64 {
        let lengths = self.chunks.iter();
        lengths
            .map(|chunk| chunk::length(self.size_bytes, chunk.index) as u64)
            .sum()
    }

    /// Checks what a reader relies on: chunks in order, each within the file, none longer than a chunk can be.
    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        let mut next = 0;
        for chunk in &self.chunks {
            let index = u64::from(chunk.index);
            if index < next || index >= chunk::count(self.size_bytes) {
                return Err(format!("{:?} has a chunk {index} out of place", self.name));
            }
            if chunk.stored_bytes as usize > MAX_STORED_BYTES {
                return Err(format!("{:?} has a chunk {index} too large", self.name));
            }
            next = index + 1;
        }
        Ok(())
    }
}

impl Manifest {
    /// The manifest of `files`, made from `parts`.
    pub(crate) fn new(
        parts: KeyParts,
        details: Details,
        files: Vec<StoredFile>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            schema: MANIFEST_SCHEMA.to_owned(),
            key: parts.key(),
            parts,
            created_at,
            files,
            details,
        }
    }

    /// Its size in the object store: each of its chunks once, those included that others share, and the manifest.
    pub fn stored_bytes(&self) -> u64 {
        let chunks: HashMap<_, _> = self
            .chunks()
            .map(|(_, chunk)| (chunk.sha256, u64::from(chunk.stored_bytes)))
            .collect();
        chunks.values().sum::<u64>() + self.to_bytes().len() as u64
    }

    /// Its plain bytes that are not in holes: what it takes on a disk.
    pub fn data_bytes(&self) -> u64 {
        self.files.iter().map(StoredFile::data_bytes).sum()
    }

    /// Whether others may be forked from it.
    pub(crate) fn is_template(&self) -> bool {
        self.parts.template_key.is_none()
    }

    /// The name in the definition of its template or environment; the empty string where there is none.
    pub fn name(&self) -> &str {
        self.parts.definition["name"].as_str().unwrap_or_default()
    }

    /// Every chunk with its file.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (&StoredFile, &Chunk)> {
        let of = |file| move |chunk| (file, chunk);
        self.files
            .iter()
            .flat_map(move |file| file.chunks.iter().map(of(file)))
    }

    /// As canonical JSON: what its digest is taken of.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_vec(self).expect("a manifest is JSON: its maps have strings as keys")
    }

    /// Reads and checks a manifest; the problem is a sentence that names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.schema != MANIFEST_SCHEMA {
            return Err(format!(
                "schema: must be {MANIFEST_SCHEMA}, is {}",
                manifest.schema
            ));
        }
        if manifest.key != manifest.parts.key() {
            return Err("key: is not the key of its parts".to_owned());
        }
        let mut names = BTreeSet::new();
        for file in &manifest.files {
            file.check()
                .map_err(|problem| format!("files: {problem}"))?;
            if !names.insert(&file.name) {
                return Err(format!("files: {:?} is there twice", file.name));
            }
        }
        Ok(manifest)
    }
}

/// Checks that `name` is one plain file name: letters, digits, `.`, `-`, `_`, not hidden, not the manifest's own.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || !plain {
        return Err(format!("{name:?} is not a plain file name"));
    }
    if name == MANIFEST_FILE {
        return Err(format!("{name:?} is the name of the manifest itself"));
    }
    if name == USED_FILE {
        return Err(format!("{name:?} is a name of the cache's own"));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::chunk::CHUNK_BYTES;
    use crate::key::tests::parts;

    fn chunk(index: u32) -> Chunk {
        let sha256 = Sha256Digest::of(index.to_string());
        (index, sha256, 100).into()
    }

    pub(crate) fn manifest(names: &[&str]) -> Manifest {
        let file = |name: &&str| StoredFile {
            name: (*name).to_owned(),
            size_bytes: 2 << 20,
            chunks: vec![chunk(1), chunk(3)],
        };
        let files = names.iter().map(file).collect();
        Manifest::new(parts(), Details::default(), files, Timestamp::UNIX_EPOCH)
    }

    fn refused(manifest: &Manifest) -> String {
        Manifest::parse(&manifest.to_bytes()).unwrap_err()
    }

    #[test]
    fn a_manifest_reads_back_what_it_writes() {
        let manifest = manifest(&["disk", "memory"]);
        assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest));
    }

    #[test]
    fn a_manifest_of_another_schema_is_refused() {
        let mut other = manifest(&[]);
        other.schema = "sourdough/snapshot/v1".to_owned();
        assert_eq!(
            refused(&other),
            "schema: must be sourdough/snapshot/v2, is sourdough/snapshot/v1"
        );
    }

    #[test]
    fn a_key_that_its_parts_do_not_give_is_refused() {
        let mut other = manifest(&[]);
        other.parts.salt.push('x');
        assert_eq!(refused(&other), "key: is not the key of its parts");
    }

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        for name in [
            "",
            "..",
            "../memory",
            "/etc/passwd",
            "a/b",
            ".hidden",
            "a b",
            "a\0",
        ] {
            assert_eq!(
                refused(&manifest(&[name])),
                format!("files: {name:?} is not a plain file name")
            );
        }
        assert_eq!(
            refused(&manifest(&["manifest.json"])),
            "files: \"manifest.json\" is the name of the manifest itself"
        );
        assert_eq!(
            refused(&manifest(&["disk", "disk"])),
            "files: \"disk\" is there twice"
        );
    }

    #[test]
    fn chunks_out_of_order_behind_the_end_or_too_large_are_refused() {
        for (chunks, problem) in [
            (vec![chunk(1), chunk(1)], "a chunk 1 out of place"),
            (vec![chunk(2), chunk(1)], "a chunk 1 out of place"),
            (vec![chunk(4)], "a chunk 4 out of place"),
            (
                vec![(0, Sha256Digest::of(""), u32::MAX).into()],
                "a chunk 0 too large",
            ),
        ] {
            let mut other = manifest(&["disk"]);
            other.files[0].chunks = chunks;
            assert_eq!(refused(&other), format!("files: \"disk\" has {problem}"));
        }
    }

    #[test]
    fn a_chunk_is_a_short_list_and_counts_once_however_often_it_occurs() {
        let json = serde_json::to_string(&chunk(1)).unwrap();
        assert_eq!(json, format!("[1,\"{}\",100]", Sha256Digest::of("1")));
        let manifest = manifest(&["disk", "memory"]);
        assert_eq!(manifest.data_bytes(), 4 * CHUNK_BYTES as u64);
        assert_eq!(
            manifest.stored_bytes(),
            200 + manifest.to_bytes().len() as u64
        );
    }
}
