//! Root filesystems from all three bases: from a registry on loopback, from an S3 server in this process, and from Debian's mirrors.

mod registry;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use bus::testing::S3Server;
use schemas::Sha256Digest;
use schemas::source::ArchiveSource;
use schemas::template::{Debian, Oci};
use serde_json::json;
use tempfile::TempDir;

use self::registry::Registry;
use super::*;

/// What bases come from, and a place for them.
struct Fixture {
    config: Config,
    server: S3Server,
    directory: TempDir,
}

impl Fixture {
    /// With these lines in the operator's configuration.
    async fn start(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bakery.toml");
        let state = directory.path().join("state");
        fs::write(&file, format!("state = {state:?}\n{lines}")).unwrap();
        Self {
            config: Config::load(&file, |_| None).unwrap(),
            server: S3Server::start().await,
            directory,
        }
    }

    async fn make(&self, base: &Base) -> Result<Made, BakeError> {
        let into = TempDir::new_in(self.directory.path()).unwrap();
        let suppliers = Suppliers {
            config: &self.config,
            objects: &self.server.objects,
        };
        let made = make(base, suppliers, None, into.path()).await;
        assert!(
            !into.path().join("tree").exists(),
            "the tree is gone, or there never was one"
        );
        let root = made?;
        let mut archive = tar::Archive::new(fs::File::open(&root.tar).unwrap());
        let files = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert!(header.mtime().unwrap() <= SOURCE_DATE_EPOCH.unsigned_abs());
            let name = entry.path().unwrap().display().to_string();
            (name, header.uid().unwrap())
        });
        Ok(Made {
            files: files.collect(),
            digest: root.digest,
            packages: root.packages,
        })
    }

    /// Why a root cannot be made; what lies on the way is left to its directory.
    async fn fail(&self, base: &Base) -> BakeError {
        let into = TempDir::new_in(self.directory.path()).unwrap();
        let suppliers = Suppliers {
            config: &self.config,
            objects: &self.server.objects,
        };
        let made = make(base, suppliers, None, into.path()).await;
        made.unwrap_err()
    }

    /// A small root filesystem, with a file that is newer than any root may be.
    fn tree(&self) -> PathBuf {
        let tree = self.directory.path().join("small");
        for folder in ["etc", "dev", "var/lib/dpkg", "usr/bin"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(tree.join("dev/null"), "no device").unwrap();
        fs::write(tree.join("usr/bin/tool"), "a tool").unwrap();
        if !tree.join("bin").exists() {
            symlink("usr/bin", tree.join("bin")).unwrap();
        }
        let status = "Package: tool\nStatus: install ok installed\nVersion: 1\n";
        fs::write(tree.join("var/lib/dpkg/status"), status).unwrap();
        tree
    }

    /// That tree as an archive in the bucket for sources.
    async fn archive(&self, ending: &str, option: &[&str]) -> Base {
        let (tree, file) = (self.tree(), self.directory.path().join("packed"));
        Program::new("tar")
            .args(["--create", "--file"])
            .arg(&file)
            .args(option)
            .args(["--directory".as_ref(), tree.as_os_str()])
            .arg(".")
            .run(TO_WRITE)
            .await
            .unwrap();
        let mut body = fs::read(file).unwrap();
        if ending == "tar.zst" {
            body = zstd::encode_all(body.as_slice(), 0).unwrap();
        }
        self.stored(ending, body).await
    }

    /// A root archive of these bytes in the bucket for sources.
    async fn stored(&self, ending: &str, body: Vec<u8>) -> Base {
        let (objects, digest) = (&self.server.objects, Sha256Digest::of(&body));
        let (bucket, key) = (&objects.buckets().sources, format!("roots/a.{ending}"));
        objects.put(bucket, &key, body.into()).await.unwrap();
        archive(&format!("s3://{bucket}/{key}"), digest)
    }
}

/// What is known of a root.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    digest: Sha256Digest,
    packages: Vec<String>,
    /// Names and owners.
    files: Vec<(String, u64)>,
}

fn archive(uri: &str, digest: Sha256Digest) -> Base {
    let archive = json!({"uri": uri, "digest": {"sha256": digest}});
    Base::Archive(serde_json::from_value::<ArchiveSource>(archive).unwrap())
}

