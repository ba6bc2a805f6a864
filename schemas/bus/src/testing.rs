//! An S3 server in the test's own process, on a port of its own; its files go with it. And a collector of spans. Behind the feature
//! `testing`, for the tests of the crates that keep objects or write spans.

mod collector;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::objects::{Objects, ObjectsConfig};

pub use collector::{Collector, Span};

/// Who its clients must be.
const LOGIN: (&str, &str) = ("user", "secret");

/// A running server.
pub struct S3Server {
    /// A client of it.
    pub objects: Objects,
    /// How to reach it.
    pub config: ObjectsConfig,
    files: TempDir,
    gate: Gate,
}

/// What a test does at a request, before it is answered: given are the operation, as `GetObject`, and the object's key. `false`
/// refuses it.
type Interceptor = Arc<dyn Fn(String, String) -> BoxFuture<'static, bool> + Send + Sync>;

/// What every request with credentials passes.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Option<Interceptor>>>);

#[async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied));
        }
        let object = context.s3_path().as_object();
        let key = object.map_or_else(String::new, |(_, key)| key.to_owned());
        let operation = context.s3_op().name().to_owned();
        let interceptor = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match interceptor {
            Some(intercept) if !intercept(operation, key).await => Err(s3_error!(AccessDenied)),
            Some(_) | None => Ok(()),
        }
    }
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
        let gate = Gate::default();
        builder.set_access(gate.clone());
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
            files,
            gate,
        }
    }

    /// Calls `interceptor` at every request from now on, in the place of the one before, and waits for what it says.
    pub fn intercept<F>(&self, interceptor: impl Fn(String, String) -> F + Send + Sync + 'static)
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let mut current = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(move |operation, key| {
            interceptor(operation, key).boxed()
        }));
    }

    /// The file that holds an object's bytes: who changes it damages the object behind the server's back.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.files.path().join(bucket).join(key)
    }
}
