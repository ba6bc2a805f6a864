//! The parts of a guest, for tests that boot one without a bakery: Debian's cloud kernel, a small root, our agent.
//!
//! ```text
//! kernel            vmlinuz
//! modules/          the kernel's module folder, `lib/modules/VERSION`
//! root.ext4         the root disk, sparse
//! sourdough-agent   the agent of this build
//! ```
//!
//! The kernel's package is downloaded and unpacked, never installed: that would change the machine's next boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Uid;
use schemas::template::{Base, PackageName, Resources};
use schemas::{Template, canonical};

use crate::programs::Programs;
use crate::state::{State, repository};
use crate::tools::run;

/// Names the directory to a test.
pub const GUEST_VARIABLE: &str = "SOURDOUGH_GUEST";

/// Depends on the newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";

/// The template that the end-to-end cases use: the root and the machine are as it says.
const TEMPLATE: &str = "tests/definitions/template-debian.json";

/// The directory with the parts in `state`, made on first use. Blocks until they are there.
pub fn parts(state: &State, programs: &Programs) -> Result<PathBuf> {
    let template = template()?;
    let pins = canonical::to_vec(&template).context("write a template")?;
    let directory = state.installed("guest", &pins, |directory| {
        kernel(directory)?;
        root(&template, directory)
    })?;
    replace(&programs.agent, &directory.join("sourdough-agent"))?;
    Ok(directory)
}

/// The size of the machine that the parts are for.
pub fn machine() -> Result<Resources> {
    Ok(template()?.resources)
}

fn template() -> Result<Template> {
    let path = repository().join(TEMPLATE);
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    Template::parse(&text).with_context(|| format!("read {}", path.display()))
}

/// Downloads the kernel with package lists of our own, so that it takes no root and touches nothing.
fn kernel(directory: &Path) -> Result<()> {
    let apt = directory.join("apt");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder)).context("make a folder for apt")?;
    }
    let apt = Apt { directory: apt };
    run(apt.command("apt-get").args(["--quiet", "update"]))?;
    let package = apt.newest_kernel()?;
    run(apt
        .command("apt-get")
        .args(["--quiet", "download", &package]))?;
    let files = apt.directory.join("files");
    let package = entry_with(&apt.directory, &format!("{package}_"))?;
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&files))?;
    let modules = entry_with(&files.join("lib/modules"), "")?;
    let kernel = entry_with(&files.join("boot"), "vmlinuz-")?;
    for (from, name) in [(kernel, "kernel"), (modules, "modules")] {
        fs::rename(&from, directory.join(name))
            .with_context(|| format!("move {}", from.display()))?;
    }
    fs::remove_dir_all(&apt.directory).context("remove apt's files")
}

/// apt with its state in a directory of ours and the machine's sources.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory);
        for (name, folder) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
            let path = self.directory.join(folder);
            command.arg("-o").arg(format!("{name}={}", path.display()));
        }
        command
    }

    fn newest_kernel(&self) -> Result<String> {
        let output = self.command("apt-cache").args(["depends", KERNEL]).output();
        let output = output.context("run apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let package = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "));
        package
            .map(str::to_owned)
            .with_context(|| format!("the machine's apt sources have no {KERNEL}"))
    }
}

/// Makes the root disk: a tar of the packages, its files in a directory, an image of that. Without root that needs the
/// subordinate ids of `uidmap`, so that the files have owners of their own.
fn root(template: &Template, directory: &Path) -> Result<()> {
    let Base::Debian(debian) = &template.base else {
        anyhow::bail!("the guest of the tests is made of Debian packages");
    };
    let suite = debian.suite.as_str();
    let packages: Vec<_> = debian.packages.iter().map(PackageName::as_str).collect();
    // Its mounts are its own: if it is killed, none of the machine's file systems stays mounted where somebody cleans up.
    // A root directory that is no mount point, as in a `chroot`, cannot be made private.
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let private = points.any(|point| point == "/");
    let propagation = if private { "private" } else { "unchanged" };
    let contained = [
        &["unshare", "--mount", "--propagation", propagation][..],
        &["--pid", "--fork", "--kill-child", "--mount-proc", "--"],
    ]
    .concat();
    let words = if Uid::effective().is_root() {
        [&contained[..], &["mmdebstrap"]].concat()
    } else {
        vec!["mmdebstrap"]
    };
    let mut mmdebstrap = Command::new(words[0]);
    mmdebstrap
        .args(&words[1..])
        .current_dir(directory)
        .env("TMPDIR", directory)
        .args([
            "--quiet",
            "--variant=minbase",
            "--include",
            &packages.join(","),
        ])
        .args([suite, "root.tar"])
        .args(sources(suite)?);
    run(&mut mmdebstrap)?;
    let disk_mib = template.resources.disk_mib;
    let script = format!(
        "mkdir root && tar --extract --numeric-owner --exclude='./dev/*' --file=root.tar --directory=root \
         && mke2fs -q -t ext4 -d root root.ext4 {disk_mib}M && rm -r root root.tar"
    );
    let shell = ["sh", "-e", "-c", &script];
    let words = if Uid::effective().is_root() {
        shell.to_vec()
    } else {
        [&["unshare", "--map-root-user", "--map-auto"][..], &shell].concat()
    };
    run(Command::new(words[0])
        .args(&words[1..])
        .current_dir(directory))
}

/// The machine's lists of sources that have the suite.
fn sources(suite: &str) -> Result<Vec<PathBuf>> {
    let apt = Path::new("/etc/apt");
    let listed = fs::read_dir(apt.join("sources.list.d"))
        .into_iter()
        .flatten();
    let mut files: Vec<_> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.push(apt.join("sources.list"));
    files.retain(|path| fs::read_to_string(path).is_ok_and(|text| has_suite(&text, suite)));
    files.sort();
    ensure!(
        !files.is_empty(),
        "no file in {} names {suite}",
        apt.display()
    );
    Ok(files)
}

fn has_suite(text: &str, suite: &str) -> bool {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .any(|word| word == suite)
}

/// The one entry of `directory` whose name begins with `prefix`.
fn entry_with(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let context = || format!("find {prefix}* in {}", directory.display());
    let entries = fs::read_dir(directory).with_context(context)?;
    let named = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(prefix)
        });
    named.with_context(context)
}

/// Puts a copy of `from` at `to`, at once: another test may be reading it.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("copy {}", from.display());
    let partial = to.with_extension(std::process::id().to_string());
    fs::copy(from, &partial).with_context(context)?;
    fs::rename(&partial, to).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sources_names_its_suite_as_a_word() {
        assert!(has_suite(
            "URIs: http://mirror.example.com/debian\nSuites: bookworm bookworm-updates\n",
            "bookworm"
        ));
        assert!(has_suite(
            "deb http://mirror.example.com/debian bookworm main\n",
            "bookworm"
        ));
        assert!(!has_suite(
            "deb http://mirror.example.com/apt cloud-sdk-bookworm main\n",
            "bookworm"
        ));
        assert!(!has_suite(
            "# deb http://mirror.example.com/debian bookworm main\n",
            "bookworm"
        ));
    }
}
