//! The project of the demo, with npm and all: what takes longest, and what it is all for.

use anyhow::{Context as _, Result, ensure};
use e2e::programs::Programs;
use e2e::project::Project;
use e2e::submit::Client;

use crate::stack::Cases;

pub(crate) async fn two_builds_of_the_widget_have_one_digest(cases: &mut Cases) -> Result<()> {
    let project = Project::committed("widget")?;
    cases.stack()?.services.bake("widget", &project).await?;
    let client = Client {
        program: Programs::find()?.sourdough,
        environment: cases.stack()?.environment(),
    };
    let mut digests = Vec::new();
    for _ in 0..2 {
        let build = client
            .submit(
                project.path(),
                "widget",
                &[
                    "--step",
                    "build: make build",
                    "--artifact",
                    "dist: dist/widget.tar.gz",
                ],
            )
            .await?;
        ensure!(
            build.exit_code == Some(0),
            "{:?}: {}",
            build.exit_code,
            build.result
        );
        let digest = build
            .digest_of("dist/widget.tar.gz")
            .context("an artifact came out")?;
        digests.push(digest.to_owned());
        cases.is_settled().await?;
    }
    ensure!(digests[0] == digests[1], "{digests:?}");
    Ok(())
}
