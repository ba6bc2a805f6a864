//! The guest's kernel: Debian's package, downloaded and unpacked below the state directory. It is never installed: that would
//! change what the host boots next.
//!
//! ```text
//! <state>/kernels/<package>_<version>/boot/vmlinuz-…
//! <state>/kernels/<package>_<version>/usr/lib/modules/…   (or lib/modules)
//! ```
//!
//! The package is looked for in the host's own lists of packages, as they are. Where these do not know it, or what they name is no
//! longer on the mirror, lists of our own below `<state>/apt` are used, and brought up to date when they do not serve either.
//!
//! What always holds: a directory of that name is complete; it appears by one rename; the host's lists are never written.

use std::path::{Path, PathBuf};

use bus::telemetry::Causes;
use tracing::info;

use crate::config::Kernel;
use crate::error::BakeError;
use crate::files;
use crate::program::{Program, TO_ANSWER, TO_DOWNLOAD, TO_WRITE};

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
    match kernel {
        Kernel::Files { image, modules } => Ok(KernelFiles {
            image: image.clone(),
            modules: modules.clone(),
        }),
        Kernel::Package(package) => find(&unpacked(&Apt::hosts(), package, state).await?),
    }
}

/// Where `package` is unpacked: out of the lists of `hosts`, else of our own.
async fn unpacked(hosts: &Apt, package: &str, state: &Path) -> Result<PathBuf, BakeError> {
    let kernels = state.join("kernels");
    let refused = match hosts.unpack(package, &kernels).await {
        Ok(unpacked) => return Ok(unpacked),
        Err(error) => error,
    };
    info!(package, error = %Causes(&refused), "the host's package lists do not serve, using our own");
    let own = hosts.with_lists_in(&state.join("apt"))?;
    if let Ok(unpacked) = own.unpack(package, &kernels).await {
        return Ok(unpacked);
    }
    own.program("apt-get")
        .args(["--quiet", "update"])
        .run(TO_DOWNLOAD)
        .await?;
    own.unpack(package, &kernels).await
}

/// apt, with the options that say where its lists are.
#[derive(Debug, Clone)]
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// With the host's lists.
    fn hosts() -> Self {
        Self {
            options: Vec::new(),
        }
    }

    /// With lists and a cache below `directory`, and the same sources.
    fn with_lists_in(&self, directory: &Path) -> Result<Self, BakeError> {
        let mut options = self.options.clone();
        for (name, folder) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
            let path = directory.join(folder);
            files::make_directory(&path)?;
            options.push(format!("{name}={}", path.display()));
        }
        files::make_directory(&directory.join("lists/partial"))?;
        files::make_directory(&directory.join("cache/archives/partial"))?;
        Ok(Self { options })
    }

    fn program(&self, name: &str) -> Program {
        let options = self.options.iter().flat_map(|option| ["-o", option]);
        Program::new(name).args(options)
    }

    /// Unpacks the newest version of `package` into a directory of its own in `kernels`, unless it is there.
    async fn unpack(&self, package: &str, kernels: &Path) -> Result<PathBuf, BakeError> {
        let package = self.real_package(package).await?;
        let version = self.version(&package).await?;
        // A version may hold `:`, which is no trouble on a disk but in a list of paths.
        let complete = kernels.join(format!("{package}_{}", version.replace(':', "_")));
        if !complete.is_dir() {
            files::make_directory(kernels)?;
            self.download(&package, &version, kernels, &complete)
                .await?;
            info!(package, version, "unpacked a kernel");
        }
        Ok(complete)
    }

    /// The package behind a metapackage as `linux-image-cloud-amd64`, which changes with every kernel.
    async fn real_package(&self, package: &str) -> Result<String, BakeError> {
        let text = self
            .program("apt-cache")
            .args(["depends", "--important", package])
            .run(TO_ANSWER)
            .await?;
        Ok(dependency(&text).unwrap_or(package).to_owned())
    }

    /// The version that would be downloaded.
    async fn version(&self, package: &str) -> Result<String, BakeError> {
        let text = self
            .program("apt-cache")
            .args(["show", "--no-all-versions", package])
            .run(TO_ANSWER)
            .await?;
        text.lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .map(str::to_owned)
            .ok_or_else(|| BakeError::Kernel {
                problem: format!("apt-cache knows no version of {package}"),
            })
    }

    async fn download(
        &self,
        package: &str,
        version: &str,
        kernels: &Path,
        complete: &Path,
    ) -> Result<(), BakeError> {
        let partial = files::scratch(kernels)?;
        self.program("apt-get")
            .args(["download", "--quiet", &format!("{package}={version}")])
            .directory(partial.path())
            .run(TO_DOWNLOAD)
            .await?;
        let archive = files::list(partial.path())?.into_iter().next();
        let archive = archive.ok_or_else(|| BakeError::Kernel {
            problem: format!("apt-get downloaded nothing for {package}"),
        })?;
        let unpacked = partial.path().join("unpacked");
        Program::new("dpkg-deb")
            .arg("--extract")
            .args([&archive, &unpacked])
            .run(TO_WRITE)
            .await?;
        match std::fs::rename(&unpacked, complete) {
            // Another process may have been faster; what it made is the same.
            Err(_) if complete.is_dir() => Ok(()),
            renamed => renamed.map_err(BakeError::disk("install", complete)),
        }
    }
}

