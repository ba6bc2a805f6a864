//! The soak in short: `make soak` has the long one.

use anyhow::{Result, ensure};
use e2e::fleet::{Fleet, Guests};
use e2e::soak::{SoakOptions, soak};
use e2e::state::State;

/// 40 jobs: with what is killed meanwhile they take a minute or two, as long as the other cases beside it.
const JOBS: usize = 40;

pub(crate) async fn a_short_soak_loses_no_job_and_leaves_nothing(_shared: &Fleet) -> Result<()> {
    let options = SoakOptions {
        jobs: JOBS,
        guests: Guests::Fake,
        seed: None,
    };
    let report = soak(&State::from_environment()?, "short-soak", options).await?;
    eprint!("{report}");
    ensure!(report.faults() > 0, "nothing was done to it");
    Ok(())
}
