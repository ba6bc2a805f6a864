//! An OCI image, pinned by the digest of its manifest or of an index of several.
//!
//! ```text
//! registry ─ skopeo ─▶ index.json ─ its digest is the one asked for ─▶ the manifest for linux/amd64
//!          ─ skopeo ─▶ manifest, configuration, layers ─ each digest ─▶ OCI layout ─ umoci ─▶ tree
//! ```
//!
//! The two programs are Debian's. A client in Rust would bring a second HTTP client and its TLS into the graph of dependencies, which
//! `deny.toml` refuses; and layers are to be unpacked by what has met more of them than we have.
//!
//! What always holds: a registry is asked only if it is in the operator's configuration; what is unpacked hashes to the digest in the
//! template, by a chain that is computed here: skopeo's own word is not taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemas::Sha256Digest;
use schemas::digest::PrefixedDigest;
use schemas::template::Oci;
use serde::Deserialize;

use crate::config::OciRegistry;
use crate::error::BakeError;
use crate::files;
use crate::program::{Program, TO_DOWNLOAD, TO_WRITE};
use crate::root::refused;

/// What guests are.
const PLATFORM: (&str, &str) = ("linux", "amd64");

/// skopeo's name for the manifest in a directory of an image.
const MANIFEST: &str = "manifest.json";

/// Why umoci needs a name: a layout may hold several images.
const TAG: &str = "base";

/// What registries say of images that they do not have, or not for us.
const NO_SUCH_IMAGE: &[&str] = &["manifest unknown", "name unknown", "unauthorized", "denied"];

/// What umoci says of layers that are no layers, although their digests are right.
const BAD_LAYER: &[&str] = &[
    "unexpected EOF",
    "gzip: invalid",
    "flate: corrupt",
    "invalid tar header",
];

/// An image in a registry that the operator allows.
struct Image<'a> {
    name: &'a str,
    registry: &'a OciRegistry,
    into: &'a Path,
}

/// The parts of a manifest or an index that matter here. OCI's and Docker's are alike in them.
#[derive(Deserialize)]
struct Document {
    /// What an index is an index of.
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
    #[serde(default)]
    config: Option<Blob>,
    #[serde(default)]
    layers: Vec<Blob>,
}

/// One image of an index.
#[derive(Deserialize)]
struct Entry {
    digest: PrefixedDigest,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
struct Blob {
    digest: PrefixedDigest,
}

/// Fetches and unpacks the image into the directory `tree`, which it makes; `into` is for what lies on the way.
pub(super) async fn unpack(
    oci: &Oci,
    registries: &BTreeMap<String, OciRegistry>,
    into: &Path,
    tree: &Path,
) -> Result<(), BakeError> {
    let image = Image {
        name: oci.image.as_str(),
        registry: allowed(oci.image.as_str(), registries)?,
        into,
    };
    let directory = image.fetch(oci.digest.sha256).await?;
    let (layout, bundle) = (into.join("layout"), into.join("bundle"));
    skopeo(into)
        .args(["copy", "--quiet"])
        .arg(located("dir:", &directory, ""))
        .arg(located("oci:", &layout, &format!(":{TAG}")))
        .run(TO_WRITE)
        .await?;
    files::remove_tree(&directory).await?;
    Program::contained("umoci")
        .args(["unpack", "--image"])
        .arg(located("", &layout, &format!(":{TAG}")))
        .arg(&bundle)
        .run(TO_WRITE)
        .await
        .map_err(refused(BAD_LAYER))?;
    files::remove_tree(&layout).await?;
    std::fs::rename(bundle.join("rootfs"), tree).map_err(BakeError::disk("move", &bundle))
}

/// What the operator says of the registry that `image` lies in.
fn allowed<'a>(
    image: &str,
    registries: &'a BTreeMap<String, OciRegistry>,
) -> Result<&'a OciRegistry, BakeError> {
    let (host, _) = image
        .split_once('/')
        .expect("the name of an image was checked when it was read");
    registries.get(host).ok_or_else(|| {
        BakeError::root(format!(
            "the registry {host} is not in the configuration of this bakery: add [oci.{host:?}] there, or name an image of \
             another registry in the template"
        ))
    })
}

