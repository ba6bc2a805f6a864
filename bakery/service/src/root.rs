//! A template's root filesystem: Debian packages as a tar, and that tar as a disk.
//!
//! ```text
//! apt sources ─ mmdebstrap, root.sh ─▶ root.tar (sorted, times clamped: its digest is in the key)
//!                                        └─ tar, mke2fs -d ─▶ disk (ext4, sparse, no journal)
//! ```
//!
//! What is in it: Debian's minimum (`minbase`), the packages that the template names and what they depend on, and what `root.sh`
//! writes: the user that builds, its directories, `/etc/hosts`, `/etc/hostname`, an empty `/etc/resolv.conf`, and the host's
//! certificate authorities where the template says so. Nothing else.

use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use schemas::Sha256Digest;
use schemas::guest::{
    BUILD_GID, BUILD_HOME, BUILD_ROOT, BUILD_UID, BUILD_USER, CA_BUNDLE, HOSTNAME,
};
use schemas::template::Debian;

use crate::error::BakeError;
use crate::files;
use crate::program::Program;

/// 2020-01-01: no file of a root is newer, so that two bakes of the same packages give the same bytes. Setup steps see it as
/// their `SOURCE_DATE_EPOCH`. Any fixed time would do; archives in zip format know none before 1980.
pub(crate) const SOURCE_DATE_EPOCH: i64 = 1_577_836_800;

/// What is written into a new root.
const SCRIPT: &str = include_str!("root.sh");

/// Fixed, as is all in the image that mke2fs would otherwise draw at random.
const FILE_SYSTEM_ID: &str = "00000000-0000-4000-8000-000000000000";

/// A root filesystem, as an archive.
#[derive(Debug)]
pub(crate) struct Root {
    /// The archive.
    pub(crate) tar: PathBuf,
    /// Its digest.
    pub(crate) digest: Sha256Digest,
    /// Its packages, `name=version`, sorted.
    pub(crate) packages: Vec<String>,
}

/// Makes the archive, in the directory `into`. `ca` is the bundle that it takes over, if it does.
pub(crate) async fn make(
    debian: &Debian,
    sources: &Path,
    ca: Option<&Path>,
    into: &Path,
) -> Result<Root, BakeError> {
    check(debian, sources)?;
    let (tar, packages) = (into.join("root.tar"), into.join("packages"));
    let program = Program::contained("mmdebstrap")
        .args(["--mode=root", "--variant=minbase", "--format=tar"])
        // A root that is cut short is thrown away: waiting for the disk after every package would take four times as long.
        .arg("--dpkgopt=force-unsafe-io")
        .args(included(debian))
        .arg(format!("--customize-hook={SCRIPT}"))
        .args([debian.suite.as_str().as_ref(), tar.as_os_str()])
        .arg(sources)
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string())
        .env("TMPDIR", into)
        .env("SOURDOUGH_CA", ca.unwrap_or(Path::new("")))
        .env("SOURDOUGH_PACKAGES", &packages);
    script_variables(program).run().await?;
    let mut packages: Vec<_> = files::read_text(&packages)?
        .lines()
        .map(str::to_owned)
        .collect();
    packages.sort_unstable();
    let digest = files::digest(&tar).await?;
    Ok(Root {
        tar,
        digest,
        packages,
    })
}

/// Makes the disk, `disk_mib` large, from the archive; `into` is for what lies on the way.
pub(crate) async fn disk(tar: &Path, disk_mib: u32, into: &Path) -> Result<PathBuf, BakeError> {
    let (tree, disk) = (into.join("tree"), into.join("disk"));
    files::make_directory(&tree)?;
    // Devices are the guest kernel's own affair.
    Program::new("tar")
        .args(["--extract", "--numeric-owner", "--same-permissions"])
        .args(["--xattrs", "--xattrs-include=*", "--exclude=./dev/*"])
        .args(["--file".as_ref(), tar.as_os_str()])
        .args(["--directory".as_ref(), tree.as_os_str()])
        .run()
        .await?;
    // A fork is thrown away, never recovered: a journal would only be written twice. The file is new, so it is all zeros.
    Program::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0"])
        .args(["-U", FILE_SYSTEM_ID, "-E"])
        .arg(format!(
            "assume_storage_prezeroed=1,root_owner=0:0,hash_seed={FILE_SYSTEM_ID}"
        ))
        .args(["-d".as_ref(), tree.as_os_str()])
        .arg(&disk)
        .arg(format!("{disk_mib}M"))
        .run()
        .await?;
    files::remove_tree(&tree).await?;
    Ok(disk)
}

