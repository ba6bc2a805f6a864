//! What the architecture promises and a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::programs::Programs;
use e2e::stack::{Reachable, Registry};
use e2e::state::{State, repository};

/// `PT_INTERP` of elf(5): the program needs a dynamic loader.
const INTERPRETER: u32 = 3;

#[test]
fn only_the_main_of_worker_and_bakery_names_a_driver() -> Result<()> {
    for service in ["worker/service/src", "bakery/service/src"] {
        for path in sources(&repository().join(service))? {
            let text = fs::read_to_string(&path)?;
            let names_a_driver = ["drivers::", "use drivers", "extern crate drivers"]
                .iter()
                .any(|name| text.contains(name));
            let is_main = path.ends_with(Path::new(service).join("main.rs"));
            ensure!(names_a_driver == is_main, "{}", path.display());
        }
    }
    Ok(())
}

#[test]
fn the_agent_is_static() -> Result<()> {
    let path = Programs::find()?.agent;
    let program = fs::read(&path)?;
    let kinds = segment_kinds(&program).context("read the agent's program headers")?;
    ensure!(
        !kinds.is_empty() && !kinds.contains(&INTERPRETER),
        "{kinds:?}"
    );
    Ok(())
}

#[test]
fn no_file_of_the_repository_names_a_registry_of_this_machine() -> Result<()> {
    let mut hosts = debian_hosts();
    let state = State::from_environment()?;
    match Reachable::Detected.find(&state, &Programs::find()?) {
        Ok(registries) => hosts.extend(registries.values().flat_map(hosts_of)),
        Err(error) => println!("skipped: the registries of npm, pip and cargo: {error:#}"),
    }
    for path in tracked()? {
        // What is no text names nothing. Cargo writes its lock file itself.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let named = hosts.iter().find(|host| text.contains(host.as_str()));
        ensure!(
            named.is_none() || path.ends_with("Cargo.lock"),
            "{} names {named:?}",
            path.display()
        );
    }
    Ok(())
}

fn hosts_of(registry: &Registry) -> Vec<String> {
    let hosts = registry.hosts.iter();
    hosts.map(|host| without_port(host).to_owned()).collect()
}

/// All Rust files below a directory.
fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The kinds of an ELF file's segments, 64 bits and little-endian as elf(5) lays them out.
fn segment_kinds(file: &[u8]) -> Option<Vec<u32>> {
    let number = |at: usize, size: usize| {
        let bytes = file.get(at..at + size)?;
        let number = bytes
            .iter()
            .rev()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    };
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count)
        .map(|index| u32::try_from(number(table + index * size, 4)?).ok())
        .collect()
}

/// The hosts of the machine's Debian sources.
fn debian_hosts() -> Vec<String> {
    let lists = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    let mut files: Vec<_> = lists.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.push("/etc/apt/sources.list".into());
    let texts: Vec<_> = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    let addresses = texts.iter().flat_map(|text| text.split_whitespace());
    let hosts = addresses.filter_map(|word| word.split_once("://")?.1.split('/').next());
    let hosts = hosts.map(|host| without_port(host).to_owned());
    // A `file:` source has none.
    hosts.filter(|host| !host.is_empty()).collect()
}

fn without_port(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host)
}

/// Every file that git knows.
fn tracked() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(repository())
        .output()
        .context("run git")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout)?;
    let paths = names
        .split_terminator('\0')
        .map(|name| repository().join(name));
    // One that was deleted and not committed is listed all the same.
    Ok(paths.filter(|path| path.is_file()).collect())
}
