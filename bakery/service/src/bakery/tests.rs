//! Bakes on the fake driver, whose guests are directories, with an S3 server in this process: what a bake publishes, what it shows
//! its setup steps, and what is left of one that fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use bus::testing::S3Server;
use schemas::bake::{BakeEventKind, BakeRequest};
use schemas::guest::BUILD_ROOT;
use schemas::{Environment, Sha256Digest, Template, names};
use serde_json::json;
use setup::SetupError;
use source::{MemoryValues, SourcesParts};
use store::{CacheConfig, KEY_VERSION, KeyParts, Manifest, NoProgress, Store};
use tempfile::TempDir;
use vm::fake::FakeDriver;
use vm::{Driver as _, Identity, Slot, SnapshotFiles};
use wire::{Command, ExecSpec, User};

use super::environment::Order;
use super::template::Bootable;
use super::*;
use crate::news::tests::Heard;

/// A bakery, and everything that it works with.
struct Fixture {
    bakery: Bakery,
    driver: Arc<FakeDriver>,
    news: Heard,
    _server: S3Server,
    directory: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let (server, directory) = (S3Server::start().await, tempfile::tempdir().unwrap());
        let file = directory.path().join("bakery.toml");
        let state = directory.path().join("state");
        std::fs::write(&file, format!("state = {:?}", state.to_str().unwrap())).unwrap();
        let config = Arc::new(Config::load(&file, |_| None).unwrap());
        let objects = server.objects.clone();
        let cache = state.join("cache");
        let store = Store::in_memory(
            objects.clone(),
            CacheConfig {
                directory: cache,
                max_bytes: 1 << 40,
            },
        )
        .await
        .unwrap();
        let driver = Arc::new(FakeDriver::default());
        let sources = Sources::new(SourcesParts {
            objects: objects.clone(),
            snapshots: Box::new(MemoryValues::default()),
            tenants: Box::new(MemoryValues::default()),
            store: store.clone(),
            driver: driver.clone(),
            class: host_class(driver.profile()).unwrap(),
            slots: state.join("slots"),
            config: config.sources.clone(),
        });
        let parts = Parts {
            config,
            driver: driver.clone(),
            make_initramfs: |_, _, _| Ok(()),
            objects,
            store,
            sources,
        };
        Self {
            bakery: Bakery::new(parts, Election::alone(), None).unwrap(),
            driver,
            news: Heard::default(),
            _server: server,
            directory,
        }
    }

    /// A template whose root has the directory for the tree, and nothing else.
    async fn template(&self, setup: serde_json::Value) -> Result<Manifest, BakeError> {
        let definition =
            json!({"name": "node", "base": {"debian": {"suite": "a"}}, "setup": setup});
        let definition = Template::parse(definition.to_string().as_bytes()).unwrap();
        let disk = self.directory.path().join("disk");
        let mut root = tar::Builder::new(File::create(&disk).unwrap());
        root.append_dir("build/src", self.directory.path()).unwrap();
        root.finish().unwrap();
        let bootable = Bootable {
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            disk,
            parts: template_parts(&self.bakery),
            packages: vec!["make=1".into()],
        };
        let baking = self.bakery.bake_template(&definition, bootable, &self.news);
        baking.await
    }

    /// An environment with the input `lock`, from a source that has more than that.
    async fn environment(&self, script: &str) -> Result<Sha256Digest, BakeError> {
        let template = self.template(json!([])).await.unwrap();
        self.environment_from(template, script).await
    }

    async fn environment_from(
        &self,
        template: Manifest,
        script: &str,
    ) -> Result<Sha256Digest, BakeError> {
        let setup = json!([{"name": "deps", "sh": script, "env": {"GREETING": "hello"}}]);
        let definition = json!({
            "name": "widget", "template": "node", "inputs": ["sub/lock"], "setup": setup
        });
        let definition = Environment::parse(definition.to_string().as_bytes()).unwrap();
        let order = self.order().await;
        let ingredients = self
            .bakery
            .ingredients(&order, definition, template)
            .await
            .unwrap();
        let key = ingredients.parts.key();
        let baked = self.bakery.bake_environment(&ingredients, &self.news).await;
        assert_eq!(
            self.bakery.store.find(&key).await.unwrap().is_some(),
            baked.is_ok()
        );
        baked
    }

    async fn order(&self) -> Order {
        let source = source();
        let digest = Sha256Digest::of(&source);
        let tenant = "acme".parse().unwrap();
        let (objects, key) = (&self.bakery.objects, names::source_object(&tenant, &digest));
        let bucket = &objects.buckets().sources;
        objects.put(bucket, &key, source.into()).await.unwrap();
        let archive = json!({"uri": format!("s3://{bucket}/{key}"), "digest": {"sha256": digest}});
        let request = json!({
            "request_id": "r1", "environment": "widget", "source": {"archive": archive}
        });
        Order {
            tenant,
            trust: schemas::Trust::Untrusted,
            request: BakeRequest::parse(request.to_string().as_bytes()).unwrap(),
        }
    }

    /// What a fork of the snapshot says to a script.
    async fn ask(&self, key: &Sha256Digest, script: &str) -> String {
        let snapshot = self.bakery.store.fetch(key, &NoProgress).await.unwrap();
        let files = SnapshotFiles::open(&snapshot.dir).unwrap();
        let slot = Slot::create(self.directory.path()).unwrap();
        let identity = Identity::fresh("a");
        let vm = self.driver.fork(&files, slot, &identity).await.unwrap();
        let spec = ExecSpec {
            command: Command::Shell(script.to_owned()),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: BUILD_ROOT.to_owned(),
            user: User::BUILD,
            timeout: Duration::from_secs(10),
            kill_grace: Duration::from_secs(1),
        };
        let output = vm.agent().exec(&spec).unwrap().output(1 << 16);
        output.await.unwrap().text()
    }

    fn kinds(&self) -> Vec<BakeEventKind> {
        let news = self.news.0.lock().unwrap();
        news.iter().map(|news| news.kind).collect()
    }
}

