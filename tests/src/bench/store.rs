//! What the store costs: a second environment of one template, and an empty cache.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

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

/// The second lockfile has one dependency in its version before: what is replaced, in `package.json` and in the lockfile.
const OTHER_VERSION: [(&str, &str); 2] = [
    ("12.0.2", "12.0.1"),
    (
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
    let (key, _) = bake(stack, queue, &snapshots, &first).await?;
    let (_, ratio) = bake(stack, queue, &snapshots, &with_other_version()?).await?;
    // It is there already where the bench ran before, and nothing is uploaded that could be measured.
    if let Some(ratio) = ratio {
        figures.ratio("store.dedup_ratio", ratio);
    }
    let scratch = tempfile::tempdir_in(directory).context("make a directory")?;
    let (fetches, peak) = fetches(stack, &key, scratch.path())?;
    let unpacks = unpacks(scratch.path())?;
    figures.median("store.fetch", &fetches);
    figures.median("store.zstd", &unpacks);
    figures.quotient("store.fetch_vs_zstd", &fetches, &unpacks);
    figures.count("store.peak_memory_mib", peak.div_ceil(1024));
    Ok(())
}

/// The key of a project's snapshot; and where it was baked for this, the bytes that were uploaded over its whole stored size.
async fn bake(
    stack: &Stack,
    queue: &Queue,
    snapshots: &Snapshots,
    project: &Project,
) -> Result<(String, Option<f64>)> {
    let before = snapshots.all_chunks().await?;
    let mut news = BakeNews::of(queue, ENVIRONMENT).await?;
    stack.services.bake(ENVIRONMENT, project).await?;
    let heard = news.so_far(queue).await?;
    let key = heard.iter().rev().find_map(|event| event.key);
    let key = key.context("a bake tells its key")?.to_string();
    let sizes: BTreeMap<String, u64> = snapshots.chunk_sizes(&key).await?;
    let whole: u64 = sizes.values().sum();
    let uploaded = sizes.iter().filter(|(name, _)| !before.contains(*name));
    let uploaded: u64 = uploaded.map(|(_, size)| size).sum();
    let ratio = (uploaded > 0).then(|| as_f64(uploaded) / as_f64(whole));
    Ok((key, ratio))
}

fn with_other_version() -> Result<Project> {
    let project = Project::committed("widget")?;
    for file in ["package.json", "package-lock.json"] {
        let path = project.path().join(file);
        let mut text = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
        for (from, to) in OTHER_VERSION {
            text = text.replace(from, to);
        }
        project.change(file, &text)?;
    }
    Ok(project)
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
