//! The packages of a root filesystem, as dpkg's own files have them. They are read here, since a program of an image is never run on the
//! host.
//!
//! `/var/lib/dpkg/status` is Debian's; images without dpkg that were made of Debian packages have a file each in `status.d`. Both are
//! paragraphs of `Name: value` with an empty line between them.

use std::path::Path;

use crate::error::BakeError;
use crate::files;

/// Debian's name for the only processor that guests have.
const NATIVE: &str = "amd64";

/// What is installed in `tree`, as `dpkg-query` says it: `name=version`, sorted. Empty where dpkg does not manage it.
pub(super) fn installed(tree: &Path) -> Result<Vec<String>, BakeError> {
    let mut texts = Vec::new();
    let database = tree.join("var/lib/dpkg");
    let status = database.join("status");
    if is_plain(tree, "var/lib/dpkg/status") {
        texts.push(files::read_text(&status)?);
    }
    if is_plain(tree, "var/lib/dpkg/status.d") {
        for path in files::list(&database.join("status.d"))? {
            if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
                texts.push(files::read_text(&path)?);
            }
        }
    }
    let paragraphs = texts.iter().flat_map(|text| text.split("\n\n"));
    let mut packages: Vec<_> = paragraphs.filter_map(package).collect();
    packages.sort_unstable();
    Ok(packages)
}

/// Whether the path is there, and neither is nor lies behind a link, which could lead to the host's own.
fn is_plain(tree: &Path, inside: &str) -> bool {
    let mut path = tree.to_owned();
    inside.split('/').all(|part| {
        path.push(part);
        let found = path.symlink_metadata();
        found.is_ok_and(|found| found.is_dir() || found.is_file())
    })
}

fn package(paragraph: &str) -> Option<String> {
    let field = |name: &str| {
        paragraph.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found == name).then_some(value.trim())
        })
    };
    // A file in `status.d` has no status: its package is installed.
    let status = field("Status").unwrap_or("installed");
    if status.rsplit(' ').next() != Some("installed") {
        return None;
    }
    let (name, version) = (field("Package")?, field("Version")?);
    let architecture = field("Architecture").unwrap_or("all");
    let foreign = ![NATIVE, "all"].contains(&architecture);
    if foreign || field("Multi-Arch") == Some("same") {
        return Some(format!("{name}:{architecture}={version}"));
    }
    Some(format!("{name}={version}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const STATUS: &str = "\
Package: make
Status: install ok installed
Architecture: amd64
Version: 4.3-1

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9
Description: a library
 Version: 3 is not its version
";

    #[test]
    fn packages_are_named_as_dpkg_query_does() {
        let tree = tempfile::tempdir().unwrap();
        let database = tree.path().join("var/lib/dpkg");
        fs::create_dir_all(database.join("status.d")).unwrap();
        assert!(installed(tree.path()).unwrap().is_empty());
        fs::write(database.join("status"), STATUS).unwrap();
        fs::write(
            database.join("status.d/base"),
            "Package: base\nVersion: 12\n",
        )
        .unwrap();
        let packages = installed(tree.path()).unwrap();
        assert_eq!(packages, ["base=12", "libc6:amd64=2.36-9", "make=4.3-1"]);
    }

    #[test]
    fn a_link_to_the_hosts_own_packages_says_nothing() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("var/lib")).unwrap();
        std::os::unix::fs::symlink("/var/lib/dpkg", tree.path().join("var/lib/dpkg")).unwrap();
        assert!(installed(tree.path()).unwrap().is_empty());
    }

    #[test]
    fn an_image_without_dpkg_has_no_packages() {
        let tree = tempfile::tempdir().unwrap();
        assert!(installed(tree.path()).unwrap().is_empty());
    }
}
