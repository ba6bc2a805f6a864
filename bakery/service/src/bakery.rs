//! What a bake needs, and what both kinds of bake share.

mod environment;
mod plan;
mod template;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::objects::Objects;
use schemas::{HostClass, TextError};
use store::{Details, KeyParts, Manifest, NoProgress, Store};
use vm::{BakeVm, Driver, Exit, HostProfile, Slot};

use crate::config::Config;
use crate::error::BakeError;
use crate::files;
use crate::news::{Reporter, timed};

pub use environment::{Baked, Order};

/// 5 s for a guest whose bake failed to switch itself off: nothing of it is kept.
const STOP_GRACE: Duration = Duration::from_secs(5);

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
}

impl Bakery {
    /// A bakery for the host class of `driver`.
    pub fn new(
        config: Arc<Config>,
        driver: Arc<dyn Driver>,
        make_initramfs: MakeInitramfs,
        objects: Objects,
        store: Store,
    ) -> Result<Self, TextError> {
        Ok(Self {
            class: host_class(driver.profile())?,
            config,
            driver,
            make_initramfs,
            objects,
            store,
        })
    }

    /// The host class that it bakes for.
    pub fn class(&self) -> &HostClass {
        &self.class
    }

    /// Freezes a guest and publishes it.
    async fn publish(
        &self,
        what: &str,
        vm: Box<dyn BakeVm>,
        parts: KeyParts,
        details: Details,
        news: &dyn Reporter,
    ) -> Result<Manifest, BakeError> {
        let frozen = files::scratch(&self.work())?;
        let freezing = async { Ok(vm.snapshot(frozen.path()).await?) };
        timed(news, &format!("{what}, frozen"), freezing).await?;
        // Boxed, as every use of the object store here: its client's futures are large.
        let publishing = Box::pin(
            self.store
                .publish(frozen.path(), parts, details, &NoProgress),
        );
        let publishing = async { Ok(publishing.await?) };
        let published = timed(news, &format!("{what}, stored"), publishing).await?;
        Ok(published.manifest)
    }

    fn slot(&self) -> Result<Slot, BakeError> {
        Ok(Slot::create(&self.config.state.join("slots"))?)
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

/// Ends a guest whose bake failed. Where its agent vanished, how it ended says whether the VMM was to blame.
async fn end(vm: Box<dyn BakeVm>, error: BakeError) -> BakeError {
    let vanished = error.is_session_end();
    match vm.stop(STOP_GRACE).await {
        Exit::VmmFailed(problem) if vanished => BakeError::VmmDied { problem },
        Exit::VmmFailed(_) | Exit::PoweredOff | Exit::Killed => error,
    }
}
