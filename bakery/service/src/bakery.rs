//! What a bake needs, and what both kinds of bake share.

mod environment;
mod guest;
mod plan;
mod template;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::objects::Objects;
use schemas::bake::BakeEventKind;
use schemas::{HostClass, Sha256Digest, TextError};
use source::Sources;
use store::{Details, KeyParts, Manifest, Published, Store};
use vm::{Driver, HostProfile, Slot};

use crate::config::Config;
use crate::election::{Election, Turn};
use crate::error::BakeError;
use crate::files;
use crate::gate;
use crate::history::History;
use crate::news::{News, Reporter, seconds, timed};
use crate::transfers::Transfers;

use guest::Guest;

pub use environment::{Baked, Ingredients, Order};

/// Writes an initial RAM filesystem: of the agent's program, with what it needs of a folder of kernel modules, to a file.
/// It blocks.
pub type MakeInitramfs = fn(agent: &Path, modules: &Path, to: &Path) -> io::Result<()>;

/// Everything that a bake needs.
pub struct Bakery {
    config: Arc<Config>,
    driver: Arc<dyn Driver>,
    make_initramfs: MakeInitramfs,
    class: HostClass,
    objects: Objects,
    store: Store,
    sources: Sources,
    election: Election,
    history: Option<History>,
}

/// What a [`Bakery`] works with.
pub struct Parts {
    /// What the operator says.
    pub config: Arc<Config>,
    /// What starts guests.
    pub driver: Arc<dyn Driver>,
    /// What makes the first file system of a guest that is booted.
    pub make_initramfs: MakeInitramfs,
    /// Where root archives come from.
    pub objects: Objects,
    /// Where snapshots go.
    pub store: Store,
    /// Where inputs come from.
    pub sources: Sources,
}

impl Bakery {
    /// A bakery for the host class of the driver, which bakes when `election` says that it is its turn.
    /// It remembers in `history` which templates could not be made.
    pub(crate) fn new(
        parts: Parts,
        election: Election,
        history: Option<History>,
    ) -> Result<Self, TextError> {
        Ok(Self {
            class: host_class(parts.driver.profile())?,
            config: parts.config,
            driver: parts.driver,
            make_initramfs: parts.make_initramfs,
            objects: parts.objects,
            store: parts.store,
            sources: parts.sources,
            election,
            history,
        })
    }

    /// The host class that it bakes for.
    pub fn class(&self) -> &HostClass {
        &self.class
    }

    /// Whether the snapshot is published and all of it is there.
    pub(crate) async fn has(&self, key: &Sha256Digest) -> Result<bool, BakeError> {
        // Boxed, as every use of the object store here: its client's futures are large.
        Ok(Box::pin(self.store.find_whole(key)).await?.is_some())
    }

    /// Does `work`, which makes a guest, when it is this bakery's turn at what `lease` stands for.
    pub(crate) async fn turn<T>(
        &self,
        lease: &str,
        work: impl Future<Output = Result<T, BakeError>>,
    ) -> Result<Turn<T>, BakeError> {
        self.election.turn_at_the_oven(lease, work).await
    }

    /// Freezes a guest, checks what was frozen, and publishes it.
    async fn publish(
        &self,
        what: &str,
        guest: Guest,
        parts: KeyParts,
        details: Details,
        news: &dyn Reporter,
    ) -> Result<Manifest, BakeError> {
        let frozen = files::scratch(&self.work())?;
        let freezing = guest.freeze(frozen.path());
        let baked = timed(news, &format!("{what}, frozen"), freezing).await?;
        let (slots, canaries) = (self.slots(), &self.config.canaries);
        let checking = gate::check(&*self.driver, &baked, &slots, canaries);
        let report = timed(news, &format!("{what}, checked"), checking).await?;
        let details = Details {
            gate: Some(report),
            ..details
        };
        let (begun, transfers) = (Instant::now(), Transfers::new());
        let publishing = self
            .store
            .publish(frozen.path(), parts, details, &transfers);
        let published = transfers.told_to(news, what, Box::pin(publishing)).await?;
        let stored = format!("{what}, {}", stored(&published, begun.elapsed()));
        news.tell(News::new(BakeEventKind::StepFinished, stored))
            .await;
        Ok(published.manifest)
    }

    fn slot(&self) -> Result<Slot, BakeError> {
        Ok(Slot::create(&self.slots())?)
    }

    /// Where the directories of running VMs are.
    fn slots(&self) -> PathBuf {
        self.config.state.join("slots")
    }

    /// Where what a bake makes lies until it is published.
    fn work(&self) -> PathBuf {
        self.config.state.join("work")
    }
}

/// The class of a host, as it stands in subjects, pointers and keys.
pub fn host_class(profile: &HostProfile) -> Result<HostClass, TextError> {
    HostClass::new(
        &profile.driver,
        &profile.vmm_version,
        &profile.accelerator,
        &profile.cpu_model,
    )
}

/// How much was sent, how much was there already, and how long it took.
fn stored(published: &Published, took: Duration) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    format!(
        "stored: {}, {} of {} MiB sent, {} of {} chunks were there",
        seconds(took),
        mib(published.uploaded_bytes),
        mib(published.stored_bytes),
        published.chunks - published.chunks_uploaded,
        published.chunks
    )
}
