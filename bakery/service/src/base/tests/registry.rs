//! A registry of OCI images: Debian's `docker-registry` on a port of loopback, its files in a directory that goes with it.

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::*;

/// The repository that images are pushed to.
const REPOSITORY: &str = "team/image";

/// A running registry.
pub(super) struct Registry {
    address: String,
    directory: TempDir,
    _process: Child,
}

impl Registry {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let address = port.to_string();
        let settings = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/images}}}}\nhttp: {{addr: \"{address}\"}}\n",
            directory.path().display()
        );
        let file = directory.path().join("registry.yml");
        fs::write(&file, settings).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let registry = Self {
            address,
            directory,
            _process: process,
        };
        registry.wait().await;
        registry
    }

    /// Until it answers; each try is one connection.
    async fn wait(&self) {
        let mut tries = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..500 {
            tries.tick().await;
            if TcpStream::connect(&self.address).await.is_ok() {
                return;
            }
        }
        panic!("docker-registry does not listen on {}", self.address);
    }

    /// What allows it in an operator's configuration.
    pub(super) fn setting(&self) -> String {
        format!("[oci.{:?}]\nplain_http = true\n", self.address)
    }

    /// A base that names an image here.
    pub(super) fn image(&self, digest: Sha256Digest) -> Base {
        let image = format!("{}/{REPOSITORY}", self.address);
        Base::Oci(Oci {
            image: image.parse().unwrap(),
            digest: digest.into(),
        })
    }

    /// Pushes an image of one layer, which is `tree`; returns its digest.
    pub(super) async fn push(&self, tree: &Path) -> Sha256Digest {
        let layout = self.directory.path().join("layout");
        let image = format!("{}:base", layout.display());
        let umoci = |arguments: &[&str]| Program::new("umoci").args(arguments).run(TO_WRITE);
        umoci(&["init", "--layout", layout.to_str().unwrap()])
            .await
            .unwrap();
        umoci(&["new", "--image", &image]).await.unwrap();
        umoci(&["insert", "--image", &image, tree.to_str().unwrap(), "/"])
            .await
            .unwrap();
        let digest = self.directory.path().join("digest");
        Program::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
            ])
            .args(["--digestfile".as_ref(), digest.as_os_str()])
            .arg(format!("oci:{image}"))
            .arg(format!("docker://{}/{REPOSITORY}:base", self.address))
            .env("HOME", self.directory.path())
            .run(TO_WRITE)
            .await
            .unwrap();
        let digest = fs::read_to_string(digest).unwrap();
        digest
            .trim()
            .strip_prefix("sha256:")
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Pushes an index with that image for our processor and one for another, which is not there.
    pub(super) async fn push_index(&self, manifest: Sha256Digest) -> Sha256Digest {
        self.push_index_for(manifest, "amd64").await
    }

    /// Pushes an index with that image for the processor `architecture`.
    pub(super) async fn push_index_for(
        &self,
        manifest: Sha256Digest,
        architecture: &str,
    ) -> Sha256Digest {
        let size = self.manifest_size(manifest).await;
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{manifest}"), "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        }]})
        .to_string();
        let request = format!(
            "PUT /v2/{REPOSITORY}/manifests/index HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{index}",
            self.address,
            index.len()
        );
        let answer = self.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        Sha256Digest::of(index)
    }

    async fn manifest_size(&self, manifest: Sha256Digest) -> u64 {
        let request = format!(
            "GET /v2/{REPOSITORY}/manifests/sha256:{manifest} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n",
            self.address
        );
        let answer = self.ask(&request).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.len() as u64
    }

    async fn ask(&self, request: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
