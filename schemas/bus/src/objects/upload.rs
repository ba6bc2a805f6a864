//! An object that is being written, piece by piece, with one part in memory.
//!
//! What fits into one part becomes one `PUT`. From the first full part on it is a multipart upload, which ends in [`Upload::complete`] or
//! [`Upload::abort`], or is aborted where it is dropped.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};

use super::error::ObjectsError;
use super::multipart::{Multipart, Place};
use super::patience::{Patience, patiently};

/// 8 MiB: S3 wants at least 5 in every part but the last, and 10,000 of these are 78 GiB.
pub const PART_BYTES: usize = 8 << 20;

/// An object that is being written. It exists once [`Upload::complete`] has returned.
#[derive(Debug)]
pub struct Upload {
    place: Place,
    patience: Patience,
    /// What is not sent yet; shorter than a part between two calls.
    rest: BytesMut,
    /// The multipart upload, once there is one.
    multipart: Option<Multipart>,
}

impl Upload {
    pub(super) fn new(client: Client, patience: Patience, bucket: &str, key: &str) -> Self {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Self {
            place: Place {
                client,
                bucket,
                key,
            },
            patience,
            rest: BytesMut::new(),
            multipart: None,
        }
    }

    /// Adds bytes. Returns once no more than a part is in memory.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), ObjectsError> {
        while !bytes.is_empty() {
            let fitting = bytes.len().min(PART_BYTES - self.rest.len());
            self.rest.extend_from_slice(&bytes.split_to(fitting));
            if self.rest.len() == PART_BYTES {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Makes the object. After an error there is none, as far as can be known.
    pub async fn complete(mut self) -> Result<(), ObjectsError> {
        let Some(mut multipart) = self.multipart.take() else {
            return self.put().await;
        };
        if !self.rest.is_empty()
            && let Err(error) = multipart.send(self.patience, self.rest.freeze()).await
        {
            multipart.abort().await;
            return Err(error);
        }
        multipart.complete(self.patience).await
    }

    /// Gives the upload up and lets the server forget its parts. That it may fail to is only logged.
    pub async fn abort(self) {
        if let Some(multipart) = self.multipart {
            multipart.abort().await;
        }
    }

    async fn put(self) -> Result<(), ObjectsError> {
        let body = self.rest.freeze();
        let Place {
            client,
            bucket,
            key,
        } = &self.place;
        patiently(self.patience, || async {
            let body = ByteStream::from(body.clone());
            let put = client.put_object().bucket(bucket).key(key).body(body);
            let put = put.send().await;
            put.map(drop)
                .map_err(|error| ObjectsError::of(self.place.doing(), error))
        })
        .await
    }

    /// Sends what is in memory as the next part, of a multipart upload that is begun with the first.
    async fn send_part(&mut self) -> Result<(), ObjectsError> {
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => none.insert(Multipart::begin(&self.place, self.patience).await?),
        };
        multipart
            .send(self.patience, self.rest.split().freeze())
            .await
    }
}
