//! What the projects that we build, and the environments that they are built in, keep to.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::state::repository;
use schemas::{Environment, Template};
use serde_json::Value;

#[test]
fn the_widgets_lockfile_has_a_digest_for_every_package_and_no_address() -> Result<()> {
    let text = fs::read_to_string(repository().join("tests/projects/widget/package-lock.json"))?;
    let lockfile: Value = serde_json::from_str(&text)?;
    let packages = lockfile["packages"]
        .as_object()
        .context("a lockfile lists packages")?;
    for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
        ensure!(package["integrity"].is_string(), "{name} has no digest");
        ensure!(package["resolved"].is_null(), "{name} has an address");
        ensure!(
            package["hasInstallScript"].is_null(),
            "{name} runs a script when installed"
        );
    }
    ensure!(!text.contains("://"), "an address stands in the lockfile");
    Ok(())
}

#[test]
fn every_definition_is_valid_and_named_as_its_file() -> Result<()> {
    for folder in ["deploy/demo", "tests/definitions"] {
        for entry in fs::read_dir(repository().join(folder))? {
            let path = entry?.path();
            let text = fs::read(&path)?;
            let stem = path
                .file_stem()
                .context("a file has a name")?
                .to_string_lossy();
            let (kind, name) = stem.split_once('-').context("a kind and a name")?;
            let found = match kind {
                "template" => Template::parse(&text)?.name,
                "environment" => Environment::parse(&text)?.name,
                other => anyhow::bail!("{other} is no kind of definition"),
            };
            ensure!(found.as_str() == name, "{} defines {found}", path.display());
        }
    }
    Ok(())
}
