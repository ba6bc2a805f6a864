//! An S3 server in this process, on a port of its own; its files go with it.

use bus::objects::{Objects, ObjectsConfig};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A running server with the buckets that the configuration names.
pub(crate) struct Server {
    /// A client of it.
    pub(crate) objects: Objects,
    _files: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(files.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("user", "secret"));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = auto::Builder::new(TokioExecutor::new());
                let connection = server.serve_connection(TokioIo::new(socket), service.clone());
                tokio::spawn(connection.into_owned());
            }
        });
        Self {
            objects: client(endpoint).await,
            _files: files,
        }
    }
}

async fn client(endpoint: String) -> Objects {
    let config = ObjectsConfig {
        endpoint: Some(endpoint),
        ..ObjectsConfig::default()
    };
    let objects = Objects::connect_as(&config, "user", "secret")
        .await
        .unwrap();
    for bucket in config.buckets.all() {
        objects.create_bucket(bucket).await.unwrap();
    }
    objects
}
