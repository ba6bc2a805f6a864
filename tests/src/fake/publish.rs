//! Publishes snapshots for the fake driver: a template, and an environment for each fate.
//!
//! What always holds: the keys are those that a worker computes for a job whose environment has no inputs.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use async_nats::jetstream::kv;
use bus::objects::Objects;
use schemas::{Environment, HostClass, Sha256Digest, Token, Trust};
use serde_json::json;
use store::{CacheConfig, Details, KEY_VERSION, KeyParts, Manifest, NoProgress, Store};
use tempfile::TempDir;
use vm::fake::FakeDriver;
use vm::{BootSpec, Driver as _, Machine, Slot};

use super::Fate;

/// The template of every fake environment.
pub const TEMPLATE: &str = "fake";

/// As small as a slot of any worker: it is never allocated.
const MACHINE: Machine = Machine {
    vcpu: 1,
    memory_mib: 128,
};

/// Disk of the same machine, in MiB.
const DISK_MIB: u32 = 16;

/// Puts snapshots where workers find them.
#[derive(Debug)]
pub struct Publisher {
    store: Store,
    driver: FakeDriver,
    class: HostClass,
    template: Manifest,
    scratch: TempDir,
}

impl Publisher {
    /// Publishes the template. Everything of it on this disk goes with the publisher.
    pub async fn start(objects: Objects, pointers: kv::Store) -> Result<Self> {
        let scratch = tempfile::tempdir().context("make a scratch directory")?;
        let cache = CacheConfig {
            directory: scratch.path().join("cache"),
            max_bytes: 1 << 30,
        };
        let store = Store::open(objects, pointers, cache).await?;
        let driver = FakeDriver::default();
        let class = class(&driver)?;
        let parts = template_parts(&driver, &class);
        let template = publish(&store, &driver, scratch.path(), parts, Fate::Steady).await?;
        let name = Token::parse(TEMPLATE).expect("a plain word is a token");
        store.set_template_key(&class, &name, template.key).await?;
        Ok(Self {
            store,
            driver,
            class,
            template,
            scratch,
        })
    }

    /// What all workers with the fake driver have in common.
    pub fn class(&self) -> &HostClass {
        &self.class
    }

    /// Publishes the environment of a fate for one tenant's jobs.
    pub async fn environment(&self, tenant: &Token, trust: Trust, fate: Fate) -> Result<()> {
        let (definition, inputs) = (environment(fate), [].into());
        let parts = KeyParts::environment(tenant, trust, &self.template, &definition, inputs);
        let (driver, scratch) = (&self.driver, self.scratch.path());
        publish(&self.store, driver, scratch, parts, fate).await?;
        Ok(())
    }
}

/// The definition of the environment of a fate.
pub fn environment(fate: Fate) -> Environment {
    let definition = json!({
        "schema": "sourdough/environment/v1",
        "name": fate.as_str(),
        "template": TEMPLATE,
    });
    Environment::parse(definition.to_string().as_bytes()).expect("it is a literal definition")
}

/// Freezes a guest with an empty tree, writes its fate into it and publishes it.
async fn publish(
    store: &Store,
    driver: &FakeDriver,
    scratch: &Path,
    parts: KeyParts,
    fate: Fate,
) -> Result<Manifest> {
    // Of its own, since several may be published at a time.
    let made = tempfile::tempdir_in(scratch).context("make a directory for a disk")?;
    let disk = made.path().join("disk");
    fs::write(&disk, "").context("write an empty disk")?;
    let spec = BootSpec {
        kernel: disk.clone(),
        initrd: disk.clone(),
        disk,
        machine: MACHINE,
    };
    let slot = Slot::create(&scratch.join("slots"))?;
    let vm = driver.boot(spec, slot).await?;
    let into = tempfile::tempdir_in(scratch).context("make a directory for a snapshot")?;
    let files = vm.snapshot(into.path()).await?;
    fs::write(files.state(), fate.as_str()).context("write the state of a snapshot")?;
    let details = Details::default();
    let published = store
        .publish(into.path(), parts, details, &NoProgress)
        .await?;
    Ok(store.manifest(&published.digest).await?)
}

fn class(driver: &FakeDriver) -> Result<HostClass> {
    let profile = driver.profile();
    let class = HostClass::new(
        &profile.driver,
        &profile.vmm_version,
        &profile.accelerator,
        &profile.cpu_model,
    );
    class.context("make a host class of the fake driver's profile")
}

fn template_parts(driver: &FakeDriver, class: &HostClass) -> KeyParts {
    KeyParts {
        version: KEY_VERSION,
        tenant: None,
        trust: None,
        template_key: None,
        definition: json!({"name": TEMPLATE}),
        kernel: Sha256Digest::of("kernel"),
        agent: Sha256Digest::of("agent"),
        root: Some(Sha256Digest::of("root")),
        host_class: class.clone(),
        cpu_model: driver.profile().cpu_model.clone(),
        vcpu: MACHINE.vcpu,
        memory_mib: MACHINE.memory_mib,
        disk_mib: DISK_MIB,
        inputs: [].into(),
        egress: serde_json::Value::Null,
        ca: None,
        salt: String::new(),
    }
}
