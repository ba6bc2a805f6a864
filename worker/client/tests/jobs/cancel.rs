//! `sourdough cancel`.

use anyhow::{Result, ensure};
use schemas::names::{bucket, cancel_key};
use serde_json::Value;

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_says_whether_there_is_anything_to_cancel() -> Result<()> {
    let Some(fixture) = Fixture::start().await? else {
        return Ok(());
    };
    let cancels = fixture.bucket(bucket::CANCELS).await?;
    let unknown = uuid::Uuid::now_v7().to_string();
    let key = |id: &str| Ok::<_, anyhow::Error>(cancel_key(&fixture.tenant, &id.parse()?));
    let said = fixture.run(&["cancel", &unknown]).await?;
    ensure!((said.code, said.out.as_str()) == (Some(66), "not found\n"));
    ensure!(cancels.get(key(&unknown)?).await?.is_none());
    let said = fixture
        .run(&["cancel", &unknown, "--even-if-unknown"])
        .await?;
    ensure!((said.code, said.out.as_str()) == (Some(0), "cancelling\n"));
    ensure!(cancels.get(key(&unknown)?).await?.is_some());

    let queued = fixture.queue().await?;
    let said = fixture.run(&["cancel", queued.as_str()]).await?;
    ensure!((said.code, said.out.as_str()) == (Some(0), "cancelling\n"));
    ensure!(cancels.get(key(queued.as_str())?).await?.is_some());
    ensure!(fixture.standing(&queued).await?["standing"]["state"] == "cancelling");

    fixture.finish(&queued).await?;
    let said = fixture.run(&["cancel", queued.as_str(), "--json"]).await?;
    let answer: Value = serde_json::from_str(&said.out)?;
    ensure!(answer["answer"] == "already_finished" && answer["status"] == "failure");
    let waited = fixture.run(&["cancel", queued.as_str(), "--wait"]).await?;
    ensure!(waited.code == Some(1), "as the job did: {}", waited.err);
    Ok(())
}
