//! Templates: a root filesystem and a kernel, booted once, set up and frozen.

use std::path::PathBuf;

use jiff::Timestamp;
use schemas::bake::BakeEventKind;
use schemas::step::Env;
use schemas::{EnvName, Sha256Digest, Template, Token, names};
use setup::{Setup, SetupError};
use store::{Details, KeyParts, Manifest};
use vm::{AgentClient, BootSpec, Machine};
use wire::User;

use super::Bakery;
use super::guest::Guest;
use super::plan::{Plan, is_current, is_fresh};
use crate::base::{self, Suppliers};
use crate::election::Turn;
use crate::error::BakeError;
use crate::history::Asked;
use crate::news::{News, OfSetup, Reporter, timed};
use crate::root::{self, SOURCE_DATE_EPOCH};

/// What a template is booted from.
pub(super) struct Bootable {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) disk: PathBuf,
    pub(super) parts: KeyParts,
    pub(super) packages: Vec<String>,
}

impl Bakery {
    /// The manifest of `definition`'s snapshot, which can be fetched: the one that is there if it still is what the definition says and
    /// young enough, else a new one. One that could not be made is left alone as an environment's key is.
    pub(crate) async fn template(
        &self,
        definition: &Template,
        asked: &Asked,
        news: &dyn Reporter,
    ) -> Result<Manifest, BakeError> {
        let lease = names::template_lease(&self.class, &definition.name);
        loop {
            let plan = self.plan(definition).await?;
            if let Some(manifest) = self.current(definition, &plan).await? {
                return Ok(manifest);
            }
            let making = self.make_unless_failed(definition, plan, asked, news);
            // Most of it is the root's making, beside which another guest can be made.
            match self.election.turn(&lease, Box::pin(making)).await? {
                Turn::Done(manifest) => return Ok(manifest),
                Turn::LookAgain => {}
            }
        }
    }

    /// Makes it when it is our turn, unless that failed not long ago. What is remembered stands under the key of all that it would be made
    /// of but its root.
    async fn make_unless_failed(
        &self,
        definition: &Template,
        plan: Plan,
        asked: &Asked,
        news: &dyn Reporter,
    ) -> Result<Manifest, BakeError> {
        let planned = plan.parts.key();
        let Some(history) = &self.history else {
            return self.make_template(definition, plan, news).await;
        };
        if let Some(failure) = history.left_alone(&planned, asked).await? {
            return Err(BakeError::Remembered(Box::new(failure)));
        }
        match self.make_template(definition, plan, news).await {
            Ok(manifest) => {
                history.succeeded(&planned).await?;
                Ok(manifest)
            }
            Err(error) => {
                history.failed(&planned, &error, asked, None).await?;
                Err(error)
            }
        }
    }

    /// The template that is there, if it is what `plan` would make, and not too old.
    async fn current(
        &self,
        definition: &Template,
        plan: &Plan,
    ) -> Result<Option<Manifest>, BakeError> {
        let key = self.template_key(&definition.name).await?;
        let Some(key) = key else { return Ok(None) };
        let manifest = self.fresh(definition, &key).await?;
        Ok(manifest.filter(|manifest| is_current(&manifest.parts, &plan.parts)))
    }

    /// The key of the template of that name, as it is for this class now; none where none was baked.
    pub(crate) async fn template_key(
        &self,
        name: &Token,
    ) -> Result<Option<Sha256Digest>, BakeError> {
        Ok(self.store.template_key(&self.class, name).await?)
    }

    /// Whether the template's snapshot is missing, or its time is over.
    pub(crate) async fn is_stale(&self, definition: &Template) -> Result<bool, BakeError> {
        let Some(key) = self.template_key(&definition.name).await? else {
            return Ok(true);
        };
        let Some(digest) = self.store.find(&key).await? else {
            return Ok(true);
        };
        let manifest = Box::pin(self.store.manifest(&digest)).await?;
        Ok(!is_fresh(definition, manifest.created_at, Timestamp::now()))
    }

    /// The template with that key, if all of it is there and it is not too old.
    pub(super) async fn fresh(
        &self,
        definition: &Template,
        key: &Sha256Digest,
    ) -> Result<Option<Manifest>, BakeError> {
        let manifest = Box::pin(self.store.find_whole(key)).await?;
        Ok(manifest.filter(|manifest| is_fresh(definition, manifest.created_at, Timestamp::now())))
    }

    async fn make_template(
        &self,
        definition: &Template,
        plan: Plan,
        news: &dyn Reporter,
    ) -> Result<Manifest, BakeError> {
        // Whoever had the turn before may have made it.
        if let Some(manifest) = self.current(definition, &plan).await? {
            return Ok(manifest);
        }
        let what = format!("template {}", definition.name);
        let begins =
            format!("{what} is not baked yet, too old, or not from what it is made of now");
        news.tell(News::new(BakeEventKind::Started, begins)).await;
        let suppliers = Suppliers {
            config: &self.config,
            objects: &self.objects,
        };
        let work = plan.work.path();
        let making = base::make(&definition.base, suppliers, plan.ca.as_deref(), work);
        let root = timed(news, &format!("{what}, root made"), Box::pin(making)).await?;
        let parts = KeyParts {
            root: Some(root.digest),
            ..plan.parts
        };
        // Another bakery may have made the same of the same packages, kernel and agent. One that is too old is baked anew even then:
        // its setup may fetch what has changed since.
        let key = parts.key();
        let manifest = match self.fresh(definition, &key).await? {
            Some(manifest) => manifest,
            None => {
                let writing = root::disk(&root.tar, definition.resources.disk_mib, work);
                let disk = timed(news, &format!("{what}, disk written"), writing).await?;
                let bootable = Bootable {
                    kernel: plan.kernel,
                    initrd: plan.initrd,
                    disk,
                    parts,
                    packages: root.packages,
                };
                let _oven = self.election.oven().await;
                self.bake_template(definition, bootable, news).await?
            }
        };
        let (class, name) = (&self.class, &definition.name);
        self.store.set_template_key(class, name, key).await?;
        Ok(manifest)
    }

    /// Boots, sets up, freezes and publishes.
    pub(super) async fn bake_template(
        &self,
        definition: &Template,
        from: Bootable,
        news: &dyn Reporter,
    ) -> Result<Manifest, BakeError> {
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
        let guest = Guest::new(vm, &definition.setup);
        if let Err(error) = set_up(&what, definition, guest.agent(), news).await {
            return Err(guest.end(error.into()).await);
        }
        let details = Details {
            packages: from.packages,
            source_date_epoch: Some(SOURCE_DATE_EPOCH),
            gate: None,
        };
        self.publish(&what, guest, from.parts, details, news).await
    }
}

async fn set_up(
    what: &str,
    definition: &Template,
    agent: &AgentClient,
    news: &dyn Reporter,
) -> Result<(), SetupError> {
    let root = root_variables();
    let setup = Setup {
        what: what.to_owned(),
        user: User::ROOT,
        source_date_epoch: SOURCE_DATE_EPOCH,
        layers: vec![&root],
    };
    let of_setup = OfSetup { what, news };
    setup.run(agent, &definition.setup, &of_setup).await
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