/// Whether a test cannot run, which it then says.
fn skipped(programs: &[&str]) -> bool {
    if !Uid::effective().is_root() {
        eprintln!("skipped: not root");
        return true;
    }
    let missing = programs.iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        eprintln!("skipped: no {program}");
    }
    missing.is_some()
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// What every guest has, beside what [`Fixture::tree`] has.
fn assert_is_finished(made: &Made) {
    let files: Vec<_> = made
        .files
        .iter()
        .map(|(name, uid)| (name.as_str(), *uid))
        .collect();
    for expected in [
        ("./build/src/", 1000),
        ("./etc/hostname", 0),
        ("./etc/resolv.conf", 0),
        ("./usr/bin/tool", 0),
        ("./dev/", 0),
    ] {
        assert!(files.contains(&expected), "{expected:?} in {files:?}");
    }
    assert!(!files.contains(&("./dev/null", 0)), "{files:?}");
    assert!(
        made.files
            .is_sorted_by_key(|(name, _)| name.trim_end_matches('/').to_owned() + "/"),
        "{files:?}"
    );
    assert_eq!(made.packages, ["tool=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_becomes_the_same_root_each_time_by_its_manifest_and_by_its_index() {
    if skipped(&["skopeo", "umoci", "docker-registry"]) {
        return;
    }
    let registry = Registry::start().await;
    let fixture = Fixture::start(&registry.setting()).await;
    let manifest = registry.push(&fixture.tree()).await;
    let index = registry.push_index(manifest).await;
    let mut roots = Vec::new();
    for digest in [manifest, index] {
        roots.push(fixture.make(&registry.image(digest)).await.unwrap());
        roots.push(fixture.make(&registry.image(digest)).await.unwrap());
    }
    assert_is_finished(&roots[0]);
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_registry_has_not_or_that_is_not_allowed_makes_no_root() {
    if skipped(&["skopeo", "umoci", "docker-registry"]) {
        return;
    }
    let registry = Registry::start().await;
    let fixture = Fixture::start(&registry.setting()).await;
    let absent = registry.image(Sha256Digest::of("absent"));
    let error = fixture.make(&absent).await.unwrap_err();
    assert!(error.to_string().contains("manifest unknown"), "{error}");
    assert_eq!(error.reason(), "root_refused");

    let fixture = Fixture::start("").await;
    let error = fixture.make(&absent).await.unwrap_err();
    assert_eq!(error.reason(), "root_refused");
    assert!(
        error.to_string().contains("is not in the configuration"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_one_for_our_processor_is_refused() {
    if skipped(&["skopeo", "umoci", "docker-registry"]) {
        return;
    }
    let registry = Registry::start().await;
    let fixture = Fixture::start(&registry.setting()).await;
    let manifest = registry.push(&fixture.tree()).await;
    let index = registry.push_index_for(manifest, "arm64").await;
    let error = fixture.make(&registry.image(index)).await.unwrap_err();
    let error = error.to_string();
    assert!(error.ends_with("has no image for linux/amd64"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_becomes_the_same_root_however_it_is_packed() {
    if skipped(&["tar", "gzip"]) {
        return;
    }
    let fixture = Fixture::start("").await;
    let mut roots = Vec::new();
    let packings: [(&str, &[&str]); 3] = [("tar", &[]), ("tar.gz", &["--gzip"]), ("tar.zst", &[])];
    for (ending, options) in packings {
        let base = fixture.archive(ending, options).await;
        roots.push(fixture.make(&base).await.unwrap());
    }
    assert_is_finished(&roots[0]);
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_another_digest_is_never_unpacked() {
    if skipped(&["tar"]) {
        return;
    }
    let fixture = Fixture::start("").await;
    let Base::Archive(stored) = fixture.archive("tar", &[]).await else {
        panic!("it is an archive");
    };
    let uri = stored.uri.to_string();
    let wanted = Sha256Digest::of("another");
    let refused = fixture.make(&archive(&uri, wanted)).await.unwrap_err();
    let expected = format!(
        "root filesystem: the archive {uri} has the digest {}, asked for was {wanted}",
        stored.digest.sha256
    );
    assert_eq!(refused.to_string(), expected);

    for (uri, problem) in [
        (
            "s3://elsewhere/a.tar",
            "does not lie in s3://build-sources/",
        ),
        ("s3://build-sources/none.tar", "there is no archive"),
        (
            "https://files.example.com/a.tar",
            "the host files.example.com:443 is not in the configuration",
        ),
    ] {
        let error = fixture.make(&archive(uri, wanted)).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(error.reason(), "root_refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bakes_of_the_same_packages_give_the_same_root() {
    if skipped(&["mmdebstrap"]) {
        return;
    }
    let fixture = Fixture::start("").await;
    let Some(suite) = a_suite(&fixture.config.debian_sources) else {
        eprintln!(
            "skipped: no suite in {}",
            fixture.config.debian_sources.display()
        );
        return;
    };
    let base = Base::Debian(Debian {
        suite: suite.parse().unwrap(),
        packages: Vec::new(),
    });
    let (one, other) = (
        fixture.make(&base).await.unwrap(),
        fixture.make(&base).await.unwrap(),
    );
    assert_eq!(one, other);
    assert!(
        one.packages
            .iter()
            .any(|package| package.starts_with("dpkg="))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_no_mirror_has_is_the_definitions_fault() {
    if skipped(&["mmdebstrap"]) {
        return;
    }
    let fixture = Fixture::start("").await;
    let sources = &fixture.config.debian_sources;
    let Some(suite) = a_suite(sources) else {
        eprintln!("skipped: no suite in {}", sources.display());
        return;
    };
    let base = Base::Debian(Debian {
        suite: suite.parse().unwrap(),
        packages: vec!["no-such-package".parse().unwrap()],
    });
    let error = fixture.fail(&base).await;
    assert!(error.to_string().contains("Unable to locate"), "{error}");
    assert_eq!(error.reason(), "root_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_none_is_the_definitions_fault() {
    if skipped(&["tar"]) {
        return;
    }
    let fixture = Fixture::start("").await;
    let error = fixture
        .fail(&fixture.stored("tar", vec![1; 2000]).await)
        .await;
    assert!(error.to_string().contains("not look like a tar"), "{error}");
    assert_eq!(error.reason(), "root_refused");
}

/// The first suite that the host's sources name.
fn a_suite(sources: &Path) -> Option<String> {
    let text = fs::read_to_string(sources).ok()?;
    let suites = text
        .lines()
        .find_map(|line| line.strip_prefix("Suites: "))?;
    suites.split_whitespace().next().map(str::to_owned)
}
