//! The whole way, with an S3 server in this process: publish, find, fetch, collect, and what must not be fetched.

use std::fs;
use std::future::ready;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bus::testing::S3Server;
use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::chunk::CHUNK_BYTES;
use crate::key::tests::parts;
use crate::memory::MemoryPointers;
use crate::objects::Kind;

mod cached;
mod collected;
mod damaged;
mod fetched;
mod published;

/// A bucket, its pointers, and a directory for whatever lies on this machine.
struct Fixture {
    server: S3Server,
    pointers: Arc<MemoryPointers>,
    directory: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        Self {
            server: S3Server::start().await,
            pointers: Arc::default(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The store as a machine sees it, with a cache of its own.
    async fn store(&self, machine: &str) -> Store {
        self.limited(machine, 1 << 40).await
    }

    /// The same with a limit. A second store on one machine is as another process.
    async fn limited(&self, machine: &str, max_bytes: u64) -> Store {
        let cache = CacheConfig {
            directory: self.directory.path().join(machine),
            max_bytes,
        };
        let objects = self.server.objects.clone();
        Store::with_pointers(objects, self.pointers.clone(), cache)
            .await
            .unwrap()
    }

    /// A directory with a memory file of these chunks, each filled with one byte, a state, and a disk that is a hole.
    fn baked(&self, memory: &[u8]) -> PathBuf {
        let dir = self.directory.path().join("baked");
        fs::create_dir_all(&dir).unwrap();
        let file = fs::File::create(dir.join("memory")).unwrap();
        file.set_len((memory.len() * CHUNK_BYTES) as u64).unwrap();
        for (index, byte) in memory.iter().enumerate() {
            let index = u32::try_from(index).unwrap();
            file.write_all_at(&vec![*byte; CHUNK_BYTES], chunk::offset(index))
                .unwrap();
        }
        fs::write(dir.join("state"), "state").unwrap();
        let disk = fs::File::create(dir.join("disk")).unwrap();
        disk.set_len(4 << 30).unwrap();
        dir
    }

    /// Publishes a snapshot with these chunks of memory.
    async fn publish(&self, memory: &[u8], parts: KeyParts) -> Published {
        let (store, dir) = (self.store("bakery").await, self.baked(memory));
        store
            .publish(&dir, parts, Details::default(), &NoProgress)
            .await
            .unwrap()
    }

    async fn put_object(&self, kind: Kind, digest: &Sha256Digest, body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        let objects = &self.server.objects;
        objects
            .put(&objects.buckets().snapshots, &kind.key(digest), body)
            .await
            .unwrap();
    }

    /// The file in which the server keeps a chunk.
    fn chunk_file(&self, digest: &Sha256Digest) -> PathBuf {
        let bucket = &self.server.objects.buckets().snapshots;
        self.server.file(bucket, &Kind::Chunk.key(digest))
    }

    /// From now on, how often each operation on chunks was asked for.
    fn requests(&self) -> Requests {
        let requests = Requests::default();
        let counted = requests.clone();
        self.server.intercept(move |operation, key| {
            if key.starts_with("chunk/") {
                let mut seen = counted.0.lock().unwrap();
                seen.push(format!("{operation} {key}"));
            }
            ready(true)
        });
        requests
    }
}

/// What was asked of the server.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<Vec<String>>>);

impl Requests {
    /// How many were of that operation.
    fn count(&self, operation: &str) -> usize {
        let seen = self.0.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.starts_with(operation))
            .count()
    }
}

/// Progress that remembers what it was told last.
#[derive(Default)]
struct Last(Mutex<Option<Transfer>>);

impl Progress for Last {
    fn advanced(&self, transfer: &Transfer) {
        *self.0.lock().unwrap() = Some(*transfer);
    }
}

impl Last {
    fn told(&self) -> Transfer {
        self.0.lock().unwrap().unwrap()
    }
}

/// A chunk that is filled with one byte.
fn filled(byte: u8) -> Sha256Digest {
    Sha256Digest::of(vec![byte; CHUNK_BYTES])
}

/// Other parts, and so another key.
fn salted(salt: &str) -> KeyParts {
    let salt = salt.to_owned();
    KeyParts { salt, ..parts() }
}

/// The parts of a template.
fn template() -> KeyParts {
    KeyParts {
        tenant: None,
        trust: None,
        template_key: None,
        ..parts()
    }
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}
