//! Environments that cannot be baked, or are not.

use std::process::Output;

use anyhow::{Result, ensure};
use e2e::project::Project;

use crate::stack::Cases;

pub(crate) async fn a_setup_that_fails_is_told_with_its_step_and_its_output_and_publishes_nothing(
    cases: &mut Cases,
) -> Result<()> {
    let output = bake(cases, "broken").await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{said}");
    ensure!(
        said.contains("deps exited with 7") && said.contains("about to fail"),
        "{said}"
    );
    ensure!(
        !cases.is_published("exit 7").await?,
        "something was published"
    );
    Ok(())
}

pub(crate) async fn a_bake_of_what_nobody_defined_fails_in_words(cases: &mut Cases) -> Result<()> {
    let output = bake(cases, "nobody-defined-this").await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("nobody-defined-this"),
        "{said}"
    );
    Ok(())
}

/// Asks for a bake as an operator does.
async fn bake(cases: &Cases, environment: &str) -> Result<Output> {
    let bakery = &cases.stack()?.services.bakery;
    let project = Project::of_file("lock", "nothing\n")?;
    let mut command = bakery.command(&["bake", environment, "--dir"]);
    Ok(command.arg(project.path()).output().await?)
}
