//! Sources with everything around them in this process: an object store, buckets in memory, guests that are directories.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bus::testing::S3Server;
use bytes::Bytes;
use schemas::{HostClass, Sha256Digest, Source, Token, Trust};
use serde_json::json;
use store::{CacheConfig, Details, KEY_VERSION, KeyParts, NoProgress, Store};
use tempfile::TempDir;
use vm::fake::FakeDriver;
use vm::{BootSpec, Driver, Machine, Slot};

use crate::config::SourcesConfig;
use crate::error::SourceError;
use crate::git::Guest;
use crate::locks::Locks;
use crate::memory::MemoryValues;
use crate::recent::Recent;
use crate::sources::{Fetched, Shared, Sources};
use crate::testing::server::{Loopback, Server};
use crate::values::Values as _;

/// Sources, and what a test looks at.
pub(crate) struct Bench {
    pub(crate) sources: Sources,
    pub(crate) s3: S3Server,
    pub(crate) snapshots: MemoryValues,
    pub(crate) resolver: Arc<Loopback>,
    /// For whatever a test writes.
    pub(crate) dir: TempDir,
}

impl Bench {
    /// With tenants and the authority of `server`, which is also what guests trust.
    pub(crate) async fn new(server: &Server, tenant: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3Server::start().await;
        let cache = CacheConfig {
            directory: dir.path().join("cache"),
            max_bytes: 1 << 30,
        };
        let store = Store::in_memory(s3.objects.clone(), cache).await.unwrap();
        let (tenants, snapshots) = (MemoryValues::default(), MemoryValues::default());
        let body = Bytes::copy_from_slice(tenant.as_bytes());
        tenants.put("acme", body).await.unwrap();
        let resolver = Arc::new(Loopback::default());
        let ca_bundle = server.ca_bundle(dir.path());
        let guest = Guest {
            proxy_port: free_port(),
            ca_bundle: ca_bundle.display().to_string(),
        };
        let shared = Shared {
            objects: s3.objects.clone(),
            snapshots: Box::new(snapshots.clone()),
            tenants: Box::new(tenants),
            store,
            driver: Arc::new(FakeDriver::default()),
            class: class(),
            slots: dir.path().join("slots"),
            config: SourcesConfig {
                fetch_template: Some("fetch".parse().unwrap()),
                ca_bundle,
                ..SourcesConfig::default()
            },
            resolver: resolver.clone(),
            guest,
            locks: Locks::default(),
            recent: Recent::default(),
        };
        Self {
            sources: Sources {
                shared: Arc::new(shared),
            },
            s3,
            snapshots,
            resolver,
            dir,
        }
    }

    /// Bakes the template that git runs in: an empty guest, whose programs are the host's.
    pub(crate) async fn bake_fetch_template(&self) {
        self.bake_with(tar::Builder::new(Vec::new())).await;
    }

    /// Bakes one whose git is `script`, which finds the host's own as `git`.
    pub(crate) async fn bake_with_git(&self, script: &str) {
        let mut disk = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(script.len() as u64);
        let path = "usr/local/sbin/git";
        let added = disk.append_data(&mut header, path, script.as_bytes());
        added.unwrap();
        self.bake_with(disk).await;
    }

    async fn bake_with(&self, disk: tar::Builder<Vec<u8>>) {
        let Shared { store, driver, .. } = &*self.sources.shared;
        let baked = self.dir.path().join("baked");
        let disk = disk.into_inner().unwrap();
        bake(&**driver, self.dir.path(), &disk, &baked).await;
        let parts = parts();
        let key = parts.key();
        let published = store.publish(&baked, parts, Details::default(), &NoProgress);
        published.await.unwrap();
        let name: Token = "fetch".parse().unwrap();
        let set = store.set_template_key(&class(), &name, key).await;
        set.unwrap();
    }

    /// Fetches for an untrusted job of acme.
    pub(crate) async fn fetch(&self, source: &Source) -> Result<Fetched, SourceError> {
        let tenant = "acme".parse().unwrap();
        let sources = &self.sources;
        sources
            .fetch(&tenant, Trust::Untrusted, source, self.dir.path())
            .await
    }

    /// How many names were resolved.
    pub(crate) fn resolved(&self) -> usize {
        self.resolver.asked.lock().unwrap().len()
    }

    /// How many VMs run.
    pub(crate) fn slots(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("slots")).map_or(0, Iterator::count)
    }
}

async fn bake(driver: &dyn Driver, dir: &Path, root: &[u8], into: &Path) {
    let disk = dir.join("disk");
    std::fs::write(&disk, root).unwrap();
    let spec = BootSpec {
        kernel: "/no/kernel".into(),
        initrd: "/no/initrd".into(),
        disk,
        machine: Machine {
            vcpu: 1,
            memory_mib: 128,
        },
    };
    std::fs::create_dir(into).unwrap();
    let vm = driver.boot(spec, Slot::create(dir).unwrap()).await.unwrap();
    vm.snapshot(into).await.unwrap();
}

fn class() -> HostClass {
    "fake-1-none-00000000".parse().unwrap()
}

fn parts() -> KeyParts {
    let digest = Sha256Digest::of(b"");
    KeyParts {
        version: KEY_VERSION,
        tenant: None,
        trust: None,
        template_key: None,
        definition: json!({"name": "fetch"}),
        kernel: digest,
        agent: digest,
        root: Some(digest),
        host_class: class(),
        cpu_model: "host".to_owned(),
        vcpu: 1,
        memory_mib: 128,
        disk_mib: 16,
        inputs: BTreeMap::new(),
        egress: json!(null),
        ca: None,
        salt: String::new(),
    }
}

/// A port that nothing listens on. Each guest of the fake driver listens on this host's loopback.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