fn template_parts(bakery: &Bakery) -> KeyParts {
    KeyParts {
        version: KEY_VERSION,
        tenant: None,
        trust: None,
        template_key: None,
        definition: json!({}),
        kernel: Sha256Digest::of("kernel"),
        agent: Sha256Digest::of("agent"),
        root: Some(Sha256Digest::of("root")),
        host_class: bakery.class().clone(),
        cpu_model: "host".into(),
        vcpu: 1,
        memory_mib: 256,
        disk_mib: 256,
        inputs: BTreeMap::new(),
        egress: json!(null),
        ca: None,
        salt: String::new(),
    }
}

/// `sub/lock` and `other`.
fn source() -> Vec<u8> {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("sub")).unwrap();
    std::fs::write(tree.path().join("sub/lock"), "locked").unwrap();
    std::fs::write(tree.path().join("other"), "not an input").unwrap();
    let inputs = ["sub/lock", "other"].map(|path| path.parse().unwrap());
    crate::pack::pack(tree.path(), &inputs).unwrap()
}

#[tokio::test]
async fn an_environment_has_its_inputs_and_what_its_setup_made_and_nothing_else() {
    let fixture = Fixture::start().await;
    let key = fixture
        .environment("cat sub/lock > made; echo $GREETING $TZ >> made")
        .await
        .unwrap();
    let listing = fixture.ask(&key, "find . -type f | sort; cat made").await;
    assert_eq!(listing, "./made\n./sub/lock\nlockedhello UTC\n");
    assert_eq!(
        fixture.kinds().last(),
        Some(&BakeEventKind::StepFinished),
        "that it is published is for the caller to tell"
    );
}

#[tokio::test]
async fn the_manifest_says_what_went_in() {
    let fixture = Fixture::start().await;
    let template = fixture.template(json!([])).await.unwrap();
    assert_eq!(template.details.packages, ["make=1"]);
    let key = fixture.environment("true").await.unwrap();
    let snapshot = fixture.bakery.store.fetch(&key, &NoProgress).await.unwrap();
    let parts = snapshot.manifest.parts;
    assert_eq!(parts.template_key, Some(template.key));
    assert_eq!(parts.inputs.len(), 1);
}

