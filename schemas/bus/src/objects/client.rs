//! The client of one S3 server.

use std::time::SystemTime;

use aws_config::ConfigLoader;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{Builder, Credentials};
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;

use super::config::{Buckets, ObjectsConfig};
use super::connect::{loader, with_settings};
use super::download::Download;
use super::error::ObjectsError;
use super::listed::{Listed, Page};
use super::patience::{Patience, patiently};
use super::upload::Upload;
use crate::retry::{self, Failure, Policy};

/// An S3 server and the names of our buckets there. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Objects {
    client: Client,
    buckets: Buckets,
    patience: Patience,
}

impl Objects {
    /// Makes the client. Nothing is sent yet: [`Objects::wait_ready`] finds out whether the server is there. Credentials come from
    /// the environment, a profile or the machine's role.
    pub async fn connect(config: &ObjectsConfig) -> Result<Self, ObjectsError> {
        Self::with_loader(config, loader(config)).await
    }

    /// The same with these credentials: for a server that the caller started itself.
    pub async fn connect_as(
        config: &ObjectsConfig,
        access_key: &str,
        secret_key: &str,
    ) -> Result<Self, ObjectsError> {
        let credentials = Credentials::new(access_key, secret_key, None, None, "caller");
        Self::with_loader(config, loader(config).credentials_provider(credentials)).await
    }

    async fn with_loader(
        config: &ObjectsConfig,
        loader: ConfigLoader,
    ) -> Result<Self, ObjectsError> {
        if let Some(endpoint) = config
            .endpoint
            .as_deref()
            .filter(|endpoint| !is_http(endpoint))
        {
            return Err(ObjectsError::Endpoint {
                endpoint: endpoint.to_owned(),
            });
        }
        let shared = loader.load().await;
        let client = Client::from_conf(with_settings(Builder::from(&shared), config).build());
        Ok(Self {
            client,
            buckets: config.buckets.clone(),
            patience: None,
        })
    }

    /// The same, which sends what it reads and writes again while the server is away, as `policy` says: for a service that would lose
    /// work otherwise. Listing and deleting are not waited for.
    #[must_use]
    pub fn patient(self, policy: Policy) -> Self {
        Self {
            patience: Some(policy),
            ..self
        }
    }

    /// Waits until the server answers, whatever it answers; says in the log that it waits. Fails when it refuses us.
    pub async fn wait_ready(&self) -> Result<(), ObjectsError> {
        self.wait_ready_within(Policy::FOREVER).await
    }

    /// The same, for as long as `policy` says.
    pub async fn wait_ready_within(&self, policy: Policy) -> Result<(), ObjectsError> {
        retry::with(policy, "reach S3", || self.knock()).await
    }

