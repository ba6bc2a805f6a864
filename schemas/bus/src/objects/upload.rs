//! An object that is being written, piece by piece, with one part in memory.
//!
//! What fits into one part becomes one `PUT`. From the first full part on it is a multipart upload, which must end in
//! [`Upload::complete`] or [`Upload::abort`]; one that is dropped leaves its parts at the server.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use tracing::warn;

use super::error::ObjectsError;
use super::patience::{Patience, patiently};
use crate::telemetry::Causes;

/// 8 MiB: S3 wants at least 5 in every part but the last, and 10,000 of these are 78 GiB.
pub const PART_BYTES: usize = 8 << 20;

/// Most parts, as S3 has it.
const MAX_PARTS: i32 = 10_000;

/// An object that is being written. It exists once [`Upload::complete`] has returned.
#[derive(Debug)]
pub struct Upload {
    client: Client,
    patience: Patience,
    bucket: String,
    key: String,
    /// What is not sent yet; shorter than a part between two calls.
    rest: BytesMut,
    /// The multipart upload, once there is one.
    multipart: Option<Multipart>,
}

#[derive(Debug)]
struct Multipart {
    id: String,
    parts: Vec<CompletedPart>,
}

impl Multipart {
    /// A new one with the server's id. Without an id no part could be sent, nor the upload aborted.
    fn begun(id: Option<String>, doing: String) -> Result<Self, ObjectsError> {
        let id = id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| ObjectsError::Failed {
            doing,
            source: "the server began it without an id".into(),
        })?;
        Ok(Self {
            id,
            parts: Vec::new(),
        })
    }
}

impl Upload {
    pub(super) fn new(client: Client, patience: Patience, bucket: &str, key: &str) -> Self {
        Self {
            client,
            patience,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
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
        let completed = match self.multipart {
            None => self.put().await,
            Some(_) => self.complete_multipart().await,
        };
        if completed.is_err() {
            self.abort().await;
        }
        completed
    }

    /// Gives the upload up and lets the server forget its parts. That it may fail to is only logged: there is nothing else to do.
    pub async fn abort(self) {
        let Some(multipart) = self.multipart else {
            return;
        };
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(multipart.id);
        if let Err(error) = request.send().await {
            warn!(bucket = self.bucket, key = self.key, error = %Causes(&error), "upload not aborted, its parts stay");
        }
    }

    async fn put(&mut self) -> Result<(), ObjectsError> {
        let body = self.rest.split().freeze();
        patiently(self.patience, || async {
            let body = ByteStream::from(body.clone());
            let request = self.client.put_object().bucket(&self.bucket).key(&self.key);
            let put = request.body(body).send().await;
            put.map(drop)
                .map_err(|error| ObjectsError::of(self.doing(), error))
        })
        .await
    }

    async fn complete_multipart(&mut self) -> Result<(), ObjectsError> {
        if !self.rest.is_empty() {
            self.send_part().await?;
        }
        let doing = self.doing();
        let multipart = self
            .multipart
            .as_mut()
            .expect("only an upload with parts gets here");
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(std::mem::take(&mut multipart.parts)))
            .build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&multipart.id)
            .multipart_upload(parts);
        patiently(self.patience, || async {
            let completed = request.clone().send().await;
            completed
                .map(drop)
                .map_err(|error| ObjectsError::of(doing.clone(), error))
        })
        .await
    }

    /// Sends what is in memory as the next part.
    async fn send_part(&mut self) -> Result<(), ObjectsError> {
        let doing = self.doing();
        let body = self.rest.split().freeze();
        let patience = self.patience;
        let too_large = ObjectsError::TooLarge {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
        };
        let (client, bucket, key) = (self.client.clone(), self.bucket.clone(), self.key.clone());
        let multipart = self.multipart().await?;
        let number = i32::try_from(multipart.parts.len() + 1).unwrap_or(i32::MAX);
        if number > MAX_PARTS {
            return Err(too_large);
        }
        let sent = patiently(patience, || async {
            let part = client.upload_part().bucket(&bucket).key(&key);
            let part = part.upload_id(&multipart.id).part_number(number);
            let sent = part.body(ByteStream::from(body.clone())).send().await;
            sent.map_err(|error| ObjectsError::of(doing.clone(), error))
        });
        let sent = sent.await?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32);
        multipart.parts.push(part.build());
        Ok(())
    }

    /// The multipart upload, which is begun at the first call.
    async fn multipart(&mut self) -> Result<&mut Multipart, ObjectsError> {
        if self.multipart.is_none() {
            let request = self
                .client
                .create_multipart_upload()
                .bucket(&self.bucket)
                .key(&self.key);
            let begun = patiently(self.patience, || async {
                let begun = request.clone().send().await;
                begun.map_err(|error| ObjectsError::of(self.doing(), error))
            });
            let begun = begun.await?;
            self.multipart = Some(Multipart::begun(begun.upload_id, self.doing())?);
        }
        Ok(self.multipart.as_mut().expect("it was begun above"))
    }

    fn doing(&self) -> String {
        format!("upload {} to the bucket {}", self.key, self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_that_the_server_gives_no_id_is_not_begun() {
        for none in [None, Some(String::new())] {
            let error = Multipart::begun(none, "upload a to the bucket b".to_owned()).unwrap_err();
            assert_eq!(
                Causes(&error).to_string(),
                "upload a to the bucket b: the server began it without an id"
            );
        }
    }
}