#[tokio::test]
async fn a_step_that_fails_is_named_with_its_output_and_nothing_is_published() {
    let fixture = Fixture::start().await;
    let error = fixture
        .environment("echo no such package >&2; exit 3")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "setup step deps exited with 3");
    assert_eq!(error.fault(), store::Fault::Job);
    let BakeError::Setup(SetupError::Step(failure)) = error else {
        panic!("a step failed");
    };
    assert_eq!(failure.transcript.end(), "no such package\n");
}

#[tokio::test]
async fn a_guest_that_dies_is_the_jobs_own_and_a_vmm_that_dies_the_hosts() {
    let fixture = Fixture::start().await;
    let template = fixture.template(json!([])).await.unwrap();
    let bake = || fixture.environment_from(template.clone(), "echo a; sleep 9");
    fixture.driver.kill_guest_after_first_output();
    let error = bake().await.unwrap_err();
    assert_eq!(error.reason(), "guest_died");
    assert_eq!(error.step().map(schemas::Token::as_str), Some("deps"));
    assert_eq!(error.transcript().unwrap().end(), "a\n");
    fixture.driver.kill_vmm_after_first_output();
    let error = bake().await.unwrap_err();
    assert_eq!(error.reason(), "vmm_died");
    assert_eq!(error.fault(), store::Fault::Host);
}

#[tokio::test]
async fn an_input_that_the_source_lacks_is_named_before_anything_runs() {
    let fixture = Fixture::start().await;
    let template = fixture.template(json!([])).await.unwrap();
    let definition = br#"{"name": "widget", "template": "node", "inputs": ["gone"]}"#;
    let definition = Environment::parse(definition).unwrap();
    let order = fixture.order().await;
    let refused = fixture.bakery.ingredients(&order, definition, template);
    let Err(error) = refused.await else {
        panic!("the input is not there")
    };
    assert_eq!(error.to_string(), "input gone: is not in the source");
    assert_eq!(error.reason(), "invalid_source");
}

#[tokio::test]
async fn a_template_is_downloaded_for_a_bake_and_not_for_a_key() {
    let fixture = Fixture::start().await;
    let template = fixture.template(json!([])).await.unwrap();
    let definition = br#"{"name": "widget", "template": "node", "inputs": ["sub/lock"]}"#;
    let definition = Environment::parse(definition).unwrap();
    let order = fixture.order().await;
    let found_out = fixture.bakery.ingredients(&order, definition, template);
    let ingredients = found_out.await.unwrap();
    let cached = fixture.directory.path().join("state/cache/snapshots");
    assert_eq!(files::list(&cached).unwrap().len(), 0);
    let baking = fixture.bakery.bake_environment(&ingredients, &fixture.news);
    baking.await.unwrap();
    assert_eq!(files::list(&cached).unwrap().len(), 1);
}

#[tokio::test]
async fn a_template_of_which_an_object_is_gone_is_not_there() {
    let fixture = Fixture::start().await;
    let template = fixture.template(json!([])).await.unwrap();
    let definition = br#"{"name": "node", "base": {"debian": {"suite": "a"}}}"#;
    let definition = Template::parse(definition).unwrap();
    let fresh = || fixture.bakery.fresh(&definition, &template.key);
    assert_eq!(fresh().await.unwrap().as_ref(), Some(&template));
    let mut chunks = template.files.iter().flat_map(|file| &file.chunks);
    let hex = chunks.next().unwrap().sha256.to_string();
    let object = format!("chunk/{}/{hex}", &hex[..2]);
    let objects = &fixture.bakery.objects;
    let bucket = &objects.buckets().snapshots;
    assert!(objects.size(bucket, &object).await.unwrap().is_some());
    let cut_short = bytes::Bytes::new();
    objects.put(bucket, &object, cut_short).await.unwrap();
    assert_eq!(fresh().await.unwrap(), None);
}

#[tokio::test]
async fn a_templates_setup_runs_before_the_freeze() {
    let fixture = Fixture::start().await;
    let setup = json!([{"name": "tools", "sh": "echo $USER > tools"}]);
    let template = fixture.template(setup).await.unwrap();
    let said = fixture.ask(&template.key, "cat tools").await;
    assert_eq!(said, "root\n");
    let setup = json!([{"name": "tools", "sh": "exit 1"}]);
    let error = fixture.template(setup).await.unwrap_err();
    assert_eq!(error.to_string(), "setup step tools exited with 1");
}
