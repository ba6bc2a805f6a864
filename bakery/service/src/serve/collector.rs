//! Collects what nobody needs, as `bakery gc` does, once an hour.
//!
//! What always holds: of all bakeries one collects at a time; a collection that fails is tried again the next hour, and harms nothing.

use std::sync::Arc;
use std::time::Duration;

use bus::telemetry::Causes;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Server;
use crate::collect::{self, Busy, Report};
use crate::progress_bar::Bar;

/// 1 h: what is collected has lain unused for a day already.
const COLLECT_EVERY: Duration = Duration::from_hours(1);

/// 30 days, as long as the results that name them.
const COMMITS_UNUSED_FOR: Duration = Duration::from_hours(30 * 24);

/// Collects until `shutdown`.
pub(super) async fn serve(server: Arc<Server>, shutdown: CancellationToken) {
    let mut hour = interval(COLLECT_EVERY);
    hour.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(hour.tick()).await.is_some() {
        let bar = Bar::hidden();
        let collecting = Box::pin(collect::run(&server.config, false, &bar));
        match shutdown.run_until_cancelled(collecting).await {
            Some(Ok(report)) => {
                tell(&report);
                forget_commits(&server).await;
            }
            Some(Err(error)) if error.is::<Busy>() => info!("another bakery collects"),
            Some(Err(error)) => warn!(error = format!("{error:#}"), "nothing collected"),
            None => {}
        }
    }
}

/// Takes away the archives of commits that no job has asked for in a while: the next that does has them fetched again.
async fn forget_commits(server: &Server) {
    match server.sources.collect_commits(COMMITS_UNUSED_FOR).await {
        Ok(commits) => info!(commits, "archives of commits collected"),
        Err(error) => warn!(error = %Causes(&error), "archives of commits not collected"),
    }
}

fn tell(report: &Report) {
    info!(
        snapshots = report.collected.len(),
        chunks = report.chunks,
        bytes = report.bytes,
        kept = report.kept.len(),
        "collected"
    );
}
