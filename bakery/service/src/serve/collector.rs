//! Collects what nobody needs, as `bakery gc` does, once an hour.
//!
//! What always holds: of all bakeries one collects at a time; a collection that fails is tried again the next hour, and harms nothing.

use std::sync::Arc;
use std::time::Duration;

use bus::lease::Leases;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Server;
use crate::collect;
use crate::progress_bar::Bar;

/// 1 h: what is collected has lain unused for a day already.
const COLLECT_EVERY: Duration = Duration::from_hours(1);

/// The lease of whoever collects.
const LEASE: &str = "collect";

/// Collects until `shutdown`.
pub(super) async fn serve(server: Arc<Server>, shutdown: CancellationToken) {
    let mut hour = interval(COLLECT_EVERY);
    hour.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(hour.tick()).await.is_some() {
        let collecting = Box::pin(collect_once(&server));
        let collected = shutdown.run_until_cancelled(collecting).await;
        if let Some(Err(error)) = collected {
            warn!(error = format!("{error:#}"), "nothing collected");
        }
    }
}

async fn collect_once(server: &Server) -> anyhow::Result<()> {
    let leases = Leases::open(&server.jetstream).await?;
    let Some(mut lease) = leases.take(LEASE, "bakery").await? else {
        return Ok(());
    };
    let bar = Bar::hidden();
    let collecting = Box::pin(collect::run(&server.config, false, &bar));
    let collected = lease.while_held(collecting).await?;
    lease.release().await;
    let report = collected?;
    info!(
        snapshots = report.collected.len(),
        chunks = report.chunks,
        bytes = report.bytes,
        kept = report.kept.len(),
        "collected"
    );
    Ok(())
}
