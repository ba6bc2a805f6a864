//! `sourdough env explain` against a real nats-server and an S3 server in this process.
//!
//! Needs `NATS_URL`, as `dev with` gives it; without, the test says that it was skipped.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use bus::streams::provision;
use bus::testing::S3Server;
use schemas::names::{bucket, environment_key};
use schemas::{Environment, Sha256Digest, Token, Trust};
use serde_json::{Value, json};
use store::{CacheConfig, Details, KeyParts, Manifest, NoProgress, Store};

const CLASS: &str = "qemu-7_2-tcg-0123abcd";

/// What answers, and whom it is asked about.
struct Fixture {
    url: String,
    tenant: Token,
    s3: S3Server,
    store: Store,
    template: Manifest,
    environment: Environment,
    directory: tempfile::TempDir,
}

impl Fixture {
    async fn start(url: String) -> Result<Self> {
        let jetstream = jetstream::new(async_nats::connect(&url).await?);
        provision(&jetstream, 1).await?;
        let tag = uuid::Uuid::new_v4().simple().to_string();
        let (s3, directory) = (S3Server::start().await, tempfile::tempdir()?);
        let snapshots = jetstream.get_key_value(bucket::SNAPSHOTS).await?;
        let cache = CacheConfig {
            directory: directory.path().join("cache"),
            max_bytes: 1 << 30,
        };
        let store = Store::open(s3.objects.clone(), snapshots, cache).await?;
        let definition = json!({"name": "widget", "template": tag, "inputs": ["lock"]});
        let environment = Environment::parse(definition.to_string().as_bytes())?;
        let tenant: Token = tag.parse()?;
        let key = environment_key(&tenant, &environment.name);
        let environments = jetstream.get_key_value(bucket::ENVIRONMENTS).await?;
        environments.put(key, definition.to_string().into()).await?;
        let template = publish(&store, directory.path(), template_parts(&tag)?).await?;
        store
            .set_template_key(&CLASS.parse()?, &tenant, template.key)
            .await?;
        Ok(Self {
            url,
            tenant,
            s3,
            store,
            template,
            environment,
            directory,
        })
    }

    /// The parts of the environment's key for a lockfile.
    fn parts(&self, lock: &str) -> Result<KeyParts> {
        let inputs = [("lock".parse()?, Sha256Digest::of(lock))].into();
        let (tenant, template) = (&self.tenant, &self.template);
        Ok(KeyParts::environment(
            tenant,
            Trust::Untrusted,
            template,
            &self.environment,
            inputs,
        ))
    }

    /// What the program prints; an error is what it says instead.
    async fn explain(&self, flags: &[&str]) -> Result<String> {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sourdough"));
        program.args(["env", "explain"]).args(flags);
        program.args(["--nats", &self.url, "--tenant", self.tenant.as_str()]);
        let endpoint = self.s3.config.endpoint.as_ref().context("an endpoint")?;
        program.args(["--s3-endpoint", endpoint]);
        // As `S3Server` wants it.
        let login = [
            ("AWS_ACCESS_KEY_ID", "user"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        program.envs(login).env("AWS_REGION", "us-east-1");
        let output = tokio::task::spawn_blocking(move || program.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn explain_json(&self, flags: &[&str]) -> Result<Value> {
        let text = self.explain(&[flags, &["--json"]].concat()).await?;
        Ok(serde_json::from_str(&text)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_computed_as_a_worker_does_and_two_keys_are_told_apart() -> Result<()> {
    let Ok(url) = std::env::var("NATS_URL") else {
        eprintln!("skipped: no NATS_URL");
        return Ok(());
    };
    let fixture = Box::pin(Fixture::start(url)).await?;
    let repository = repository(fixture.directory.path(), "1\n")?;
    let here = [
        "--environment",
        "widget",
        "--class",
        CLASS,
        "--dir",
        &repository,
    ];
    let said = fixture.explain_json(&here).await?;
    let first = fixture.parts("1\n")?.key();
    ensure!(said["key"] == first.to_string(), "{said}");
    ensure!(said["snapshot"].is_null(), "it is not baked: {said}");
    ensure!(said["parts"]["inputs"]["lock"] == Sha256Digest::of("1\n").to_string());
    let text = fixture.explain(&here).await?;
    ensure!(
        text.contains("inputs.lock") && text.contains("it is not baked"),
        "{text}"
    );

    for lock in ["1\n", "2\n"] {
        let parts = fixture.parts(lock)?;
        publish(&fixture.store, fixture.directory.path(), parts).await?;
    }
    let (first, second) = (first.to_string(), fixture.parts("2\n")?.key().to_string());
    let said = fixture.explain_json(&[&first, &second]).await?;
    let differences = said["differences"].as_array().context("a list")?;
    ensure!(differences.len() == 1, "{said}");
    ensure!(differences[0]["part"] == "inputs.lock", "{said}");
    let same = fixture.explain(&[&first[..16], &first]).await?;
    ensure!(same == "the same key\n", "{same}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_explained_is_said_in_words() -> Result<()> {
    let Ok(url) = std::env::var("NATS_URL") else {
        eprintln!("skipped: no NATS_URL");
        return Ok(());
    };
    let fixture = Box::pin(Fixture::start(url)).await?;
    let repository = repository(fixture.directory.path(), "1\n")?;
    let dir = ["--dir", repository.as_str()];
    let unknown = "0".repeat(64);
    for (flags, words) in [
        (vec![unknown.as_str()], "no snapshot has a key"),
        (vec![], "--environment"),
        (
            vec!["--environment", "nothing"],
            "has no environment nothing",
        ),
        (
            vec!["--environment", "widget", "--class", "other"],
            "is not baked for class other",
        ),
    ] {
        let error = fixture
            .explain(&[&flags[..], &dir].concat())
            .await
            .unwrap_err();
        ensure!(error.to_string().contains(words), "{flags:?}: {error}");
    }
    Ok(())
}

/// Anything published under a key.
async fn publish(store: &Store, directory: &Path, parts: KeyParts) -> Result<Manifest> {
    let from = tempfile::tempdir_in(directory)?;
    fs::write(from.path().join("disk"), "a disk")?;
    let published = store
        .publish(from.path(), parts, Details::default(), &NoProgress)
        .await?;
    Ok(store.manifest(&published.digest).await?)
}

fn template_parts(name: &str) -> Result<KeyParts> {
    Ok(KeyParts {
        version: store::KEY_VERSION,
        tenant: None,
        trust: None,
        template_key: None,
        definition: json!({"name": name}),
        kernel: Sha256Digest::of("kernel"),
        agent: Sha256Digest::of("agent"),
        root: Some(Sha256Digest::of("root")),
        host_class: CLASS.parse()?,
        cpu_model: "max".to_owned(),
        vcpu: 1,
        memory_mib: 1024,
        disk_mib: 4096,
        inputs: [].into(),
        egress: Value::Null,
        ca: None,
        salt: String::new(),
    })
}

/// A repository whose lockfile is committed, and changed since.
fn repository(directory: &Path, lock: &str) -> Result<String> {
    let path = directory.join("repository");
    fs::create_dir(&path)?;
    fs::write(path.join("lock"), lock)?;
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    for command in [
        &["init", "-q"][..],
        &["add", "-A"],
        &[&identity[..], &["commit", "-q", "-m", "c"]].concat(),
    ] {
        let status = Command::new("git")
            .arg("-C")
            .arg(&path)
            .args(command)
            .status()?;
        ensure!(status.success(), "git {command:?}");
    }
    fs::write(path.join("lock"), "changed since\n")?;
    Ok(path.to_str().context("a path in UTF-8")?.to_owned())
}
