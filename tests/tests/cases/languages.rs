//! Projects of other languages than the widget's: their lockfiles are installed once, in a bake, and built without a network.

use anyhow::{Result, ensure};
use e2e::programs::Programs;
use e2e::project::Project;
use e2e::submit::{Client, Submitted};

use crate::stack::Cases;

pub(crate) async fn a_python_project_with_an_sdist_in_c_is_baked_and_built(
    cases: &mut Cases,
) -> Result<()> {
    let step = "build: .venv/bin/python build.py";
    let arguments = ["--step", step, "--artifact", "notes: dist/notes.html"];
    let build = built(cases, "pysdist", "pypi", &arguments).await?;
    ensure!(build.digest_of("dist/notes.html").is_some());
    Ok(())
}

pub(crate) async fn a_rust_crate_with_dependencies_is_baked_and_built(
    cases: &mut Cases,
) -> Result<()> {
    let step = "build: cargo build --frozen";
    let arguments = ["--step", step, "--artifact", "bin: target/debug/rustcrate"];
    let build = built(cases, "rustcrate", "crates", &arguments).await?;
    ensure!(build.digest_of("target/debug/rustcrate").is_some());
    Ok(())
}

/// Bakes what the project's lockfile names, and builds it.
async fn built(
    cases: &Cases,
    project: &str,
    environment: &str,
    arguments: &[&str],
) -> Result<Submitted> {
    let project = Project::committed(project)?;
    cases.stack()?.services.bake(environment, &project).await?;
    let client = Client {
        program: Programs::find()?.sourdough,
        environment: cases.stack()?.environment(),
    };
    let build = client
        .submit(project.path(), environment, arguments)
        .await?;
    ensure!(
        build.exit_code == Some(0),
        "{:?}: {}",
        build.exit_code,
        build.result
    );
    cases.is_settled().await?;
    Ok(build)
}
