//! What the cases share: one stack, a publisher, jobs and definitions.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use e2e::authority::Authority;
use e2e::launch::Lifetime;
use e2e::progress::Progress;
use e2e::project::Project;
use e2e::queue::{self, Queue};
use e2e::root;
use e2e::snapshots::{Inspection, Snapshots};
use e2e::stack::{Reachable, Stack, StackOptions};
use e2e::state::{State, repository};
use e2e::web::WebServer;
use nix::unistd::Uid;
use schemas::{JobResult, Reason};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Case;

/// The environment of most cases: a small Debian without any setup.
pub(crate) const PLAIN: &str = "plain";

/// An environment with a lockfile, which its setup copies to `made`.
pub(crate) const LOCKED: &str = "locked";

/// The stack, once the first case has started it.
#[derive(Default)]
pub(crate) struct Shared(Option<Result<Box<Cases>, String>>);

/// What a case works with.
pub(crate) struct Cases {
    /// The stack; gone after the last case.
    stack: Option<Stack>,
    /// A publisher.
    pub(crate) queue: Queue,
    /// The source of most cases: one file.
    pub(crate) source: Value,
    /// Where the stack keeps everything.
    pub(crate) directory: PathBuf,
    /// What lies in the servers.
    pub(crate) snapshots: Snapshots,
    /// Looks at every snapshot that is published.
    pub(crate) inspection: Inspection,
    /// What the tenant's sources come from; gone after the last case.
    web: Option<WebServer>,
}

impl Shared {
    /// Runs a case, or says why it cannot run on this machine.
    pub(crate) async fn run(&mut self, case: Case) -> Result<Option<String>> {
        if let Some(reason) = reason_to_skip() {
            return Ok(Some(reason));
        }
        if self.0.is_none() {
            let started = Box::pin(Cases::start()).await;
            self.0 = Some(started.map(Box::new).map_err(|error| format!("{error:#}")));
        }
        match &mut self.0 {
            Some(Ok(cases)) => case(cases).await.map(|()| None),
            Some(Err(problem)) => bail!("the stack does not start: {problem}"),
            None => unreachable!("it was started above"),
        }
    }

    /// Ends the stack, if the cases that ran left it running, and removes what it kept where nobody has a question any more.
    pub(crate) async fn end(&mut self, is_over: bool) {
        let Some(Ok(cases)) = &mut self.0 else { return };
        if let Some(stack) = cases.stack.take()
            && let Err(error) = stack.stop().await
        {
            eprintln!("stop the stack: {error:#}");
        }
        if is_over && let Err(error) = std::fs::remove_dir_all(&cases.directory) {
            eprintln!("remove {}: {error}", cases.directory.display());
        }
    }
}

impl Cases {
    async fn start() -> Result<Self> {
        let state = State::from_environment()?;
        let definition = |path: &str| repository().join(path);
        let directory = state.path().join("cases");
        let authority = Authority::at(&directory.join("ca"))?;
        let options = StackOptions {
            directory,
            lifetime: Lifetime::Owner,
            slots: 1,
            definitions: [
                "deploy/demo/template-fetch.json",
                "deploy/demo/template-node.json",
                "deploy/demo/environment-widget.json",
                "tests/definitions/template-debian.json",
                "tests/definitions/template-native.json",
                "tests/definitions/environment-broken.json",
                "tests/definitions/environment-crates.json",
                "tests/definitions/environment-locked.json",
                "tests/definitions/environment-plain.json",
                "tests/definitions/environment-pypi.json",
            ]
            .map(definition)
            .into(),
            registries: Reachable::Detected,
            ca_bundle: authority.bundle(),
        };
        let stack = Stack::start(&options, &state, &mut Progress::start()).await?;
        let web = WebServer::start(&options.directory.join("web"), &authority).await?;
        let queue = Queue::open(&stack.servers).await?;
        let snapshots = Snapshots::open(&queue).await?;
        let inspection = snapshots.inspect().await?;
        let cases = Self {
            source: queue.store_source(&[("hello.txt", "hello\n")]).await?,
            stack: Some(stack),
            queue,
            directory: options.directory,
            inspection,
            snapshots,
            web: Some(web),
        };
        cases.define(&cases.tenant()?).await?;
        let project = Project::of_file("README", "nothing\n")?;
        cases.stack()?.services.bake(PLAIN, &project).await?;
        Ok(cases)
    }

    /// What the operator allows the tenant: the server of the cases, where it lies.
    fn tenant(&self) -> Result<Value> {
        Ok(json!({
            "schema": "sourdough/tenant/v1",
            "name": self.queue.tenant.as_str(),
            "hosts": [{"hosts": [self.web()?.endpoint()], "networks": ["127.0.0.0/8"]}],
        }))
    }

    /// Sources behind https, from a host that the tenant may name.
    pub(crate) fn web(&self) -> Result<&WebServer> {
        self.web.as_ref().context("the web server was stopped")
    }

    /// Has a definition applied as an operator does.
    pub(crate) async fn define(&self, definition: &Value) -> Result<()> {
        let path = self.directory.join("definition.json");
        std::fs::write(&path, definition.to_string())?;
        self.stack()?.services.apply(&[path]).await
    }

    /// The stack.
    pub(crate) fn stack(&self) -> Result<&Stack> {
        self.stack.as_ref().context("the stack was stopped")
    }

    /// The stack, to be changed.
    pub(crate) fn stack_mut(&mut self) -> Result<&mut Stack> {
        self.stack.as_mut().context("the stack was stopped")
    }

    /// The stack, to be stopped.
    pub(crate) fn take_stack(&mut self) -> Result<Stack> {
        drop(self.web.take());
        self.stack.take().context("the stack was stopped")
    }

    /// A job of one shell step in the plain environment.
    pub(crate) fn job(&self, script: &str) -> Value {
        queue::job(&self.source, PLAIN, script)
    }

    /// A source with a lockfile that no other run had. `files` lie beside it.
    pub(crate) async fn locked_source(&self, files: &[(&str, &str)]) -> Result<(String, Value)> {
        let lock = Uuid::new_v4().to_string();
        let mut all = vec![("lock", lock.as_str())];
        all.extend(files);
        let source = self.queue.store_source(&all).await?;
        Ok((lock, source))
    }

    /// The key of a snapshot that was just baked.
    pub(crate) async fn fresh_key(&self) -> Result<String> {
        let (_lock, source) = self.locked_source(&[]).await?;
        self.key_for(&source).await
    }

    /// The key of the snapshot for a source with a lockfile, baked now if it was not.
    pub(crate) async fn key_for(&self, source: &Value) -> Result<String> {
        let job = queue::job(source, LOCKED, "true");
        key_of(&self.ends_with(&job, Reason::Completed).await?)
    }

    /// The definition of a template that is baked in seconds, and anew for each `salt`.
    pub(crate) async fn tiny_template(&self, name: &str, salt: &str) -> Result<Value> {
        Ok(json!({
            "schema": "sourdough/template/v1",
            "name": name,
            "base": self.queue.store_archive(root::tiny()?).await?,
            "resources": {"vcpu": 1, "memory_mib": 128, "disk_mib": 256},
            "ca": "none",
            "salt": salt,
        }))
    }
}

/// The key of the snapshot that a job ran in.
pub(crate) fn key_of(result: &JobResult) -> Result<String> {
    let environment = result.environment.as_ref();
    let environment = environment.context("a result says what the job ran in")?;
    Ok(environment.key.0.to_string())
}

/// Why no case can run here.
fn reason_to_skip() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("a template is baked as root only".to_owned());
    }
    None
}
