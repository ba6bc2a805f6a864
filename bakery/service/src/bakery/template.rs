//! Templates: a root filesystem and a kernel, booted once, set up and frozen.

use std::path::PathBuf;

use schemas::bake::BakeEventKind;
use schemas::step::Env;
use schemas::template::Base;
use schemas::{EnvName, Sha256Digest, Template};
use store::{Details, KeyParts, Snapshot};
use vm::{AgentClient, BootSpec, Machine};
use wire::User;

use super::plan::{Plan, is_current};
use super::{Bakery, end};
use crate::error::BakeError;
use crate::news::{News, Reporter, timed};
use crate::root::{self, SOURCE_DATE_EPOCH};
use crate::steps::Setup;

/// What a template is booted from.
pub(super) struct Bootable {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) disk: PathBuf,
    pub(super) parts: KeyParts,
    pub(super) packages: Vec<String>,
}

impl Bakery {
    /// The snapshot of `definition`, on this machine's disk: the one that is there if it still is what the definition says,
    /// else a new one.
    pub(super) async fn template(
        &self,
        definition: &Template,
        news: &dyn Reporter,
    ) -> Result<Snapshot, BakeError> {
        let plan = self.plan(definition).await?;
        let key = match self.current_template(definition, &plan.parts).await? {
            Some(key) => key,
            None => self.make_template(definition, plan, news).await?,
        };
        Ok(Box::pin(self.store.fetch(&key)).await?)
    }

    async fn current_template(
        &self,
        definition: &Template,
        wanted: &KeyParts,
    ) -> Result<Option<Sha256Digest>, BakeError> {
        let Some(key) = self
            .store
            .template_key(&self.class, &definition.name)
            .await?
        else {
            return Ok(None);
        };
        let Some(digest) = self.store.find(&key).await? else {
            return Ok(None);
        };
        let manifest = Box::pin(self.store.manifest(&digest)).await?;
        Ok(is_current(&manifest.parts, wanted).then_some(key))
    }

    async fn make_template(
        &self,
        definition: &Template,
        plan: Plan,
        news: &dyn Reporter,
    ) -> Result<Sha256Digest, BakeError> {
        let what = format!("template {}", definition.name);
        let begins = format!("{what} is not baked yet, or not from what it is made of now");
        news.tell(News::new(BakeEventKind::Started, begins)).await;
        let Base::Debian(debian) = &definition.base;
        let (sources, work) = (&self.config.debian_sources, plan.work.path());
        let making = root::make(debian, sources, plan.ca.as_deref(), work);
        let root = timed(news, &format!("{what}, packages installed"), making).await?;
        let parts = KeyParts {
            root: Some(root.digest),
            ..plan.parts
        };
        // The same packages, kernel and agent as some earlier template: there is nothing to do but to point at it.
        let key = parts.key();
        if self.store.find(&key).await?.is_none() {
            let writing = root::disk(&root.tar, definition.resources.disk_mib, work);
            let disk = timed(news, &format!("{what}, disk written"), writing).await?;
            let bootable = Bootable {
                kernel: plan.kernel,
                initrd: plan.initrd,
                disk,
                parts,
                packages: root.packages,
            };
            self.bake_template(definition, bootable, news).await?;
        }
        let (class, name) = (&self.class, &definition.name);
        self.store.set_template_key(class, name, key).await?;
        Ok(key)
    }

    /// Boots, sets up, freezes and publishes.
    pub(super) async fn bake_template(
        &self,
        definition: &Template,
        from: Bootable,
        news: &dyn Reporter,
    ) -> Result<Sha256Digest, BakeError> {
        let what = format!("template {}", definition.name);
        let spec = BootSpec {
            kernel: from.kernel,
            initrd: from.initrd,
            disk: from.disk,
            machine: Machine {
                vcpu: from.parts.vcpu,
                memory_mib: from.parts.memory_mib,
            },
        };
        let slot = self.slot()?;
        let booting = async { Ok(self.driver.boot(spec, slot).await?) };
        let vm = timed(news, &format!("{what}, booted"), booting).await?;
        if let Err(error) = set_up(&what, definition, vm.agent(), news).await {
            return Err(end(vm, error).await);
        }
        let details = Details {
            packages: from.packages,
            source_date_epoch: Some(SOURCE_DATE_EPOCH),
        };
        self.publish(&what, vm, from.parts, details, news).await
    }
}

async fn set_up(
    what: &str,
    definition: &Template,
    agent: &AgentClient,
    news: &dyn Reporter,
) -> Result<(), BakeError> {
    let root = root_variables();
    let setup = Setup {
        what: what.to_owned(),
        user: User::ROOT,
        source_date_epoch: SOURCE_DATE_EPOCH,
        layers: vec![&root],
    };
    setup.run(agent, &definition.setup, news).await
}

/// What differs for the administrator from the user that builds.
fn root_variables() -> Env {
    let values = [("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root")];
    let name = |name| EnvName::parse(name).expect("a plain word is a name");
    values
        .into_iter()
        .map(|(variable, value)| (name(variable), value.to_owned()))
        .collect()
}
