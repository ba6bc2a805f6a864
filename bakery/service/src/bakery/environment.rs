//! Environments: a guest derived from its template, with the declared inputs and no other file of the source, set up and frozen.

use schemas::bake::{BakeEventKind, BakeRequest};
use schemas::guest::HOSTNAME;
use schemas::source::{ArchiveSource, Source};
use schemas::{Environment, Sha256Digest, Tenant, Token, Trust};
use setup::{Room, way_out};
use source::Archive;
use store::{Details, KeyParts, Manifest};
use vm::{Identity, SnapshotFiles};

use super::Bakery;
use super::guest::Guest;
use crate::definitions::Definitions;
use crate::error::BakeError;
use crate::history::Asked;
use crate::news::{News, OfSetup, Reporter, timed};
use crate::root::SOURCE_DATE_EPOCH;
use crate::transfers::Transfers;

/// A request, and from whom it is.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whose environment it is.
    pub tenant: Token,
    /// How far the author of the source is trusted.
    pub trust: Trust,
    /// What is asked for.
    pub request: BakeRequest,
}

/// A snapshot that can be forked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baked {
    /// Its key.
    pub key: Sha256Digest,
    /// Whether it was there before.
    pub found: bool,
}

/// What an environment's bake works with.
pub struct Ingredients {
    pub(super) definition: Environment,
    pub(super) tenant: Tenant,
    pub(super) template: Manifest,
    pub(super) archive: Archive,
    pub(super) stored: ArchiveSource,
    pub(super) parts: KeyParts,
}

impl Ingredients {
    /// The key of what they make.
    pub fn key(&self) -> Sha256Digest {
        self.parts.key()
    }

    /// Where the inputs come from, so that they can be had again whatever becomes of the place they were first fetched from.
    pub fn source(&self) -> Source {
        Source::Archive(self.stored.clone())
    }
}

impl Bakery {
    /// Gathers what is asked for: the template, which is baked first where it is missing or no longer what its definition says; the
    /// source; and the key, which follows from both.
    pub(crate) async fn gather(
        &self,
        order: &Order,
        asked: &Asked,
        definitions: &Definitions,
        news: &dyn Reporter,
    ) -> Result<Ingredients, BakeError> {
        let (environment, template) = defined(order, definitions).await?;
        let template = self.template(&template, asked, news).await?;
        let ingredients = self.ingredients(order, environment, template).await?;
        let key = ingredients.key();
        match order.request.key {
            Some(wanted) if wanted != key => Err(BakeError::Key { wanted, found: key }),
            Some(_) | None => Ok(ingredients),
        }
    }

    /// Fetches the source, and computes the key from it.
    pub(super) async fn ingredients(
        &self,
        order: &Order,
        definition: Environment,
        template: Manifest,
    ) -> Result<Ingredients, BakeError> {
        let (tenant, trust, work) = (&order.tenant, order.trust, self.work());
        crate::files::make_directory(&work)?;
        let fetching = self
            .sources
            .fetch(tenant, trust, &order.request.source, &work);
        let fetched = Box::pin(fetching).await?;
        let inputs = fetched.archive.input_digests(&definition.inputs).await?;
        let parts = KeyParts::environment(tenant, trust, &template, &definition, inputs);
        Ok(Ingredients {
            definition,
            tenant: self.sources.tenant(tenant).await?,
            template,
            archive: fetched.archive,
            stored: fetched.stored,
            parts,
        })
    }

    /// Derives, puts in, sets up, freezes and publishes.
    pub(crate) async fn bake_environment(
        &self,
        ingredients: &Ingredients,
        news: &dyn Reporter,
    ) -> Result<Sha256Digest, BakeError> {
        let definition = &ingredients.definition;
        let what = format!("environment {}", definition.name);
        let (network, registries) = (&definition.network, &self.config.registries);
        let way_out = way_out(network, registries, &ingredients.tenant)?;
        let begins = format!("{what}, from template {}", definition.template);
        let begins = News::new(BakeEventKind::Started, begins);
        news.tell(begins.with_key(ingredients.parts.key())).await;
        let transfers = Transfers::new();
        let fetching = Box::pin(self.store.fetch(&ingredients.template.key, &transfers));
        let fetching = async { Ok(transfers.told_to(news, &what, fetching).await?) };
        let template = timed(news, &format!("{what}, template fetched"), fetching).await?;
        let (slot, identity) = (self.slot()?, Identity::fresh(HOSTNAME));
        let deriving = async {
            let files = SnapshotFiles::open(&template.dir)?;
            Ok(self.driver.derive(&files, slot, &identity).await?)
        };
        let vm = timed(news, &format!("{what}, template started"), deriving).await?;
        let guest = Guest::new(vm, &definition.setup);
        let epoch = ingredients.template.details.source_date_epoch;
        let room = Room {
            what: what.clone(),
            definition,
            source_date_epoch: epoch.unwrap_or(SOURCE_DATE_EPOCH),
        };
        let of_setup = OfSetup { what: &what, news };
        let set_up = room.set_up(guest.agent(), &ingredients.archive, way_out, &of_setup);
        if let Err(error) = set_up.await {
            return Err(guest.end(error.into()).await);
        }
        let details = Details {
            packages: Vec::new(),
            source_date_epoch: Some(room.source_date_epoch),
            gate: None,
        };
        let manifest = self
            .publish(&what, guest, ingredients.parts.clone(), details, news)
            .await?;
        Ok(manifest.key)
    }
}

/// The definitions of the environment that is asked for and of its template.
async fn defined(
    order: &Order,
    definitions: &Definitions,
) -> Result<(Environment, schemas::Template), BakeError> {
    let (tenant, name) = (&order.tenant, &order.request.environment);
    let environment = match &order.request.definition {
        Some(inline) => Some((**inline).clone()),
        None => definitions.environment(tenant, name).await?,
    };
    let environment = environment.ok_or_else(|| BakeError::UnknownEnvironment {
        tenant: tenant.clone(),
        name: name.clone(),
    })?;
    let template = definitions.template(&environment.template).await?;
    let template = template.ok_or_else(|| BakeError::UnknownTemplate {
        name: environment.template.clone(),
    })?;
    Ok((environment, template))
}
