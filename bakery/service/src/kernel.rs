//! The guest's kernel: Debian's package, downloaded and unpacked below the state directory. It is never installed: that would
//! change what the host boots next.
//!
//! ```text
//! <state>/kernels/<package>_<version>/boot/vmlinuz-…
//! <state>/kernels/<package>_<version>/usr/lib/modules/…   (or lib/modules)
//! ```
//!
//! What always holds: a directory of that name is complete; it appears by one rename.

use std::path::{Path, PathBuf};

use tracing::info;

use crate::config::Kernel;
use crate::error::BakeError;
use crate::files;
use crate::program::Program;

/// A kernel on this machine's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelFiles {
    /// The image.
    pub(crate) image: PathBuf,
    /// Its folder of modules.
    pub(crate) modules: PathBuf,
}

/// Finds the kernel, and downloads its package if this version of it is not below `state` yet.
pub(crate) async fn provide(kernel: &Kernel, state: &Path) -> Result<KernelFiles, BakeError> {
    let package = match kernel {
        Kernel::Files { image, modules } => {
            return Ok(KernelFiles {
                image: image.clone(),
                modules: modules.clone(),
            });
        }
        Kernel::Package(package) => real_package(package).await?,
    };
    let version = version(&package).await?;
    let kernels = state.join("kernels");
    // A version may hold `:`, which is no trouble on a disk but in a list of paths.
    let complete = kernels.join(format!("{package}_{}", version.replace(':', "_")));
    if !complete.is_dir() {
        files::make_directory(&kernels)?;
        download(&package, &version, &kernels, &complete).await?;
        info!(package, version, "unpacked a kernel");
    }
    find(&complete)
}

/// The package behind a metapackage as `linux-image-cloud-amd64`, which changes with every kernel.
async fn real_package(package: &str) -> Result<String, BakeError> {
    let text = Program::new("apt-cache")
        .args(["depends", "--important", package])
        .run()
        .await?;
    Ok(dependency(&text).unwrap_or(package).to_owned())
}

/// The first kernel image that `apt-cache depends` names.
fn dependency(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
}

/// The version that would be downloaded.
async fn version(package: &str) -> Result<String, BakeError> {
    let text = Program::new("apt-cache")
        .args(["show", "--no-all-versions", package])
        .run()
        .await?;
    text.lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .map(str::to_owned)
        .ok_or_else(|| BakeError::Kernel {
            problem: format!("apt-cache knows no version of {package}"),
        })
}

async fn download(
    package: &str,
    version: &str,
    kernels: &Path,
    complete: &Path,
) -> Result<(), BakeError> {
    let partial = files::scratch(kernels)?;
    Program::new("apt-get")
        .args(["download", "--quiet", &format!("{package}={version}")])
        .directory(partial.path())
        .run()
        .await?;
    let archive = files::list(partial.path())?.into_iter().next();
    let archive = archive.ok_or_else(|| BakeError::Kernel {
        problem: format!("apt-get downloaded nothing for {package}"),
    })?;
    let unpacked = partial.path().join("unpacked");
    Program::new("dpkg-deb")
        .arg("--extract")
        .args([&archive, &unpacked])
        .run()
        .await?;
    match std::fs::rename(&unpacked, complete) {
        // Another process may have been faster; what it made is the same.
        Err(_) if complete.is_dir() => Ok(()),
        renamed => renamed.map_err(BakeError::disk("install", complete)),
    }
}

fn find(unpacked: &Path) -> Result<KernelFiles, BakeError> {
    let missing = |what: &str| BakeError::Kernel {
        problem: format!("no {what} in {}", unpacked.display()),
    };
    let image = files::list(&unpacked.join("boot"))?
        .into_iter()
        .find(|path| files::name(path).starts_with("vmlinuz-"));
    let modules = ["usr/lib/modules", "lib/modules"]
        .into_iter()
        .filter_map(|folder| files::list(&unpacked.join(folder)).ok())
        .flatten()
        .next();
    Ok(KernelFiles {
        image: image.ok_or_else(|| missing("kernel image"))?,
        modules: modules.ok_or_else(|| missing("folder of kernel modules"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metapackage_leads_to_the_image_that_it_depends_on() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-1-cloud-amd64\n";
        assert_eq!(dependency(text), Some("linux-image-6.1.0-1-cloud-amd64"));
        let text = "linux-image-6.1.0-1-cloud-amd64\n  Depends: kmod\n";
        assert_eq!(dependency(text), None);
    }

    #[test]
    fn an_unpacked_package_without_an_image_is_refused_in_words() {
        let unpacked = tempfile::tempdir().unwrap();
        std::fs::create_dir(unpacked.path().join("boot")).unwrap();
        let error = find(unpacked.path()).unwrap_err().to_string();
        assert!(error.starts_with("kernel: no kernel image in"), "{error}");
    }
}
