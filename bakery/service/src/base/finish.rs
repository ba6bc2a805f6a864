//! What every guest has, whatever its root filesystem came from: the user that builds and its directories, a host name, no name server,
//! and the host's certificate authorities where the template says so.
//!
//! What always holds: nothing outside the tree is written. A link in place of a directory is refused, one in place of a file is
//! replaced, and nobody else writes to the tree meanwhile.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};
use schemas::guest::{
    BUILD_GID, BUILD_HOME, BUILD_ROOT, BUILD_UID, BUILD_USER, CA_BUNDLE, HOSTNAME,
};

use crate::error::BakeError;

/// A root filesystem in a directory. Paths in it are written as the guest sees them.
struct Tree<'a>(&'a Path);

/// Writes what every guest has into `tree`; `ca` is the bundle that it takes over.
pub(super) fn finish(tree: &Path, ca: Option<&Path>) -> Result<(), BakeError> {
    let tree = Tree(tree);
    tree.add_user()?;
    let names = format!("127.0.0.1\tlocalhost {HOSTNAME}\n::1\tlocalhost\n");
    tree.write("/etc/hosts", &names, 0o644)?;
    tree.write("/etc/hostname", &format!("{HOSTNAME}\n"), 0o644)?;
    tree.write("/etc/resolv.conf", "", 0o644)?;
    if let Some(ca) = ca {
        let bundle = crate::files::read_text(ca)?;
        tree.write(CA_BUNDLE, &bundle, 0o644)?;
    }
    Ok(())
}

impl Tree<'_> {
    /// The user that builds, instead of whoever has its name or number, and its directories.
    fn add_user(&self) -> Result<(), BakeError> {
        let (user, uid, gid) = (BUILD_USER, BUILD_UID, BUILD_GID);
        let account = format!("{user}:x:{uid}:{gid}::{BUILD_HOME}:/bin/sh");
        self.replace_entry("/etc/passwd", &account, Some(uid), 0o644)?;
        self.replace_entry("/etc/group", &format!("{user}:x:{gid}:"), Some(gid), 0o644)?;
        self.replace_entry("/etc/shadow", &format!("{user}:!:0::::::"), None, 0o640)?;
        self.directory(BUILD_ROOT)?;
        for directory in [BUILD_HOME, BUILD_ROOT] {
            let path = self.path(directory);
            let owners = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chown(&path, owners.0, owners.1)
                .map_err(|error| BakeError::disk("give away", &path)(error.into()))?;
        }
        Ok(())
    }

    /// Adds a line to a file of accounts, and takes away the one of the same name or number.
    fn replace_entry(
        &self,
        file: &str,
        entry: &str,
        number: Option<u32>,
        mode: u32,
    ) -> Result<(), BakeError> {
        let before = self.read(file)?;
        let mut lines: Vec<_> = before
            .lines()
            .filter(|line| !is_entry_of(line, BUILD_USER, number))
            .collect();
        lines.push(entry);
        self.write(file, &format!("{}\n", lines.join("\n")), mode)
    }

    /// The text of a file, empty where there is none.
    fn read(&self, file: &str) -> Result<String, BakeError> {
        let path = self.parent(file)?;
        match metadata(&path)? {
            Some(found) if found.is_file() => crate::files::read_text(&path),
            Some(found) if found.is_dir() => Err(not_as_expected(file, "is a directory")),
            Some(_) | None => Ok(String::new()),
        }
    }

    /// Writes a file. One that is there keeps its mode and owner; a link is replaced, wherever it leads.
    fn write(&self, file: &str, text: &str, mode: u32) -> Result<(), BakeError> {
        let path = self.parent(file)?;
        let found = metadata(&path)?;
        if let Some(found) = &found {
            if found.is_dir() {
                return Err(not_as_expected(file, "is a directory"));
            }
            if !found.is_file() {
                fs::remove_file(&path).map_err(BakeError::disk("remove", &path))?;
            }
        }
        fs::write(&path, text).map_err(BakeError::disk("write", &path))?;
        if found.is_some_and(|found| found.is_file()) {
            return Ok(());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(BakeError::disk("set the mode of", &path))
    }

    /// The path of a file on the host, whose directory is there.
    fn parent(&self, file: &str) -> Result<PathBuf, BakeError> {
        let (directory, _) = file
            .rsplit_once('/')
            .expect("paths in a root filesystem are absolute");
        self.directory(directory)?;
        Ok(self.path(file))
    }

    /// Makes a directory and those above it. All of them are directories of this tree, and no links.
    fn directory(&self, directory: &str) -> Result<(), BakeError> {
        let mut path = self.0.to_owned();
        for part in directory.split('/').filter(|part| !part.is_empty()) {
            path.push(part);
            match metadata(&path)? {
                Some(found) if found.is_dir() => {}
                Some(_) => return Err(not_as_expected(directory, "is, or lies behind, a link")),
                None => make_directory(&path)?,
            }
        }
        Ok(())
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.join(inside.trim_start_matches('/'))
    }
}