impl Image<'_> {
    /// Fetches the image with that digest, or the one of an index with that digest, into a directory; returns the directory.
    async fn fetch(&self, digest: Sha256Digest) -> Result<PathBuf, BakeError> {
        let directory = self.into.join("image");
        // Of an index alone, and of nothing else, its own bytes: what it names is decided here.
        self.copy(digest, "index-only", &directory).await?;
        let document = checked_document(&directory, digest).await?;
        let Some(entries) = &document.manifests else {
            check_blobs(&directory, &document).await?;
            return Ok(directory);
        };
        let chosen = choose(entries).ok_or_else(|| {
            let (os, architecture) = PLATFORM;
            BakeError::root(format!(
                "{} has no image for {os}/{architecture}",
                self.name
            ))
        })?;
        files::remove_tree(&directory).await?;
        self.copy(chosen, "system", &directory).await?;
        let document = checked_document(&directory, chosen).await?;
        check_blobs(&directory, &document).await?;
        Ok(directory)
    }

    /// `which` is what is taken of an index.
    async fn copy(&self, digest: Sha256Digest, which: &str, to: &Path) -> Result<(), BakeError> {
        let login = self.registry.auth_file.as_ref();
        let login = login.map(|file| located("--src-authfile=", file, ""));
        skopeo(self.into)
            .args([
                "copy",
                "--quiet",
                "--preserve-digests",
                "--multi-arch",
                which,
            ])
            .arg(format!("--src-tls-verify={}", !self.registry.plain_http))
            .args(login)
            .arg(format!("docker://{}@sha256:{digest}", self.name))
            .arg(located("dir:", to, ""))
            .run(TO_DOWNLOAD)
            .await
            .map(drop)
            .map_err(refused(NO_SUCH_IMAGE))
    }
}

/// skopeo without a policy of signatures: the digest in the template says which image is trusted.
fn skopeo(home: &Path) -> Program {
    let (os, architecture) = PLATFORM;
    Program::new("skopeo")
        .args(["--insecure-policy", "--override-os", os])
        .args(["--override-arch", architecture])
        .env("HOME", home)
        .env("TMPDIR", home)
}

/// A path with what its program wants before and after it.
fn located(before: &str, path: &Path, after: &str) -> String {
    format!("{before}{}{after}", path.display())
}

/// The manifest or index in a directory, whose bytes have that digest.
async fn checked_document(directory: &Path, digest: Sha256Digest) -> Result<Document, BakeError> {
    let path = directory.join(MANIFEST);
    check_digest(&path, "manifest", digest).await?;
    let text = files::read_text(&path)?;
    serde_json::from_str(&text)
        .map_err(|error| BakeError::root(format!("the manifest {digest} cannot be read: {error}")))
}

/// Checks that all that the manifest names is there and has its digest.
async fn check_blobs(directory: &Path, manifest: &Document) -> Result<(), BakeError> {
    let Some(config) = &manifest.config else {
        return Err(BakeError::root("the manifest names no configuration"));
    };
    for PrefixedDigest(digest) in [&config.digest]
        .into_iter()
        .chain(manifest.layers.iter().map(|layer| &layer.digest))
    {
        check_digest(&directory.join(digest.to_string()), "blob", *digest).await?;
    }
    Ok(())
}

async fn check_digest(path: &Path, what: &str, wanted: Sha256Digest) -> Result<(), BakeError> {
    let found = files::digest(path).await?;
    if found == wanted {
        return Ok(());
    }
    Err(BakeError::root(format!(
        "the registry's {what} has the digest {found}, asked for was {wanted}"
    )))
}

/// The first image of an index that guests can run.
fn choose(entries: &[Entry]) -> Option<Sha256Digest> {
    let fits = |entry: &&Entry| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| {
            (platform.os.as_str(), platform.architecture.as_str()) == PLATFORM
        })
    };
    let PrefixedDigest(digest) = entries.iter().find(fits)?.digest;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_the_operator_does_not_name_is_refused_with_a_remedy() {
        let host = "registry.example.com:5000";
        let registries = BTreeMap::from([(host.to_owned(), OciRegistry::default())]);
        assert!(allowed("registry.example.com:5000/team/image", &registries).is_ok());
        let refused = allowed("registry.example.com/team/image", &registries).unwrap_err();
        let sentence = refused.to_string();
        assert!(
            sentence.contains(r#"add [oci."registry.example.com"]"#),
            "{sentence}"
        );
        assert_eq!(refused.fault(), store::Fault::Job);
    }

    #[test]
    fn the_image_of_an_index_is_the_one_that_guests_can_run() {
        let entry = |os: &str, architecture: &str| {
            let digest = Sha256Digest::of(format!("{os}/{architecture}"));
            serde_json::json!({
                "digest": format!("sha256:{digest}"), "platform": {"os": os, "architecture": architecture}
            })
        };
        let index =
            |entries: serde_json::Value| -> Vec<Entry> { serde_json::from_value(entries).unwrap() };
        let entries = index(serde_json::json!([
            entry("linux", "arm64"),
            entry("linux", "amd64")
        ]));
        assert_eq!(choose(&entries), Some(Sha256Digest::of("linux/amd64")));
        let entries = index(serde_json::json!([entry("windows", "amd64")]));
        assert_eq!(choose(&entries), None);
    }

    #[tokio::test]
    async fn a_manifest_of_another_digest_is_never_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(MANIFEST), "no manifest").unwrap();
        let wanted = Sha256Digest::of("another");
        let read = checked_document(directory.path(), wanted).await;
        let refused = read.err().unwrap().to_string();
        let expected = format!(
            "root filesystem: the registry's manifest has the digest {}, asked for was {wanted}",
            Sha256Digest::of("no manifest")
        );
        assert_eq!(refused, expected);
    }
}
