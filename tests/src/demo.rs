//! `make demo`: a stack, two builds of the widget, one digest.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use schemas::guest::CA_BUNDLE;

use crate::launch::Lifetime;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::project::Project;
use crate::stack::{Reachable, Stack, StackOptions};
use crate::state::{State, repository};
use crate::submit::{Client, Submitted};

/// What the widget's build makes.
const ARTIFACT: &str = "dist/widget.tar.gz";

/// What the widget is built in.
const DEFINITIONS: [&str; 2] = ["template-node.json", "environment-widget.json"];

/// The same for a stack that stays, and what git sources are fetched in: each template costs a minute's bake.
const LASTING_DEFINITIONS: [&str; 3] = [
    "template-node.json",
    "environment-widget.json",
    "template-fetch.json",
];

/// How it is built.
const ARGUMENTS: [&str; 4] = [
    "--step",
    "build: make build",
    "--artifact",
    "dist: dist/widget.tar.gz",
];

/// The stack that `make demo` owns and `make up` leaves running, with these definitions of `deploy/demo`. Both find the bakes of the
/// other.
fn stack(state: &State, lifetime: Lifetime, definitions: &[&str]) -> StackOptions {
    let definition = |name: &&str| repository().join("deploy/demo").join(name);
    StackOptions {
        directory: state.path().join("stack"),
        lifetime,
        slots: 1,
        definitions: definitions.iter().map(definition).collect(),
        registries: Reachable::Npm,
        ca_bundle: CA_BUNDLE.into(),
    }
}

/// The stack that stays.
pub fn lasting_stack(state: &State) -> StackOptions {
    stack(state, Lifetime::Detached, &LASTING_DEFINITIONS)
}

/// Builds the widget twice in a stack of its own. Succeeds when both artifacts have one digest.
pub async fn run(state: &State) -> Result<ExitCode> {
    let mut progress = Progress::start();
    eprintln!("Everything is kept in {}.", state.path().display());
    eprintln!(
        "VMs are emulated (TCG): that is no boundary against a hostile build, and untrusted jobs run all the same."
    );
    let options = stack(state, Lifetime::Owner, &DEFINITIONS);
    let stack = Stack::start(&options, state, &mut progress).await?;
    let outcome = build_twice(&stack, &mut progress).await;
    let stopped = progress.phase("everything is stopped", stack.stop()).await;
    eprint!("\n{}", progress.table());
    eprintln!("\nEverything is kept in {}.", state.path().display());
    // What went wrong first is worth more than what followed from it.
    let same = outcome?;
    stopped?;
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn build_twice(stack: &Stack, progress: &mut Progress) -> Result<bool> {
    let project = Project::committed("widget")?;
    progress
        .phase(
            "template node and environment widget are baked, or found",
            stack.services.bake("widget", &project),
        )
        .await?;
    let client = Client {
        program: Programs::find()?.sourdough,
        environment: stack.environment(),
    };
    let mut builds = Vec::new();
    for name in ["the widget is built", "the widget is built again"] {
        let build = client.submit(project.path(), "widget", &ARGUMENTS);
        builds.push(progress.phase(name, build).await?);
    }
    compare(&builds)
}

/// Prints the results and whether they have one artifact between them.
fn compare(builds: &[Submitted]) -> Result<bool> {
    for build in builds {
        let text = serde_json::to_string_pretty(&build.result).context("print a result")?;
        println!("{text}");
    }
    let digests: Vec<_> = builds
        .iter()
        .map(|build| build.digest_of(ARTIFACT))
        .collect();
    let same = match digests[..] {
        [Some(first), Some(second)] => first == second,
        _ => false,
    };
    for digest in digests {
        println!(
            "{ARTIFACT} sha256:{}",
            digest.unwrap_or("none, the build failed")
        );
    }
    println!(
        "{}",
        if same {
            "The two digests are equal."
        } else {
            "The two digests are not equal."
        }
    );
    Ok(same)
}
