//! The other side of a bake: the template, the requests that are published, and a bakery that bakes when the test says so.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use schemas::bake::{BakeFailure, BakeRequest};
use schemas::names::{self, stream};
use schemas::result::LogRef;
use schemas::{HostClass, ObjectUri, Sha256Digest, Trust};
use setup::{Room, Silent};
use source::{Archive, Limits};
use store::{Details, KeyParts, Manifest, NoProgress, Store};
use tokio::time::timeout;
use vm::fake::FakeDriver;
use vm::{BootSpec, Driver as _, Identity, Machine, Slot, SnapshotFiles};

use super::{PATIENCE, Rig};

impl Rig {
    /// Takes the template's pointer away.
    pub(crate) async fn forget_template(&self) -> Result<()> {
        let pointer = names::template_pointer(&self.class, self.template());
        Ok(self.snapshots.delete(pointer).await?)
    }

    /// Puts it back.
    pub(crate) async fn remember_template(&self) -> Result<()> {
        let key = self.template.key;
        Ok(self
            .store
            .set_template_key(&self.class, self.template(), key)
            .await?)
    }

    fn parts(&self) -> KeyParts {
        let inputs = [("lock".parse().expect("a path"), Sha256Digest::of("1\n"))].into();
        KeyParts::environment(
            &self.tenant(),
            Trust::Trusted,
            &self.template,
            &self.environment,
            inputs,
        )
    }

    /// The key that the jobs' source gives.
    pub(crate) fn key(&self) -> Sha256Digest {
        self.parts().key()
    }

    /// Does what a bakery does.
    pub(crate) async fn bake(&self) -> Result<()> {
        let base = self.store.fetch(&self.template.key, &NoProgress).await?;
        let files = SnapshotFiles::open(&base.dir)?;
        let slot = Slot::create(&self.directory.path().join("bakery"))?;
        let vm = self
            .driver
            .derive(&files, slot, &Identity::fresh("build"))
            .await?;
        let file = tempfile::tempfile()?;
        std::io::Write::write_all(&mut &file, &self.archive)?;
        std::io::Seek::rewind(&mut &file)?;
        let archive = Archive::open(file, &Limits::default(), self.directory.path()).await?;
        let room = Room {
            what: "environment widget".into(),
            definition: &self.environment,
            source_date_epoch: 0,
        };
        room.set_up(vm.agent(), &archive, None, &Silent).await?;
        let into = tempfile::tempdir_in(self.directory.path())?;
        vm.snapshot(into.path()).await?;
        let details = Details::default();
        self.store
            .publish(into.path(), self.parts(), details, &NoProgress)
            .await?;
        Ok(())
    }

    /// Writes down that the bake failed, as a bakery does, for `reason`.
    pub(crate) async fn fail_bake(&self, reason: &str) -> Result<()> {
        let now = jiff::Timestamp::now();
        let failure = BakeFailure {
            request_id: "bake-1".parse()?,
            reason: reason.into(),
            message: "setup step deps exited with 1".into(),
            step: Some("deps".parse()?),
            log: Some(LogRef {
                uri: ObjectUri::new("build-logs", "acme/bake/bake-1/1.log")?,
                digest: Sha256Digest::of("").into(),
                size_bytes: 1,
                truncated: false,
                chunks_lost: 0,
            }),
            failures: 1,
            time: now,
            retry_at: now + Duration::from_mins(5),
        };
        let key = names::bake_failure(&self.key());
        self.snapshots
            .put(key, serde_json::to_vec(&failure)?.into())
            .await?;
        Ok(())
    }

    /// The bakes that were requested of this tenant, in order.
    pub(crate) async fn bake_requests(&self) -> Result<Vec<BakeRequest>> {
        let requests = self.jetstream.get_stream(stream::BAKE_REQUESTS).await?;
        let subject = format!("bake.request.{}.trusted.{}.*", self.class, self.tenant());
        let (mut found, mut next) = (Vec::new(), 1);
        while let Ok(message) = requests
            .get_first_raw_message_by_subject(&subject, next)
            .await
        {
            found.push(BakeRequest::parse(&message.payload)?);
            next = message.sequence + 1;
        }
        Ok(found)
    }

    /// Waits until a bake is requested that names `key`.
    pub(crate) async fn requested(&self, key: Option<Sha256Digest>) -> Result<()> {
        let subject = format!("bake.request.{}.trusted.{}.*", self.class, self.tenant());
        let mut heard = self.client.subscribe(subject).await?;
        // Flushed, so that what comes between the subscription and the look is heard.
        self.client.flush().await?;
        while !self
            .bake_requests()
            .await?
            .iter()
            .any(|request| request.key == key)
        {
            let heard = timeout(PATIENCE, heard.next()).await;
            heard.context("not requested")?;
        }
        Ok(())
    }
}

/// A template's snapshot, published.
pub(super) async fn template(
    driver: &FakeDriver,
    class: &HostClass,
    store: &Store,
    tag: &str,
    directory: &Path,
) -> Result<Manifest> {
    let disk = directory.join("disk");
    std::fs::write(&disk, "")?;
    let machine = Machine {
        vcpu: 2,
        memory_mib: 128,
    };
    let spec = BootSpec {
        kernel: disk.clone(),
        initrd: disk.clone(),
        disk,
        machine,
    };
    let vm = driver
        .boot(spec, Slot::create(&directory.join("bakery"))?)
        .await?;
    let into = tempfile::tempdir_in(directory)?;
    vm.snapshot(into.path()).await?;
    let parts = KeyParts {
        version: store::KEY_VERSION,
        tenant: None,
        trust: None,
        template_key: None,
        definition: serde_json::json!({"name": format!("base-{tag}")}),
        kernel: Sha256Digest::of("kernel"),
        agent: Sha256Digest::of("agent"),
        root: Some(Sha256Digest::of("root")),
        host_class: class.clone(),
        cpu_model: driver.profile().cpu_model.clone(),
        vcpu: machine.vcpu,
        memory_mib: machine.memory_mib,
        disk_mib: 256,
        inputs: [].into(),
        egress: serde_json::Value::Null,
        ca: None,
        salt: String::new(),
    };
    let details = Details::default();
    let published = store
        .publish(into.path(), parts, details, &NoProgress)
        .await?;
    Ok(store.manifest(&published.digest).await?)
}