/// Whether a line of `passwd`, `group` or `shadow` is of that name, or of that number.
fn is_entry_of(line: &str, name: &str, number: Option<u32>) -> bool {
    let mut fields = line.split(':');
    let named = fields.next() == Some(name);
    let numbered = number.is_some_and(|number| fields.nth(1) == Some(&number.to_string()));
    named || numbered
}

/// With a mode of its own, whatever the mask of this process is.
fn make_directory(path: &Path) -> Result<(), BakeError> {
    fs::create_dir(path).map_err(BakeError::disk("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(BakeError::disk("set the mode of", path))
}

/// What lies at the path itself, if anything does.
fn metadata(path: &Path) -> Result<Option<Metadata>, BakeError> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BakeError::disk("read", path)(error)),
    }
}

fn not_as_expected(path: &str, problem: &str) -> BakeError {
    BakeError::root(format!("{path} in it {problem}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("etc")).unwrap();
        tree
    }

    fn skipped() -> bool {
        let skipped = !Uid::effective().is_root();
        if skipped {
            eprintln!("skipped: not root");
        }
        skipped
    }

    #[test]
    fn the_user_that_builds_takes_the_place_of_whoever_has_its_name_or_number() {
        if skipped() {
            return;
        }
        let tree = tree();
        let passwd = tree.path().join("etc/passwd");
        let before = "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nbuild:x:7:7::/:/bin/sh\n";
        fs::write(&passwd, before).unwrap();
        finish(tree.path(), None).unwrap();
        let after = "root:x:0:0::/root:/bin/sh\nbuild:x:1000:1000::/build:/bin/sh\n";
        assert_eq!(fs::read_to_string(passwd).unwrap(), after);
        let group = fs::read_to_string(tree.path().join("etc/group")).unwrap();
        assert_eq!(group, "build:x:1000:\n");
        assert!(tree.path().join("build/src").is_dir());
    }

    #[test]
    fn a_link_that_leads_out_of_the_tree_is_never_written_through() {
        if skipped() {
            return;
        }
        let (tree, outside) = (tree(), tempfile::tempdir().unwrap());
        let precious = outside.path().join("hosts");
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, tree.path().join("etc/hosts")).unwrap();
        finish(tree.path(), None).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");

        symlink(outside.path(), tree.path().join("etc/ssl")).unwrap();
        let ca = outside.path().join("ca");
        fs::write(&ca, "authorities").unwrap();
        let refused = finish(tree.path(), Some(&ca)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "root filesystem: /etc/ssl/certs in it is, or lies behind, a link"
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_certificate_authorities_of_the_host_replace_a_link_to_others() {
        if skipped() {
            return;
        }
        let tree = tree();
        let bundle = tree.path().join("etc/ssl/certs/ca-certificates.crt");
        fs::create_dir_all(bundle.parent().unwrap()).unwrap();
        symlink("/nowhere", &bundle).unwrap();
        let ca = tree.path().join("ca");
        fs::write(&ca, "authorities").unwrap();
        finish(tree.path(), Some(&ca)).unwrap();
        assert_eq!(fs::read_to_string(bundle).unwrap(), "authorities");
    }
}
