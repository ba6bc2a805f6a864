//! What the store costs: a second environment of one template, and an empty cache.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use uuid::Uuid;

use super::fetch::Fetched;
use super::figures::Figures;
use crate::news::BakeNews;
use crate::project::Project;
use crate::queue::Queue;
use crate::snapshots::Snapshots;
use crate::stack::Stack;

/// The environment whose snapshots are measured.
const ENVIRONMENT: &str = "widget";

/// Three: a median of three leaves out the one that the machine disturbed.
const RUNS: usize = 3;

/// The second lockfile has one dependency in its version before: the file, what stands there, and what replaces it.
const OTHER_VERSION: [(&str, &str, &str); 3] = [
    ("package.json", "12.0.2", "12.0.1"),
    ("package-lock.json", "12.0.2", "12.0.1"),
    (
        "package-lock.json",
        "sha512-qXUm7e/YKFoqFPYPa3Ukg9xlI5cyAtGmyEIzMfW//m6kXwCy2Ps9DYf5ioijFKQ8qyuscrHoY04iJGctu2Kg0Q==",
        "sha512-Y1/V2yafOcOdWQCX0XpAKXzDakPOpn6U0YLxTJs3cww6VxOzZV1BTOOYWLvH3gX38cq+iLwljHHTnMtlDfg01Q==",
    ),
];

/// Bakes the widget and the widget with the second lockfile, and measures both and the fetch of the first.
pub(super) async fn measure(
    stack: &Stack,
    queue: &Queue,
    directory: &Path,
    figures: &mut Figures,
) -> Result<()> {
    let snapshots = Snapshots::open(queue).await?;
    let first = Project::committed("widget")?;
    let key = bake(stack, queue, &first).await?;
    let second = bake(stack, queue, &with_other_version()?).await?;
    let ratio = added(&snapshots, &key, &second).await?;
    figures.ratio("store.dedup_ratio", ratio);
    let scratch = tempfile::tempdir_in(directory).context("make a directory")?;
    let (fetches, peak) = fetches(stack, &key, scratch.path())?;
    let unpacks = unpacks(scratch.path())?;
    figures.median("store.fetch", &fetches);
    figures.median("store.zstd", &unpacks);
    figures.quotient("store.fetch_vs_zstd", &fetches, &unpacks);
    figures.count("store.peak_memory_mib", peak.div_ceil(1024));
    Ok(())
}

/// Bakes a project, or finds it baked, and gives the key of its snapshot.
async fn bake(stack: &Stack, queue: &Queue, project: &Project) -> Result<String> {
    let mut news = BakeNews::of(queue, ENVIRONMENT).await?;
    stack.services.bake(ENVIRONMENT, project).await?;
    let heard = news.so_far(queue).await?;
    let key = heard.iter().rev().find_map(|event| event.key);
    Ok(key.context("a bake tells its key")?.to_string())
}

/// The bytes of `second` that are neither in `first` nor in its template, over the whole stored size of `second`. Other snapshots
/// do not count: those of an earlier run have most of it.
async fn added(snapshots: &Snapshots, first: &str, second: &str) -> Result<f64> {
    let manifest = snapshots.manifest(second).await?;
    let template = manifest["parts"]["template_key"].as_str();
    let template = template.context("an environment has a template")?;
    let mut there: BTreeSet<String> = snapshots.chunks(first).await?;
    there.extend(snapshots.chunks(template).await?);
    let sizes = snapshots.chunk_sizes(second).await?;
    let added = sizes.iter().filter(|(name, _)| !there.contains(*name));
    let added: u64 = added.map(|(_, size)| size).sum();
    Ok(as_f64(added) / as_f64(sizes.values().sum()))
}

/// The widget with the second lockfile, and with a field that no other run had: it is baked each time.
fn with_other_version() -> Result<Project> {
    let project = Project::committed("widget")?;
    for (file, from, to) in OTHER_VERSION {
        change(&project, file, from, to)?;
    }
    let salt = format!("\"private\": true, \"salt\": \"{}\"", Uuid::new_v4());
    change(&project, "package.json", "\"private\": true", &salt)?;
    Ok(project)
}

/// Replaces what must stand in a file.
fn change(project: &Project, file: &str, from: &str, to: &str) -> Result<()> {
    let path = project.path().join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
    let changed = text.replace(from, to);
    ensure!(changed != text, "{from} does not stand in {file}");
    project.change(file, &changed)
}

/// Fetches into an empty cache, each time in a process of its own. Gives the times and the highest peak of memory in KiB; the last
/// fetch is left in `<scratch>/fetched`.
fn fetches(stack: &Stack, key: &str, scratch: &Path) -> Result<(Vec<Duration>, u64)> {
    let ourselves = std::env::current_exe().context("find the path of this program")?;
    let (mut times, mut peak) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let cache = scratch.join("cache");
        if cache.exists() {
            fs::remove_dir_all(&cache).context("empty the cache")?;
        }
        let output = Command::new(&ourselves)
            .args(["fetch", key])
            .arg(&cache)
            .envs(stack.environment())
            .output()
            .context("start a process that fetches")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {errors}", output.status);
        let fetched: Fetched = serde_json::from_slice(&output.stdout).context("read what came")?;
        times.push(fetched.took);
        peak = peak.max(fetched.peak_kib);
        link(&fetched.dir, &scratch.join("fetched"))?;
    }
    Ok((times, peak))
}

/// Unpacks the same bytes from one file that was packed beforehand, as often.
fn unpacks(scratch: &Path) -> Result<Vec<Duration>> {
    let (plain, packed) = (scratch.join("plain"), scratch.join("plain.zst"));
    concatenate(&scratch.join("fetched"), &plain)?;
    zstd(&["-q", "-f", "-3"], &plain, &packed)?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        fs::remove_file(&plain).context("remove what was unpacked")?;
        let start = Instant::now();
        zstd(&["-q", "-f", "-d"], &packed, &plain)?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn zstd(options: &[&str], from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("zstd");
    let status = command.args(options).arg(from).arg("-o").arg(to).status();
    let status = status.context("run zstd; deploy/install-packages sees to what is missing")?;
    ensure!(status.success(), "zstd: {status}");
    Ok(())
}

/// All files of a directory in one.
fn concatenate(directory: &Path, into: &Path) -> Result<()> {
    let mut whole = File::create(into).context("make a file")?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).context("list a snapshot")? {
        paths.push(entry.context("list a snapshot")?.path());
    }
    paths.sort();
    for path in paths {
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        io::copy(&mut file, &mut whole).context("copy a snapshot")?;
    }
    Ok(())
}

fn link(directory: &Path, at: &Path) -> Result<()> {
    // The first time there is none.
    let _absent = fs::remove_file(at);
    std::os::unix::fs::symlink(directory, at).context("link a snapshot")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of snapshots are far below 2^52 bytes"
)]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
