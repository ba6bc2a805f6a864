//! A worker in this process, with a fake driver, between a real nats-server and an S3 server in this process; and a bakery that
//! bakes when the test says so.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::{self, Context, kv};
use bus::streams::{job_consumer, provision};
use bus::testing::S3Server;
use futures_util::StreamExt as _;
use schemas::bake::{BakeFailure, BakeRequest};
use schemas::names::{self, bucket, stream};
use schemas::result::LogRef;
use schemas::{
    Environment, HostClass, JobResult, ObjectUri, Sha256Digest, Token, Trust, WorkerState,
};
use setup::{Room, Silent};
use source::{Archive, Limits, Sources, SourcesParts};
use store::{CacheConfig, Details, KeyParts, Manifest, NoProgress, Store};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vm::fake::FakeDriver;
use vm::{BootSpec, Driver as _, Identity, Machine, Slot, SnapshotFiles};
use worker::config::Config;
use worker::presence::Presence;
use worker::serve::serve;
use worker::services::Services;
use worker::state_dir::StateDir;

/// 1 min: what no test takes, a busy machine included.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The worker, and everything around it.
pub(crate) struct Rig {
    /// What tells this test's names from another's, on a server that they share.
    tag: String,
    slots: u32,
    directory: TempDir,
    s3: S3Server,
    client: async_nats::Client,
    jetstream: Context,
    driver: Arc<FakeDriver>,
    class: HostClass,
    store: Store,
    snapshots: kv::Store,
    workers: kv::Store,
    jobs: kv::Store,
    template: Manifest,
    environment: Environment,
    archive: Vec<u8>,
    worker: Option<Running>,
}

/// A worker that runs.
struct Running {
    drain: watch::Sender<bool>,
    ended: JoinHandle<Result<()>>,
}

impl Rig {
    /// Starts one with a template and an environment without a snapshot; none where there is no server.
    pub(crate) async fn start(tag: &str, slots: u32) -> Result<Option<Self>> {
        // In a box, as all that is made here is large.
        Box::pin(Self::made(tag, slots)).await
    }

