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
mod kept;
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
use schemas::source::{ArchiveSource, ArchiveUri, GitRef, GitSource};
use schemas::{Sha256Digest, Token, Trust};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::archive::{Archive, blocking};
use crate::canonical;
use crate::error::SourceError;
use crate::git::kept::Place;
use crate::git::objects::Objects;
use crate::git::submodules::Fetching;
use crate::hosts::Hosts;
use crate::sources::{Fetched, Shared};
use crate::spool;
use crate::tree::Tree;

pub(crate) use kept::collect;
pub(crate) use plumbing::Guest;
#[cfg(test)]
pub(crate) use plumbing::send;
pub use problem::{GitProblem, Matter, SubmoduleProblem};

/// 1 h for a commit with all its submodules, and for the wait while another job fetches it.
const DEADLINE: Duration = Duration::from_hours(1);

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
    let deadline = Instant::now() + DEADLINE;
    let place = Place::of(shared, tenant, trust, source);
    let working = Box::pin(async {
        match kept::find(shared, &place, into).await? {
            Some(found) => Ok(found),
            None => make(shared, hosts, source, &place, deadline, into).await,
        }
    });
    let name = name(&place, source);
    let turn = timeout_at(deadline, shared.locks.turn(&name));
    let late = |_| failed(source, GitProblem::TimedOut(DEADLINE));
    let (archive, sha256) = turn.await.map_err(late)?.take(working).await?;
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

/// Those of one name wait for each other, and share what comes of it. Another repository may have what this one has not, so it has
/// another name.
fn name(place: &Place, source: &GitSource) -> String {
    let reference = source.reference.as_ref().map_or("", GitRef::as_str);
    format!("{} {} {reference}", place.object, source.uri)
}

fn failed(source: &GitSource, problem: GitProblem) -> SourceError {
    SourceError::Git {
        uri: source.uri.clone(),
        commit: source.digest.git_commit.clone(),
        source: Box::new(problem),
    }
}

/// Fetches the commit, makes its archive, and keeps it. What cannot be read as an archive is not kept.
async fn make(
    shared: &Shared,
    hosts: &Hosts,
    source: &GitSource,
    place: &Place,
    deadline: Instant,
    into: &Path,
) -> Result<(Archive, Sha256Digest), SourceError> {
    let limits = &shared.config.limits;
    let (file, digest) = pack(shared, hosts, source, deadline, into).await?;
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
    kept::record(shared, place, digest).await?;
    info!(uri = source.uri.shown(), commit = %source.digest.git_commit, size, "commit fetched and kept");
    Ok((archive, digest))
}

/// The canonical archive of the commit.
async fn pack(
    shared: &Shared,
    hosts: &Hosts,
    source: &GitSource,
    deadline: Instant,
    into: &Path,
) -> Result<(File, Sha256Digest), SourceError> {
    let spool = tempfile::tempfile_in(into).map_err(SourceError::Spool)?;
    let objects = Objects::new(spool, &shared.config.limits);
    let fetching = Fetching::new(shared, hosts, source.submodules);
    let (tree, objects) = timeout_at(deadline, fetching.run(source, objects))
        .await
        .unwrap_or(Err(GitProblem::TimedOut(DEADLINE)))
        .map_err(|problem| failed(source, problem))?;
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

#[cfg(test)]
mod tests;
