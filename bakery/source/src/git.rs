//! Git sources: a commit by its full id, fetched in a VM of its own, verified here, kept as an archive.
//!
//! ```text
//! commit ─ pointer and archive in the object store? ─yes──────────────────────────▶ Archive
//!            └─no─▶ Room: git in a VM ═ objects ═▶ ids recomputed ─▶ checkout ─▶ canonical archive ─▶ S3, then pointer
//!                      ▲                                                │
//!                      ╰────────────── submodules, if asked for ────────╯
//! ```
//!
//! What always holds: every byte of the archive was reached from the asked commit's id by ids that were recomputed on this host. The
//! archive of a commit has one digest; the pointer to it lies where no tenant writes, and an object that has another is made anew.

mod batch;
mod checkout;
mod modules;
mod objects;
mod plumbing;
mod problem;
mod room;
mod submodules;
mod way_out;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use schemas::result::SourceDigests;
use schemas::source::{ArchiveSource, ArchiveUri, GitSource};
use schemas::{ObjectUri, Sha256Digest, Token, Trust, names};
use tokio::time::timeout;
use tracing::info;

use crate::archive::{Archive, blocking};
use crate::canonical;
use crate::error::SourceError;
use crate::fetch;
use crate::git::objects::Objects;
use crate::git::submodules::Fetching;
use crate::hosts::Hosts;
use crate::sources::{Fetched, Shared};
use crate::spool;
use crate::tree::Tree;

pub(crate) use plumbing::Guest;
#[cfg(test)]
pub(crate) use plumbing::send;
pub use problem::{GitProblem, Matter, SubmoduleProblem};

/// 1 h for a commit with all its submodules.
const DEADLINE: Duration = Duration::from_hours(1);

/// Where the archive of a commit is kept.
struct Place {
    object: ObjectUri,
    pointer: String,
}

/// Fetches the commit that `source` names, or finds what was made of it before.
pub(crate) async fn fetch(
    shared: &Shared,
    hosts: &Hosts,
    tenant: &Token,
    trust: Trust,
    source: &GitSource,
    into: &Path,
) -> Result<Fetched, SourceError> {
    hosts.check(&source.uri)?;
    let place = place(shared, tenant, trust, source);
    let _alone = shared.locks.lock(place.object.key()).await;
    let (archive, sha256) = match find(shared, &place, into).await? {
        Some(found) => found,
        None => make(shared, hosts, source, &place, into).await?,
    };
    Ok(Fetched {
        archive,
        digest: SourceDigests {
            sha256,
            git_commit: Some(source.digest.git_commit.clone()),
        },
        stored: ArchiveSource {
            uri: ArchiveUri::S3(place.object),
            digest: sha256.into(),
        },
    })
}

fn place(shared: &Shared, tenant: &Token, trust: Trust, source: &GitSource) -> Place {
    let commit = &source.digest.git_commit;
    let options = if source.submodules {
        "submodules"
    } else {
        "plain"
    };
    let key = names::git_object(tenant, trust, commit, options);
    let object = ObjectUri::new(&shared.objects.buckets().sources, &key);
    Place {
        object: object.expect("tokens and digits are a key"),
        pointer: names::git_pointer(tenant, trust, commit, options),
    }
}

/// What was made of the commit before, if it is still what it was.
async fn find(
    shared: &Shared,
    place: &Place,
    into: &Path,
) -> Result<Option<(Archive, Sha256Digest)>, SourceError> {
    let Some(digest) = pointer(shared, place).await? else {
        return Ok(None);
    };
    let limits = &shared.config.limits;
    match fetch::find(&shared.objects, &place.object, digest, limits, into).await? {
        Some(file) => {
            let archive = Archive::open(file, limits, into).await?;
            Ok(Some((archive, digest)))
        }
        None => Ok(None),
    }
}

/// Where the pointer leads. One that holds no digest is as good as none.
async fn pointer(shared: &Shared, place: &Place) -> Result<Option<Sha256Digest>, SourceError> {
    let value = shared.snapshots.get(&place.pointer).await;
    let value = value.map_err(|source| SourceError::Values {
        doing: format!("find the archive of {}", place.object),
        source,
    })?;
    Ok(value.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok()))
}

/// Fetches the commit, makes its archive, and keeps it. What cannot be read as an archive is not kept.
async fn make(
    shared: &Shared,
    hosts: &Hosts,
    source: &GitSource,
    place: &Place,
    into: &Path,
) -> Result<(Archive, Sha256Digest), SourceError> {
    let limits = &shared.config.limits;
    let (file, digest) = pack(shared, hosts, source, into).await?;
    let size = file.metadata().map_err(SourceError::Spool)?.len();
    if size > limits.max_archive_bytes {
        return Err(SourceError::TooLarge {
            uri: ArchiveUri::Https(source.uri.clone()),
            limit: limits.max_archive_bytes,
        });
    }
    let copy = file.try_clone().map_err(SourceError::Spool)?;
    let archive = Archive::open(copy, limits, into).await?;
    spool::upload(&shared.objects, &file, &place.object).await?;
    record(shared, place, digest).await?;
    info!(uri = %source.uri, commit = %source.digest.git_commit, size, "commit fetched and kept");
    Ok((archive, digest))
}

/// The canonical archive of the commit.
async fn pack(
    shared: &Shared,
    hosts: &Hosts,
    source: &GitSource,
    into: &Path,
) -> Result<(File, Sha256Digest), SourceError> {
    let failed = |problem| SourceError::Git {
        uri: source.uri.clone(),
        commit: source.digest.git_commit.clone(),
        source: Box::new(problem),
    };
    let spool = tempfile::tempfile_in(into).map_err(SourceError::Spool)?;
    let objects = Objects::new(spool, &shared.config.limits);
    let fetching = Fetching::new(shared, hosts, source.submodules);
    let (tree, objects) = timeout(DEADLINE, fetching.run(source, objects))
        .await
        .map_err(|_elapsed| failed(GitProblem::TimedOut(DEADLINE)))?
        .map_err(failed)?;
    write(tree, objects, into).await
}

async fn write(
    tree: Tree,
    objects: Objects,
    into: &Path,
) -> Result<(File, Sha256Digest), SourceError> {
    let into = into.to_owned();
    blocking(move || canonical::write(&tree, objects.spool(), &into).map_err(SourceError::Spool))
        .await
}

/// Lets the pointer lead to `digest`. The archive is there already, so that it never leads to nothing.
async fn record(shared: &Shared, place: &Place, digest: Sha256Digest) -> Result<(), SourceError> {
    let failed = |source| SourceError::Values {
        doing: format!("record the archive of {}", place.object),
        source,
    };
    let value = || digest.to_string().into();
    let snapshots = &shared.snapshots;
    let created = snapshots.create(&place.pointer, value()).await;
    if created.map_err(failed)? || pointer(shared, place).await? == Some(digest) {
        return Ok(());
    }
    // Made by another version of the compressor. The last object counts, so its digest does.
    snapshots.put(&place.pointer, value()).await.map_err(failed)
}

#[cfg(test)]
mod tests;