    async fn made(tag: &str, slots: u32) -> Result<Option<Self>> {
        let Ok(url) = std::env::var("NATS_URL") else {
            eprintln!("skipped: no NATS_URL");
            return Ok(None);
        };
        let client = async_nats::connect(url).await?;
        let jetstream = jetstream::new(client.clone());
        provision(&jetstream, 1).await?;
        let tag = format!("{tag}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let jobs = jetstream.get_stream(stream::JOBS).await?;
        jobs.create_consumer(job_consumer(&tag.parse()?, Trust::Trusted))
            .await?;
        let (s3, directory) = (S3Server::start().await, tempfile::tempdir()?);
        let snapshots = jetstream.get_key_value(bucket::SNAPSHOTS).await?;
        let cache = CacheConfig {
            directory: directory.path().join("cache"),
            max_bytes: 1 << 30,
        };
        let store = Store::open(s3.objects.clone(), snapshots.clone(), cache).await?;
        let driver = Arc::new(FakeDriver::default());
        let profile = driver.profile();
        let class = HostClass::new(
            &profile.driver,
            &profile.vmm_version,
            &profile.accelerator,
            &profile.cpu_model,
        )?;
        let definition = serde_json::json!({
            "name": "widget", "template": format!("base-{tag}"), "inputs": ["lock"],
            "setup": [{"name": "deps", "sh": "echo set up; cat lock > installed"}]
        });
        let mut rig = Self {
            template: bake_template(&driver, &class, &store, &tag, directory.path()).await?,
            environment: Environment::parse(definition.to_string().as_bytes())?,
            archive: archive()?,
            workers: jetstream.get_key_value(bucket::WORKERS).await?,
            jobs: jetstream.get_key_value(bucket::JOBS).await?,
            tag,
            slots,
            directory,
            s3,
            client,
            jetstream,
            driver,
            class,
            store,
            snapshots,
            worker: None,
        };
        rig.remember_template().await?;
        rig.define().await?;
        rig.worker = Some(rig.worker().await?);
        Ok(Some(rig))
    }

    /// The template's name.
    pub(crate) fn template(&self) -> &Token {
        &self.environment.template
    }

    /// The bucket of workers.
    pub(crate) fn workers(&self) -> kv::Store {
        self.workers.clone()
    }

    fn tenant(&self) -> Token {
        self.tag.parse().expect("a tag is a token")
    }

    async fn define(&self) -> Result<()> {
        let environments = self.jetstream.get_key_value(bucket::ENVIRONMENTS).await?;
        let key = names::environment_key(&self.tenant(), &self.environment.name);
        let body = serde_json::to_vec(&self.environment)?;
        environments.put(key, body.into()).await?;
        let bucket = &self.s3.objects.buckets().sources;
        let key = names::source_object(&self.tenant(), &Sha256Digest::of(&self.archive));
        let archive = self.archive.clone();
        Ok(self.s3.objects.put(bucket, &key, archive.into()).await?)
    }

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

    /// Writes down that the bake failed, as a bakery does.
    pub(crate) async fn fail_bake(&self) -> Result<()> {
        let now = jiff::Timestamp::now();
        let failure = BakeFailure {
            request_id: "bake-1".parse()?,
            reason: "step_failed".into(),
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

    async fn worker(&self) -> Result<Running> {
        let (drain, draining) = watch::channel(false);
        let (give_back, given_back) = watch::channel(false);
        let services = self.services(draining, given_back).await?;
        let ended = tokio::spawn(async move { serve(&services, &give_back).await });
        Ok(Running { drain, ended })
    }

    async fn services(
        &self,
        draining: watch::Receiver<bool>,
        give_back: watch::Receiver<bool>,
    ) -> Result<Services> {
        let state = self.directory.path().join("state");
        let file = self.directory.path().join("worker.toml");
        let (name, slots) = (&self.tag, self.slots);
        let text = format!(
            "state = '{}'\nname = {name:?}\npool = {name:?}\nslots = {slots}\ntrust = ['trusted']",
            state.display()
        );
        std::fs::write(&file, text)?;
        let config = Config::load(&file, |_| None)?;
        let state = Arc::new(StateDir::open(&config.state)?);
        let (objects, snapshots) = (self.s3.objects.clone(), self.snapshots.clone());
        let cache = config.cache(state.cache());
        let store = Store::open(objects.clone(), snapshots.clone(), cache).await?;
        let sources = Sources::new(SourcesParts {
            objects: objects.clone(),
            snapshots: Box::new(snapshots.clone()),
            tenants: Box::new(self.jetstream.get_key_value(bucket::TENANTS).await?),
            store: store.clone(),
            driver: self.driver.clone(),
            class: self.class.clone(),
            slots: state.slots(),
            config: config.sources(),
        });
        Ok(Services {
            presence: Presence::new(config.slots, config.max_parked),
            config: Arc::new(config),
            state,
            client: self.client.clone(),
            jetstream: self.jetstream.clone(),
            objects,
            store,
            snapshots,
            sources,
            environments: self.jetstream.get_key_value(bucket::ENVIRONMENTS).await?,
            jobs: self.jobs.clone(),
            workers: self.workers.clone(),
            driver: self.driver.clone(),
            class: self.class.clone(),
            draining,
            give_back,
        })
    }

    /// Publishes a job, with `fields` of it set to other JSON.
    pub(crate) async fn submit(&self, fields: &[(&str, &str)]) -> Result<Token> {
        let id = uuid::Uuid::now_v7();
        let digest = Sha256Digest::of(&self.archive);
        let key = names::source_object(&self.tenant(), &digest);
        let uri = ObjectUri::new(&self.s3.objects.buckets().sources, &key)?;
        let mut job = serde_json::json!({
            "id": id,
            "source": {"archive": {"uri": uri, "digest": {"sha256": digest}}},
            "environment": {"name": "widget"},
            "steps": [{"name": "build", "sh": "cmp lock installed"}]
        });
        for (field, value) in fields {
            job[field] = serde_json::from_str(value)?;
        }
        let subject = format!("build.job.{}.trusted.5.{}", self.tag, self.tenant());
        let published = self.jetstream.publish(subject, job.to_string().into());
        published.await?.await?;
        Ok(id.into())
    }

    /// The job's result, once it has one.
    pub(crate) async fn result(&self, job: &Token) -> Result<JobResult> {
        let tenant = self.tenant();
        let waiting = bus::results::wait(&self.client, &self.jetstream, &tenant, job);
        Ok(timeout(PATIENCE, waiting).await.context("no result")??)
    }

    /// Attempts that are recorded for a job.
    pub(crate) async fn attempts(&self, job: &Token) -> Result<usize> {
        let key = format!("job.{}.{job}", self.tenant());
        let record = self.jobs.get(key).await?.context("a record")?;
        let record: serde_json::Value = serde_json::from_slice(&record)?;
        Ok(record["attempts"].as_array().context("a list")?.len())
    }

    /// What the worker says of itself, once it says that.
    pub(crate) async fn state_where(
        &self,
        wanted: impl Fn(&WorkerState) -> bool,
    ) -> Result<WorkerState> {
        let mut said = self.workers.watch_with_history(self.tag.as_str()).await?;
        let heard = async {
            while let Some(entry) = said.next().await {
                let entry = entry?;
                if entry.operation == kv::Operation::Put {
                    let state = WorkerState::parse(&entry.value)?;
                    if wanted(&state) {
                        return Ok(state);
                    }
                }
            }
            anyhow::bail!("the watch ended")
        };
        timeout(PATIENCE, heard).await.context("never said")?
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

    /// A stored log.
    pub(crate) async fn log(&self, log: Option<&LogRef>) -> Result<String> {
        let uri = &log.context("a log")?.uri;
        let mut text = String::new();
        let mut object = self.s3.objects.get(uri.bucket(), uri.key()).await?;
        object.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// Drains the worker and starts another.
    pub(crate) async fn replaced(mut self) -> Result<Self> {
        self.drained().await?;
        self.worker = Some(Box::pin(self.worker()).await?);
        Ok(self)
    }

    /// Drains the worker.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.drained().await
    }

    async fn drained(&mut self) -> Result<()> {
        let running = self.worker.take().context("it runs")?;
        running.drain.send_replace(true);
        timeout(PATIENCE, running.ended)
            .await
            .context("no end")???;
        let left = self.workers.get(self.tag.as_str()).await?;
        ensure!(left.is_none(), "a worker that ended says nothing");
        Ok(())
    }
}

/// A source: a lockfile and another file.
fn archive() -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1)?);
    for (path, bytes) in [("lock", "1\n"), ("main.c", "int main;\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes.as_bytes())?;
    }
    Ok(tar.into_inner()?.finish()?)
}

async fn bake_template(
    driver: &FakeDriver,
    class: &HostClass,
    store: &Store,
    tag: &str,
    directory: &std::path::Path,
) -> Result<Manifest> {
    let disk = directory.join("disk");
    std::fs::write(&disk, "")?;
    let machine = Machine {
        vcpu: 1,
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
