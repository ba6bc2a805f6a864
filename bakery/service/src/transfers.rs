//! How far a snapshot is on its way, as news.
//!
//! ```text
//! store ─ each chunk ─▶ the latest Transfer ─ at most every 2 s ─▶ news
//! ```
//!
//! What always holds: the store never waits for whoever hears the news; nothing is told once the transfer has ended.

use std::time::Duration;

use schemas::bake::BakeEventKind;
use store::{Direction, Progress, Transfer};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::news::{News, Reporter};

/// 2 s: a transfer that is over sooner needs no news, and a person who watches a longer one sees it move.
const BETWEEN: Duration = Duration::from_secs(2);

/// Hears from the store how far one transfer is.
pub(crate) struct Transfers {
    /// None once the transfer has ended.
    latest: watch::Sender<Option<Transfer>>,
}

impl Progress for Transfers {
    fn advanced(&self, transfer: &Transfer) {
        self.latest.send_replace(Some(*transfer));
    }
}

impl Transfers {
    /// For a transfer that begins now.
    pub(crate) fn new() -> Self {
        Self {
            latest: watch::Sender::new(None),
        }
    }

    /// Does the transfer, which is to be told to this, and tells the news how far `what` is: `environment widget`.
    pub(crate) async fn told_to<T>(
        &self,
        news: &dyn Reporter,
        what: &str,
        transfer: impl Future<Output = T>,
    ) -> T {
        let seen = self.latest.subscribe();
        let transferring = async {
            let done = transfer.await;
            self.latest.send_replace(None);
            done
        };
        let (done, ()) = tokio::join!(transferring, tell(seen, news, what));
        done
    }
}

/// Until the transfer ends.
async fn tell(mut seen: watch::Receiver<Option<Transfer>>, news: &dyn Reporter, what: &str) {
    let mut told = Instant::now();
    while seen.changed().await.is_ok() {
        let Some(transfer) = *seen.borrow_and_update() else {
            return;
        };
        if told.elapsed() < BETWEEN {
            continue;
        }
        let message = format!("{what}, {}", sentence(&transfer));
        news.tell(News::new(BakeEventKind::Transferring, message))
            .await;
        told = Instant::now();
    }
}

fn sentence(transfer: &Transfer) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let doing = match transfer.what {
        Direction::Upload => "storing",
        Direction::Download => "fetching",
    };
    format!(
        "{doing}: {} of {} MiB, {} of {} chunks, of which {} were there",
        mib(transfer.bytes_done),
        mib(transfer.bytes_total),
        transfer.chunks_done,
        transfer.chunks_total,
        transfer.chunks_saved
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::news::tests::Heard;

    fn transfer(chunks_done: u64) -> Transfer {
        Transfer {
            what: Direction::Upload,
            bytes_done: chunks_done << 19,
            bytes_total: 10 << 19,
            chunks_done,
            chunks_total: 10,
            chunks_saved: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_is_told_at_most_every_two_seconds_and_not_after_its_end() {
        let (heard, transfers) = (Heard::default(), Transfers::new());
        let transferring = async {
            for chunks_done in 1..=10 {
                tokio::time::advance(Duration::from_millis(900)).await;
                transfers.advanced(&transfer(chunks_done));
                tokio::task::yield_now().await;
            }
            "done"
        };
        let done = transfers.told_to(&heard, "template node", transferring);
        assert_eq!(done.await, "done");
        let news = heard.0.into_inner().unwrap();
        let told: Vec<_> = news.iter().map(|news| news.message.as_str()).collect();
        assert_eq!(
            told,
            [
                "template node, storing: 2 of 5 MiB, 3 of 10 chunks, of which 1 were there",
                "template node, storing: 3 of 5 MiB, 6 of 10 chunks, of which 1 were there",
                "template node, storing: 5 of 5 MiB, 9 of 10 chunks, of which 1 were there",
            ]
        );
        assert_eq!(news[0].kind, BakeEventKind::Transferring);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_transfer_is_not_told() {
        let (heard, transfers) = (Heard::default(), Transfers::new());
        let transferring = async { transfers.advanced(&transfer(10)) };
        transfers
            .told_to(&heard, "template node", transferring)
            .await;
        assert!(heard.0.lock().unwrap().is_empty());
    }
}