    /// Makes a bucket; it may be there already.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), ObjectsError> {
        match self.client.create_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.code(),
                    Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(ObjectsError::of(
                format!("create the bucket {bucket}"),
                error,
            )),
        }
    }

    /// The names of our buckets.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Writes an object in one request. For what is in memory anyway; [`Objects::upload`] is for the rest.
    pub async fn put(&self, bucket: &str, key: &str, body: Bytes) -> Result<(), ObjectsError> {
        patiently(self.patience, || async {
            let body = ByteStream::from(body.clone());
            let request = self.client.put_object().bucket(bucket).key(key).body(body);
            match request.send().await {
                Ok(_) => Ok(()),
                Err(error) => Err(ObjectsError::of(
                    format!("write {key} to the bucket {bucket}"),
                    error,
                )),
            }
        })
        .await
    }

    /// The size of an object, none if it is absent. A missing bucket looks the same here.
    pub async fn size(&self, bucket: &str, key: &str) -> Result<Option<u64>, ObjectsError> {
        let listed = self.look(bucket, key).await?;
        Ok(listed.map(|listed| listed.size))
    }

    /// The size and age of an object, none if it is absent. A missing bucket looks the same here.
    pub async fn look(&self, bucket: &str, key: &str) -> Result<Option<Listed>, ObjectsError> {
        patiently(self.patience, || self.look_once(bucket, key)).await
    }

    async fn look_once(&self, bucket: &str, key: &str) -> Result<Option<Listed>, ObjectsError> {
        match self
            .client
            .head_object()
            .bucket(bucket)
            .key(key)
            .send()
            .await
        {
            Ok(head) => Ok(Some(Listed {
                key: key.to_owned(),
                size: unsigned(head.content_length()),
                modified: system_time(head.last_modified()),
            })),
            Err(error) if ObjectsError::says_absent(&error) => Ok(None),
            Err(error) => Err(ObjectsError::of(
                format!("look up {key} in the bucket {bucket}"),
                error,
            )),
        }
    }

    /// Up to 1000 objects whose keys begin with `prefix` and come after `after`, in the order of their keys.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Page, ObjectsError> {
        let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix);
        let sent = request.set_start_after(after.map(str::to_owned)).send();
        let answer = sent.await.map_err(|error| {
            ObjectsError::of(format!("list {prefix} in the bucket {bucket}"), error)
        })?;
        let whole = !answer.is_truncated().unwrap_or(false);
        let objects = answer.contents.unwrap_or_default().into_iter();
        let objects = objects.filter_map(|object| {
            Some(Listed {
                modified: system_time(object.last_modified()),
                size: unsigned(object.size()),
                key: object.key?,
            })
        });
        Ok(Page {
            objects: objects.collect(),
            whole,
        })
    }

    /// Takes an object away; it may be gone already.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), ObjectsError> {
        let request = self.client.delete_object().bucket(bucket).key(key);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if ObjectsError::says_absent(&error) => Ok(()),
            Err(error) => Err(ObjectsError::of(
                format!("delete {key} from the bucket {bucket}"),
                error,
            )),
        }
    }

    /// Starts reading an object.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Download, ObjectsError> {
        patiently(self.patience, || self.get_once(bucket, key)).await
    }

    async fn get_once(&self, bucket: &str, key: &str) -> Result<Download, ObjectsError> {
        match self
            .client
            .get_object()
            .bucket(bucket)
            .key(key)
            .send()
            .await
        {
            Ok(answer) => Ok(Download::new(
                unsigned(answer.content_length()),
                answer.body,
            )),
            Err(error) if ObjectsError::says_absent(&error) => Err(ObjectsError::NotFound {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            }),
            Err(error) => Err(ObjectsError::of(
                format!("read {key} from the bucket {bucket}"),
                error,
            )),
        }
    }

    /// Starts writing an object piece by piece. It exists once [`Upload::complete`] has returned.
    pub fn upload(&self, bucket: &str, key: &str) -> Upload {
        Upload::new(self.client.clone(), self.patience, bucket, key)
    }

    /// One request, without the SDK's own retries.
    async fn knock(&self) -> Result<(), Failure<ObjectsError>> {
        let once = Builder::new().retry_config(RetryConfig::disabled());
        let request = self.client.head_bucket().bucket(&self.buckets.sources);
        match request.customize().config_override(once).send().await {
            Ok(_) => Ok(()),
            Err(error) if ObjectsError::is_answer(&error) => Ok(()),
            Err(error) => {
                let error = ObjectsError::of("reach S3".to_owned(), error);
                Err(if error.is_transient() {
                    Failure::Transient(error)
                } else {
                    Failure::Permanent(error)
                })
            }
        }
    }
}

fn is_http(endpoint: &str) -> bool {
    endpoint.starts_with("http://") || endpoint.starts_with("https://")
}

/// A length as the server gives it; one that is absent or below zero is 0.
fn unsigned(length: Option<i64>) -> u64 {
    length
        .and_then(|length| u64::try_from(length).ok())
        .unwrap_or(0)
}

/// A time as the server gives it; one that is absent or out of range is now, so that nothing is taken for older than it is.
fn system_time(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok())
        .unwrap_or_else(SystemTime::now)
}
