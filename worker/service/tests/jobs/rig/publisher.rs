//! Who publishes jobs: the source that they build, and their bodies.

use anyhow::Result;
use async_nats::HeaderMap;
use schemas::{ObjectUri, Sha256Digest, Token, names};

use super::Rig;

impl Rig {
    /// Publishes a job, with `fields` of it set to other JSON.
    pub(crate) async fn submit(&self, fields: &[(&str, &str)]) -> Result<Token> {
        let (id, body) = self.job(fields)?;
        self.publish(body).await?;
        Ok(id)
    }

    /// A job, with `fields` of it set to other JSON.
    pub(crate) fn job(&self, fields: &[(&str, &str)]) -> Result<(Token, String)> {
        let id = uuid::Uuid::now_v7();
        let digest = Sha256Digest::of(&self.archive);
        let key = names::source_object(&self.tenant(), &digest);
        let uri = ObjectUri::new(&self.s3.objects.buckets().sources, &key)?;
        let mut job = serde_json::json!({
            "id": id,
            "source": {"archive": {"uri": uri, "digest": {"sha256": digest}}},
            "environment": {"name": "widget"},
            "steps": [{"name": "build", "sh": "cmp lock installed"}]
        });
        for (field, value) in fields {
            job[field] = serde_json::from_str(value)?;
        }
        Ok((id.into(), job.to_string()))
    }

    /// Publishes a body; gives its place in the stream.
    pub(crate) async fn publish(&self, body: String) -> Result<u64> {
        self.publish_with(HeaderMap::new(), body).await
    }

    /// The same with headers.
    pub(crate) async fn publish_with(&self, headers: HeaderMap, body: String) -> Result<u64> {
        let subject = format!("build.job.{}.trusted.5.{}", self.tag, self.tenant());
        let published = self
            .jetstream
            .publish_with_headers(subject, headers, body.into());
        Ok(published.await?.await?.sequence)
    }

    /// Stores the source that every job builds.
    pub(super) async fn store_source(&self) -> Result<()> {
        let bucket = &self.s3.objects.buckets().sources;
        let key = names::source_object(&self.tenant(), &Sha256Digest::of(&self.archive));
        let archive = self.archive.clone();
        Ok(self.s3.objects.put(bucket, &key, archive.into()).await?)
    }
}

/// A source: a lockfile and another file.
pub(super) fn archive() -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1)?);
    for (path, bytes) in [("lock", "1\n"), ("main.c", "int main;\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes.as_bytes())?;
    }
    Ok(tar.into_inner()?.finish()?)
}
