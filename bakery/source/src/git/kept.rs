//! The archives of commits: each an object, and a pointer that says what its digest is.
//!
//! ```text
//! made ─▶ kept ─ used, and not marked for a day ─▶ marked: the pointer is written again
//!           └── not marked for as long as the bakery says ─▶ the pointer goes, then the object
//! ```
//!
//! What always holds: a pointer is written after its object, and goes before it. One that was marked after it was looked at stays.

use std::path::Path;
use std::time::Duration;

use schemas::source::GitSource;
use schemas::{GitCommit, ObjectUri, Sha256Digest, Token, Trust, names};
use tracing::warn;

use crate::archive::Archive;
use crate::error::SourceError;
use crate::fetch;
use crate::sources::Shared;
use crate::values::Value;

/// What the key of every pointer begins with: [`names::git_pointer`].
const POINTERS: &str = "git.";

/// 1 day between two marks: a write a day for each commit in use.
const MARK_AGAIN_AFTER: Duration = Duration::from_hours(24);

/// Where the archive of a commit is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) object: ObjectUri,
    pointer: String,
}

impl Place {
    /// The place for what `source` names.
    pub(crate) fn of(shared: &Shared, tenant: &Token, trust: Trust, source: &GitSource) -> Self {
        let options = if source.submodules {
            "submodules"
        } else {
            "plain"
        };
        let bucket = &shared.objects.buckets().sources;
        Self::new(bucket, tenant, trust, &source.digest.git_commit, options)
    }

    fn new(bucket: &str, tenant: &Token, trust: Trust, commit: &GitCommit, options: &str) -> Self {
        let key = names::git_object(tenant, trust, commit, options);
        let object = ObjectUri::new(bucket, &key);
        Self {
            object: object.expect("tokens and digits are a key"),
            pointer: names::git_pointer(tenant, trust, commit, options),
        }
    }

    /// The place that a pointer's key tells of; none if it is no such key.
    fn parse(bucket: &str, pointer: &str) -> Option<Self> {
        let parts: Vec<_> = pointer.strip_prefix(POINTERS)?.split('.').collect();
        let &[tenant, trust, commit, options @ ("plain" | "submodules")] = parts.as_slice() else {
            return None;
        };
        let (tenant, trust) = (tenant.parse().ok()?, trust.parse().ok()?);
        let commit = commit.parse().ok()?;
        Some(Self::new(bucket, &tenant, trust, &commit, options))
    }
}

/// What was made of the commit before, if it is still what it was.
pub(crate) async fn find(
    shared: &Shared,
    place: &Place,
    into: &Path,
) -> Result<Option<(Archive, Sha256Digest)>, SourceError> {
    let Some((value, digest)) = pointer(shared, place).await? else {
        return Ok(None);
    };
    let limits = &shared.config.limits;
    let Some(file) = fetch::find(&shared.objects, &place.object, digest, limits, into).await?
    else {
        return Ok(None);
    };
    if value.age() > MARK_AGAIN_AFTER {
        write(shared, place, digest).await?;
    }
    let archive = Archive::open(file, limits, into).await?;
    Ok(Some((archive, digest)))
}

/// Lets the pointer lead to `digest`. The archive is there already, so that it never leads to nothing.
pub(crate) async fn record(
    shared: &Shared,
    place: &Place,
    digest: Sha256Digest,
) -> Result<(), SourceError> {
    let snapshots = &shared.snapshots;
    let created = snapshots.create(&place.pointer, digest.to_string().into());
    if created.await.map_err(unwritten(place))? {
        return Ok(());
    }
    // There is an old one, or one made by another version of the compressor. The last object counts, so its digest does.
    write(shared, place, digest).await
}

/// Takes away what nobody has used for as long as `unused`; returns how many commits those were.
pub(crate) async fn collect(shared: &Shared, unused: Duration) -> Result<u64, SourceError> {
    let pointers = shared.snapshots.list(POINTERS).await;
    let pointers = pointers.map_err(|source| SourceError::Values {
        doing: "list the archives of commits".to_owned(),
        source,
    })?;
    let mut collected = 0;
    for (key, value) in pointers {
        if value.age() < unused {
            continue;
        }
        match Place::parse(&shared.objects.buckets().sources, &key) {
            Some(place) => collected += u64::from(remove(shared, &place, value).await?),
            None => warn!(key, "not the pointer of a commit: left where it is"),
        }
    }
    Ok(collected)
}

/// Takes pointer and archive away, unless somebody has marked it meanwhile.
async fn remove(shared: &Shared, place: &Place, value: Value) -> Result<bool, SourceError> {
    let Shared {
        objects, snapshots, ..
    } = shared;
    let removed = snapshots.remove(&place.pointer, value.revision).await;
    if !removed.map_err(unwritten(place))? {
        return Ok(false);
    }
    let uri = &place.object;
    if let Err(source) = objects.delete(uri.bucket(), uri.key()).await {
        // So that a later collection finds it.
        let back = snapshots.create(&place.pointer, value.bytes).await;
        back.map_err(unwritten(place))?;
        let uri = uri.clone();
        return Err(SourceError::Delete { uri, source });
    }
    Ok(true)
}

/// Where the pointer leads. One that holds no digest is as good as none.
async fn pointer(
    shared: &Shared,
    place: &Place,
) -> Result<Option<(Value, Sha256Digest)>, SourceError> {
    let value = shared.snapshots.get(&place.pointer).await;
    let value = value.map_err(|source| SourceError::Values {
        doing: format!("find the archive of {}", place.object),
        source,
    })?;
    Ok(value.and_then(|value| {
        let digest = std::str::from_utf8(&value.bytes).ok()?.parse().ok()?;
        Some((value, digest))
    }))
}

async fn write(shared: &Shared, place: &Place, digest: Sha256Digest) -> Result<(), SourceError> {
    let value = digest.to_string().into();
    let written = shared.snapshots.put(&place.pointer, value).await;
    written.map_err(unwritten(place))
}

fn unwritten(place: &Place) -> impl FnOnce(crate::ValuesError) -> SourceError {
    let doing = format!("record the archive of {}", place.object);
    |source| SourceError::Values { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_its_pointer_and_from_nothing_else() {
        let commit: GitCommit = "1".repeat(40).parse().unwrap();
        let tenant: Token = "acme".parse().unwrap();
        let place = Place::new("sources", &tenant, Trust::Untrusted, &commit, "plain");
        assert_eq!(
            Place::parse("sources", &place.pointer).as_ref(),
            Some(&place)
        );
        for odd in [
            "git.acme.untrusted.1.plain".to_owned(),
            format!("git.acme.untrusted.{commit}.other"),
            format!("git.acme.untrusted.{commit}"),
            format!("key.acme.untrusted.{commit}.plain"),
        ] {
            assert_eq!(Place::parse("sources", &odd), None, "{odd}");
        }
    }
}
