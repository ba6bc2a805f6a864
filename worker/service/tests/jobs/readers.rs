//! Those who read a job's log and do not keep up.

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use schemas::names::stream;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::rig::Rig;

/// 16 MiB: far above what lies in buffers between a server and a reader.
const BYTES: usize = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_take_nothing_cost_neither_a_build_nor_its_log_anything() -> Result<()> {
    let Some(rig) = Rig::start("readers", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let logs = format!("build.log.{}.>", rig.tenant());
    let _deaf = deaf(&logs).await?;
    let unacknowledged = pull::Config {
        filter_subject: logs,
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 1,
        ..pull::Config::default()
    };
    let stored = rig.jetstream().get_stream(stream::LOGS).await?;
    let reader = stored.create_consumer(unacknowledged).await?;
    let _unread = reader.messages().await?;
    let steps = serde_json::json!([{"name": "say", "sh": format!("head -c {BYTES} /dev/zero")}]);
    let job = rig.submit(&[("steps", &steps.to_string())]).await?;
    let result = rig.completed(&job).await?;
    let log = result.log.context("it has a log")?;
    ensure!(
        (log.size_bytes, log.chunks_lost) == (BYTES as u64, 0),
        "{log:?}"
    );
    rig.end().await
}

/// A subscriber that reads nothing.
async fn deaf(subject: &str) -> Result<TcpStream> {
    let url = std::env::var("NATS_URL")?;
    let address = url.trim_start_matches("nats://").trim_end_matches('/');
    let mut connection = TcpStream::connect(address).await?;
    let words = format!("CONNECT {{\"verbose\":false}}\r\nSUB {subject} 1\r\n");
    connection.write_all(words.as_bytes()).await?;
    Ok(connection)
}
