//! An S3 server in the test's own process, on a port of its own; its files go with it. Behind the feature `testing`, for the unit
//! tests of the crates that keep objects.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::objects::{Objects, ObjectsConfig};

/// Who its clients must be.
const LOGIN: (&str, &str) = ("user", "secret");

/// A running server.
pub struct S3Server {
    /// A client of it.
    pub objects: Objects,
    /// How to reach it.
    pub config: ObjectsConfig,
    _files: TempDir,
}

impl S3Server {
    /// Starts one with the buckets that the default configuration names.
    ///
    /// # Panics
    /// Where it cannot: a test that cannot run fails.
    pub async fn start() -> Self {
        let server = Self::start_without_buckets().await;
        for bucket in server.config.buckets.all() {
            let made = server.objects.create_bucket(bucket).await;
            made.expect("the server is there");
        }
        server
    }

    /// Starts one without any bucket.
    ///
    /// # Panics
    /// Where it cannot: a test that cannot run fails.
    pub async fn start_without_buckets() -> Self {
        let files = tempfile::tempdir().expect("a directory for the objects");
        let storage = FileSystem::new(files.path()).expect("the directory was just made");
        let mut builder = S3ServiceBuilder::new(storage);
        builder.set_auth(SimpleAuth::from_single(LOGIN.0, LOGIN.1));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port on loopback");
        let address = listener.local_addr().expect("a listener has an address");
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = auto::Builder::new(TokioExecutor::new());
                let connection = server.serve_connection(TokioIo::new(socket), service.clone());
                tokio::spawn(connection.into_owned());
            }
        });
        let config = ObjectsConfig {
            endpoint: Some(format!("http://{address}")),
            ..ObjectsConfig::default()
        };
        let objects = Objects::connect_as(&config, LOGIN.0, LOGIN.1).await;
        Self {
            objects: objects.expect("an endpoint on loopback"),
            config,
            _files: files,
        }
    }
}