fn included(debian: &Debian) -> Option<String> {
    let names: Vec<_> = debian.packages.iter().map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| format!("--include={}", names.join(",")))
}

fn script_variables(program: Program) -> Program {
    program
        .env("SOURDOUGH_USER", BUILD_USER)
        .env("SOURDOUGH_UID", BUILD_UID.to_string())
        .env("SOURDOUGH_GID", BUILD_GID.to_string())
        .env("SOURDOUGH_HOME", BUILD_HOME)
        .env("SOURDOUGH_ROOT", BUILD_ROOT)
        .env("SOURDOUGH_HOSTNAME", HOSTNAME)
        .env("SOURDOUGH_CA_BUNDLE", CA_BUNDLE)
}

/// What mmdebstrap would say late or obscurely.
fn check(debian: &Debian, sources: &Path) -> Result<(), BakeError> {
    if !Uid::effective().is_root() {
        let problem = "its files belong to many users, which only root can give them: run this bakery as root";
        return Err(BakeError::root(problem));
    }
    check_suite(debian, sources)
}

fn check_suite(debian: &Debian, sources: &Path) -> Result<(), BakeError> {
    let text = files::read_text(sources)?;
    if names_suite(&text, debian.suite.as_str()) {
        return Ok(());
    }
    let (suite, sources) = (&debian.suite, sources.display());
    Err(BakeError::root(format!(
        "the suite {suite} is not in {sources}: add it there, name sources that have it as `debian.sources` in the \
         configuration of this bakery, or name another suite in the template"
    )))
}

/// Whether some line of apt sources, in either of their formats, names the suite.
fn names_suite(sources: &str, suite: &str) -> bool {
    sources
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .any(|word| word == suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_found_in_both_formats_of_apt_sources() {
        let new = "Types: deb\nURIs: http://mirror.example.com/debian\nSuites: a a-updates\n";
        let old = "# deb http://mirror.example.com/debian b main\ndeb http://mirror.example.com/debian a main\n";
        for text in [new, old] {
            assert!(names_suite(text, "a"), "{text}");
            assert!(!names_suite(text, "b"), "{text}");
        }
    }

    #[test]
    fn a_suite_that_the_mirrors_do_not_have_is_refused_with_a_remedy_and_not_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let sources = directory.path().join("debian.sources");
        std::fs::write(&sources, "Suites: a\n").unwrap();
        let debian = Debian {
            suite: "b".parse().unwrap(),
            packages: Vec::new(),
        };
        let error = check_suite(&debian, &sources).unwrap_err();
        let sentence = error.to_string();
        assert!(
            sentence.starts_with("root filesystem: the suite b is not in"),
            "{sentence}"
        );
        assert!(sentence.contains("add it there"), "{sentence}");
        assert_eq!(
            (error.fault(), error.reason()),
            (store::Fault::Job, "root_refused")
        );
    }

    #[test]
    fn only_the_packages_of_the_definition_are_asked_for() {
        let debian = |packages: &[&str]| Debian {
            suite: "a".parse().unwrap(),
            packages: packages.iter().map(|name| name.parse().unwrap()).collect(),
        };
        assert_eq!(included(&debian(&[])), None);
        assert_eq!(
            included(&debian(&["make", "git"])).as_deref(),
            Some("--include=make,git")
        );
    }
}