/// The first kernel image that `apt-cache depends` names.
fn dependency(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
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

    /// A mirror in a directory, with one package. The second value is apt with this source and lists that are empty, as in a container
    /// image.
    async fn mirror(directory: &Path) -> (PathBuf, Apt) {
        let (mirror, package) = (directory.join("mirror"), directory.join("package"));
        for folder in [
            "mirror",
            "package/DEBIAN",
            "package/boot",
            "package/lib/modules/1",
        ] {
            std::fs::create_dir_all(directory.join(folder)).unwrap();
        }
        let control = "Package: linux-image-test\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: a\n";
        std::fs::write(package.join("DEBIAN/control"), control).unwrap();
        std::fs::write(package.join("boot/vmlinuz-1"), "image").unwrap();
        let archive = mirror.join("a.deb");
        Program::new("dpkg-deb")
            .args([
                "--root-owner-group".as_ref(),
                "--build".as_ref(),
                package.as_os_str(),
            ])
            .arg(&archive)
            .run(TO_WRITE)
            .await
            .unwrap();
        let (size, digest) = (
            archive.metadata().unwrap().len(),
            files::digest(&archive).await.unwrap(),
        );
        let index = format!("{control}Filename: ./a.deb\nSize: {size}\nSHA256: {digest}\n");
        std::fs::write(mirror.join("Packages"), index).unwrap();
        let sources = directory.join("sources.list");
        let line = format!("deb [trusted=yes] file:{} ./\n", mirror.display());
        std::fs::write(&sources, line).unwrap();
        let apt = Apt {
            options: vec![
                format!("Dir::Etc::sourcelist={}", sources.display()),
                "Dir::Etc::sourceparts=/dev/null".to_owned(),
                "Dir::State::status=/dev/null".to_owned(),
            ],
        };
        let empty = apt.with_lists_in(&directory.join("empty")).unwrap();
        (directory.join("empty/lists"), empty)
    }

    #[tokio::test]
    async fn a_host_without_package_lists_is_helped_out_and_keeps_having_none() {
        let directory = tempfile::tempdir().unwrap();
        let (lists, hosts) = mirror(directory.path()).await;
        let state = directory.path().join("state");
        for _ in 0..2 {
            let unpacked = unpacked(&hosts, "linux-image-test", &state).await.unwrap();
            let files = find(&unpacked).unwrap();
            assert_eq!(std::fs::read(files.image).unwrap(), b"image");
        }
        let left: Vec<_> = files::list(&lists)
            .unwrap()
            .iter()
            .map(|path| files::name(path))
            .collect();
        assert_eq!(left, ["partial"]);
    }
}
