//! Reads a job's artifacts out of the guest and stores each under its digest.
//!
//! What always holds: files come sorted, by the name of their artifact and then their path; an object is only finished when
//! the host's own digest of the bytes is the one that the guest announced; no file is held whole in memory or on disk.

use std::time::Duration;

use bus::objects::{Objects, ObjectsError, Upload};
use schemas::artifact::Artifact;
use schemas::event::EventKind;
use schemas::guest::BUILD_ROOT;
use schemas::names::artifact_object;
use schemas::reason::Reason;
use schemas::result::ArtifactRef;
use schemas::{ObjectUri, Sha256Digest, Token, TreePath};
use sha2::{Digest, Sha256};
use vm::{AgentClient, AgentError, FileRead};
use wire::{Found, ListSpec, ReadSpec};

use crate::events::Events;
use crate::verdict::{self, Verdict};

/// Most files of one artifact: what a large documentation tree has, twenty times over.
const MAX_FILES: u32 = 100_000;

/// 15 min to read out and store all artifacts of a job: what the default `max_bytes` of one takes at 10 Mbit/s.
pub const COLLECT_WITHIN: Duration = Duration::from_mins(15);

/// Why artifacts are not complete.
#[derive(Debug)]
pub enum CollectError {
    /// The job has this verdict.
    Verdict(Verdict),
    /// The guest is gone.
    Guest(String),
}

impl From<AgentError> for CollectError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Session(_) => Self::Guest(error.to_string()),
            // The agent lives, and says what stands in the way: a file that went, a name that is not UTF-8, too many files.
            AgentError::Failed { .. } => {
                Self::Verdict(Verdict::new(Reason::ArtifactMissing, error.to_string()))
            }
        }
    }
}

impl From<ObjectsError> for CollectError {
    fn from(error: ObjectsError) -> Self {
        Self::Verdict(Verdict::host(Reason::UploadFailed, &error))
    }
}

/// From where artifacts are read, and to where.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The guest that has them.
    pub agent: &'a AgentClient,
    /// Where they are stored.
    pub objects: &'a Objects,
    /// Under whose name.
    pub tenant: &'a Token,
    /// Where each is told of.
    pub events: &'a Events,
}

/// Reads out what applies after steps that all succeeded, or did not; what was stored before an error stays in `stored`.
pub async fn collect(
    way: Way<'_>,
    artifacts: &[Artifact],
    steps_succeeded: bool,
    stored: &mut Vec<ArtifactRef>,
) -> Result<(), CollectError> {
    let mut wanted: Vec<&Artifact> = artifacts
        .iter()
        .filter(|artifact| artifact.when.applies(steps_succeeded))
        .collect();
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut missing = None;
    for artifact in wanted {
        let files = list(way.agent, artifact).await?;
        if files.is_empty() && artifact.required && missing.is_none() {
            missing = Some(verdict::of_missing(artifact));
        }
        let count = files.len();
        for file in files {
            stored.push(store(way, artifact, &file).await?);
        }
        if count > 0 {
            let what = format!("{}: {count} files", artifact.name);
            way.events
                .say(EventKind::ArtifactUploaded, None, Some(what))
                .await;
        }
    }
    missing.map_or(Ok(()), |verdict| Err(CollectError::Verdict(verdict)))
}

/// The files of one artifact, if they are not too many or too large.
async fn list(agent: &AgentClient, artifact: &Artifact) -> Result<Vec<Found>, CollectError> {
    let globs = artifact.paths.iter().map(ToString::to_string).collect();
    let spec = ListSpec {
        root: BUILD_ROOT.into(),
        globs,
        limit: MAX_FILES,
    };
    let files = agent.list(&spec).await?;
    let limit = |what: String| {
        let message = format!("artifact {} {what}", artifact.name);
        Err(CollectError::Verdict(Verdict::new(
            Reason::ArtifactLimit,
            message,
        )))
    };
    if files.len() > MAX_FILES as usize {
        return limit(format!("has more than {MAX_FILES} files"));
    }
    let total = files
        .iter()
        .try_fold(0_u64, |total, file| total.checked_add(file.size));
    match total {
        Some(total) if total <= artifact.max_bytes => Ok(files),
        Some(_) | None => limit(format!(
            "is larger than its max_bytes, {}",
            artifact.max_bytes
        )),
    }
}

/// Stores one file. An object that is there already is not uploaded again, but the bytes are read and hashed all the same.
async fn store(
    way: Way<'_>,
    artifact: &Artifact,
    found: &Found,
) -> Result<ArtifactRef, CollectError> {
    let Way {
        agent,
        objects,
        tenant,
        events: _,
    } = way;
    let spec = ReadSpec {
        root: BUILD_ROOT.into(),
        path: found.path.clone(),
    };
    let mut file = agent.read(&spec).await?;
    let lie =
        |what: &str| CollectError::Guest(format!("the guest announced {what} for {}", found.path));
    if file.size != found.size {
        return Err(lie("two sizes"));
    }
    let path: TreePath = found.path.parse().map_err(|_| lie("no path of a tree"))?;
    let announced = Sha256Digest::from_bytes(file.digest);
    let bucket = objects.buckets().artifacts.clone();
    let key = artifact_object(tenant, &announced);
    let mut upload = match objects.size(&bucket, &key).await? {
        Some(size) if size == file.size => None,
        Some(_) | None => Some(objects.upload(&bucket, &key)),
    };
    let copied = copy(&mut file, &mut upload, &announced).await;
    match (copied, upload) {
        (Ok(true), Some(upload)) => upload.complete().await?,
        (Ok(true), None) => {}
        (Ok(false), upload) => {
            abort(upload).await;
            return Err(lie("another digest"));
        }
        (Err(error), upload) => {
            abort(upload).await;
            return Err(error);
        }
    }
    Ok(ArtifactRef {
        name: artifact.name.clone(),
        path,
        uri: ObjectUri::new(&bucket, &key).expect("a bucket and a key of digits make an address"),
        digest: announced.into(),
        size_bytes: file.size,
        mode: format!("{:04o}", file.mode & 0o777),
    })
}

/// Reads the file to its end; whether its bytes are those that were announced.
async fn copy(
    file: &mut FileRead,
    upload: &mut Option<Upload>,
    announced: &Sha256Digest,
) -> Result<bool, CollectError> {
    let mut hasher = Sha256::new();
    while let Some(bytes) = file.next().await? {
        hasher.update(&bytes);
        if let Some(upload) = upload {
            upload.write(bytes.into()).await?;
        }
    }
    Ok(Sha256Digest::from_bytes(hasher.finalize().into()) == *announced)
}

async fn abort(upload: Option<Upload>) {
    if let Some(upload) = upload {
        upload.abort().await;
    }
}
