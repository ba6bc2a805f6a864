//! Jobs that are refused before they run: for what their tenant may ask for, and for what a slot has.

use anyhow::{Result, ensure};
use schemas::reason::Reason;
use schemas::tenant::Limits;

use crate::rig::{Rig, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_asks_for_more_than_its_tenant_may_is_invalid() -> Result<()> {
    let Some(rig) = Rig::start("limited", 1).await? else {
        return Ok(());
    };
    rig.bake().await?;
    let limits = Limits {
        run_s: Some(60),
        ..Limits::default()
    };
    rig.limit(limits).await?;
    let job = rig.submit(&[("timeouts", r#"{"run_s": 61}"#)]).await?;
    let result = rig.result(&job).await?;
    ensure!(
        result.reason.known() == Some(&Reason::InvalidJob),
        "{result:?}"
    );
    ensure!(
        result.message == "timeouts.run_s: must be at most 60 for this tenant, is 61",
        "{}",
        result.message
    );
    ensure!(rig.attempts(&job).await? == 0, "it was not attempted");
    let job = rig.submit(&[("timeouts", r#"{"run_s": 60}"#)]).await?;
    rig.completed(&job).await?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_no_slot_can_hold_is_said_and_not_baked() -> Result<()> {
    let slot = Setup::default();
    let table = [
        (
            Setup {
                slot_vcpu: 1,
                ..slot
            },
            "needs 2 processors",
        ),
        (
            Setup {
                slot_memory_mib: 64,
                ..slot
            },
            "needs 128 MiB of memory",
        ),
        (
            Setup {
                slot_disk_mib: 128,
                ..slot
            },
            "needs 256 MiB of disk",
        ),
    ];
    for (setup, words) in table {
        let Some(rig) = Rig::start_with("toolarge", setup).await? else {
            return Ok(());
        };
        let job = rig.submit(&[]).await?;
        let result = rig.result(&job).await?;
        let reason = result.reason.known();
        ensure!(reason == Some(&Reason::NoCapacity), "{result:?}");
        ensure!(result.message.contains(words), "{}", result.message);
        ensure!(rig.bake_requests().await?.is_empty(), "nobody bakes it");
        rig.end().await?;
    }
    Ok(())
}
