//! A multipart upload at the server: begun, sent part by part, and completed or aborted.
//!
//! ```text
//! begin ──▶ send … ──▶ complete ──▶ the object is there
//!             │            └─ fails ─┐
//!             └─ fails, or abort ────┼─▶ aborted: the server forgets the parts
//!                       dropped ─────┘   (in a task of its own)
//! ```
//!
//! What always holds: whichever future is cut, by a cancel or a limit of time, the server is asked to forget the upload. One is left only
//! where the process ends first, or where the server's answer is lost that gives its id.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{Instrument as _, warn};

use super::error::ObjectsError;
use super::patience::{Patience, patiently};
use crate::telemetry::Causes;

/// Most parts, as S3 has it.
const MAX_PARTS: i32 = 10_000;

/// 30 s for the request to forget an upload, with the SDK's repetitions: nobody may wait for what cleans up.
const ABORT_LIMIT: Duration = Duration::from_secs(30);

/// Where an object is to be.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) bucket: String,
    pub(super) key: String,
}

impl Place {
    pub(super) fn doing(&self) -> String {
        format!("upload {} to the bucket {}", self.key, self.bucket)
    }
}

/// An upload that the server has begun.
#[derive(Debug)]
pub(super) struct Multipart {
    place: Place,
    /// None once it has ended.
    id: Option<String>,
    parts: Vec<CompletedPart>,
}

impl Multipart {
    /// Begins one.
    pub(super) async fn begin(place: &Place, patience: Patience) -> Result<Self, ObjectsError> {
        patiently(patience, || Self::begin_once(place)).await
    }

    /// In a task of its own, which hears the answer also where nobody waits for it any more: without the id an upload can never be
    /// forgotten.
    async fn begin_once(place: &Place) -> Result<Self, ObjectsError> {
        let (begun_at, doing) = (place.clone(), place.doing());
        let beginning = async move {
            let request = begun_at.client.create_multipart_upload();
            let request = request.bucket(&begun_at.bucket).key(&begun_at.key);
            let begun = request.send().await;
            let begun = begun.map_err(|error| ObjectsError::of(begun_at.doing(), error))?;
            Self::begun(begun_at, begun.upload_id)
        };
        let begun = tokio::spawn(beginning.in_current_span()).await;
        begun.unwrap_or_else(|error| {
            let source = error.into();
            Err(ObjectsError::Failed { doing, source })
        })
    }

    /// A new one with the server's id. Without an id no part could be sent, nor the upload aborted.
    fn begun(place: Place, id: Option<String>) -> Result<Self, ObjectsError> {
        let id = id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| ObjectsError::Failed {
            doing: place.doing(),
            source: "the server began it without an id".into(),
        })?;
        Ok(Self {
            place,
            id: Some(id),
            parts: Vec::new(),
        })
    }

    /// Sends the next part.
    pub(super) async fn send(
        &mut self,
        patience: Patience,
        body: Bytes,
    ) -> Result<(), ObjectsError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        if number > MAX_PARTS {
            let Place { bucket, key, .. } = self.place.clone();
            return Err(ObjectsError::TooLarge { bucket, key });
        }
        let Place {
            client,
            bucket,
            key,
        } = &self.place;
        let sent = patiently(patience, || async {
            let part = client.upload_part().bucket(bucket).key(key);
            let part = part.set_upload_id(self.id.clone()).part_number(number);
            let sent = part.body(ByteStream::from(body.clone())).send().await;
            sent.map_err(|error| ObjectsError::of(self.place.doing(), error))
        });
        let sent = sent.await?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32);
        self.parts.push(part.build());
        Ok(())
    }

    /// Makes the object of the parts.
    pub(super) async fn complete(mut self, patience: Patience) -> Result<(), ObjectsError> {
        let completed = self.complete_parts(patience).await;
        match completed {
            Ok(()) => self.id = None,
            Err(_) => self.abort().await,
        }
        completed
    }

    async fn complete_parts(&mut self, patience: Patience) -> Result<(), ObjectsError> {
        let parts = std::mem::take(&mut self.parts);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let Place {
            client,
            bucket,
            key,
        } = &self.place;
        let request = client.complete_multipart_upload().bucket(bucket).key(key);
        let request = request.set_upload_id(self.id.clone());
        let request = request.multipart_upload(parts.build());
        patiently(patience, || async {
            let completed = request.clone().send().await;
            completed
                .map(drop)
                .map_err(|error| ObjectsError::of(self.place.doing(), error))
        })
        .await
    }

    /// Lets the server forget it. That it may fail to is only logged: there is nothing else to do.
    pub(super) async fn abort(mut self) {
        if let Some(id) = self.id.clone() {
            abort(&self.place, id).await;
            self.id = None;
        }
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let place = self.place.clone();
        match Handle::try_current() {
            Ok(runtime) => {
                let aborting = async move { abort(&place, id).await };
                drop(runtime.spawn(aborting.in_current_span()));
            }
            Err(_) => left(&place, "it is dropped outside the runtime"),
        }
    }
}

async fn abort(place: &Place, id: String) {
    let request = place.client.abort_multipart_upload().bucket(&place.bucket);
    let sent = request.key(&place.key).upload_id(id).send();
    match timeout(ABORT_LIMIT, sent).await {
        Ok(Ok(_)) => {}
        // One that was completed, or aborted by a request whose answer was not heard.
        Ok(Err(error)) if ObjectsError::says_absent(&error) => {}
        Ok(Err(error)) => left(place, &Causes(&error).to_string()),
        Err(_) => left(place, "no answer in 30 s"),
    }
}

fn left(place: &Place, why: &str) {
    let Place { bucket, key, .. } = place;
    warn!(bucket, key, why, "upload not aborted, its parts stay");
}

#[cfg(test)]
mod tests;
