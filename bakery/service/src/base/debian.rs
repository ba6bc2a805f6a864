//! Debian packages: Debian's minimum (`minbase`), the packages that the template names and what they depend on.
//!
//! What always holds: the suite is one that the host's apt sources have, so that nothing is tried that cannot succeed.

use std::path::Path;

use schemas::template::Debian;

use crate::error::BakeError;
use crate::files;
use crate::program::{Program, TO_DOWNLOAD};
use crate::root::{SOURCE_DATE_EPOCH, refused};

/// What apt says of packages that the suite does not have, or not together.
const NO_SUCH_PACKAGES: &[&str] = &[
    "Unable to locate package",
    "has no installation candidate",
    "Unable to correct problems",
];

/// What dpkg is told for this installation only.
const DPKG_OPTIONS: &str = "etc/dpkg/dpkg.cfg.d/99mmdebstrap";

/// Installs the packages into the directory `tree`, which it makes; `into` is for what lies on the way.
pub(super) async fn unpack(
    debian: &Debian,
    sources: &Path,
    into: &Path,
    tree: &Path,
) -> Result<(), BakeError> {
    check_suite(debian, sources)?;
    Program::contained("mmdebstrap")
        .args(["--mode=root", "--variant=minbase", "--format=directory"])
        // A root that is cut short is thrown away: waiting for the disk after every package would take four times as long.
        .arg("--dpkgopt=force-unsafe-io")
        .args(included(debian))
        .args([debian.suite.as_str().as_ref(), tree.as_os_str()])
        .arg(sources)
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_string())
        .env("TMPDIR", into)
        .run(TO_DOWNLOAD)
        .await
        .map_err(refused(NO_SUCH_PACKAGES))?;
    let options = tree.join(DPKG_OPTIONS);
    std::fs::remove_file(&options).map_err(BakeError::disk("remove", &options))
}

fn included(debian: &Debian) -> Option<String> {
    let names: Vec<_> = debian.packages.iter().map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| format!("--include={}", names.join(",")))
}

/// What mmdebstrap would say late or obscurely.
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
