//! A commit with its submodules: one repository after the other, each at the commit that the tree above it pins.
//!
//! What always holds: the address of a submodule is text that a stranger wrote. It is fetched only over https and only from a host that
//! the tenant may fetch from; the way out of the VM leads to one host at a time.

use std::collections::BTreeMap;

use gix_hash::ObjectId;
use schemas::TreePath;
use schemas::https::HttpsUri;
use schemas::source::GitSource;

use crate::archive::blocking;
use crate::git::batch::object_id;
use crate::git::checkout::{self, Checkout, Gitlink};
use crate::git::modules;
use crate::git::objects::Objects;
use crate::git::problem::{GitProblem, SubmoduleProblem};
use crate::git::room::{Room, Wanted};
use crate::hosts::Hosts;
use crate::limits::Limits;
use crate::sources::Shared;
use crate::tree::{ItemKind, Tree};

/// 8 submodules within each other: deeper ones are a circle.
const MAX_DEPTH: usize = 8;

/// 64 submodules in all: each costs a fetch, one in another place than the one before a VM.
const MAX_SUBMODULES: usize = 64;

/// 1 MiB of `.gitmodules`: ten thousand submodules.
const MAX_MODULES_BYTES: u64 = 1 << 20;

/// A commit that is being fetched.
pub(crate) struct Fetching<'a> {
    shared: &'a Shared,
    hosts: &'a Hosts,
    submodules: bool,
    /// The VM of the last repository: the next one is often on the same host.
    room: Option<Room>,
}

/// One repository, and where it belongs.
struct Repository {
    wanted: Wanted,
    id: ObjectId,
    at: TreePath,
    depth: usize,
}

/// What has been checked out so far.
struct Grown {
    objects: Objects,
    tree: Tree,
    bytes: u64,
    /// The time of the first commit, which is that of all entries.
    mtime: Option<i64>,
}

impl<'a> Fetching<'a> {
    /// Submodules are filled if `submodules` says so, and empty directories otherwise.
    pub(crate) fn new(shared: &'a Shared, hosts: &'a Hosts, submodules: bool) -> Self {
        Self {
            shared,
            hosts,
            submodules,
            room: None,
        }
    }

    /// Fetches the commit; returns its tree, and the objects that the tree's files are in.
    pub(crate) async fn run(
        mut self,
        source: &GitSource,
        objects: Objects,
    ) -> Result<(Tree, Objects), GitProblem> {
        let limits = &self.shared.config.limits;
        let mut grown = Grown {
            objects,
            tree: Tree::new(limits),
            bytes: 0,
            mtime: None,
        };
        let mut waiting = vec![first(source)];
        let mut seen = 0;
        while let Some(repository) = waiting.pop() {
            if !grown.objects.has(&repository.id) {
                grown.objects = self.fetch(&repository, grown.objects).await?;
            }
            let gitlinks;
            (grown, gitlinks) = grow(grown, &repository, limits.clone()).await?;
            if !self.submodules {
                continue;
            }
            seen += gitlinks.len();
            for gitlink in self.resolve(&grown, &repository, gitlinks, seen)? {
                waiting.push(gitlink);
            }
        }
        Ok((grown.tree, grown.objects))
    }

    async fn fetch(
        &mut self,
        repository: &Repository,
        objects: Objects,
    ) -> Result<Objects, GitProblem> {
        let uri = &repository.wanted.uri;
        let endpoint = self.hosts.endpoint(uri);
        let endpoint = endpoint.ok_or_else(|| not_allowed(&repository.at, uri))?;
        let mut room = match self.room.take() {
            Some(room) if room.endpoint == endpoint => room,
            other => {
                drop(other);
                let rules = self.hosts.rules_for(&endpoint);
                Room::open(self.shared, endpoint, rules).await?
            }
        };
        let objects = room.fetch(&repository.wanted, objects).await?;
        self.room = Some(room);
        Ok(objects)
    }

    /// The repositories that the submodules of `repository` come from. `seen` is how many there are so far.
    fn resolve(
        &self,
        grown: &Grown,
        repository: &Repository,
        gitlinks: Vec<Gitlink>,
        seen: usize,
    ) -> Result<Vec<Repository>, GitProblem> {
        let Some(some) = gitlinks.first() else {
            return Ok(Vec::new());
        };
        let refused = |path: &TreePath, problem| GitProblem::Submodule {
            path: path.clone(),
            problem,
        };
        if seen > MAX_SUBMODULES {
            return Err(refused(
                &some.path,
                SubmoduleProblem::TooMany(MAX_SUBMODULES),
            ));
        }
        if repository.depth == MAX_DEPTH {
            return Err(refused(&some.path, SubmoduleProblem::TooDeep(MAX_DEPTH)));
        }
        let urls = modules(grown, repository)?;
        gitlinks
            .into_iter()
            .map(|gitlink| {
                let url = urls.get(&gitlink.inner);
                let url = url.ok_or_else(|| refused(&gitlink.path, SubmoduleProblem::NotListed))?;
                self.submodule(repository, gitlink, url)
            })
            .collect()
    }

    fn submodule(
        &self,
        parent: &Repository,
        gitlink: Gitlink,
        url: &str,
    ) -> Result<Repository, GitProblem> {
        let Gitlink { path, commit, .. } = gitlink;
        let uri = modules::resolve(&parent.wanted.uri, url);
        let uri = uri.ok_or_else(|| GitProblem::Submodule {
            path: path.clone(),
            problem: SubmoduleProblem::Url(
                url.chars().take_while(|c| *c != '?').take(200).collect(),
            ),
        })?;
        if self.hosts.endpoint(&uri).is_none() {
            return Err(not_allowed(&path, &uri));
        }
        Ok(Repository {
            wanted: Wanted {
                uri,
                commit: commit.to_string(),
                reference: None,
            },
            id: commit,
            at: path,
            depth: parent.depth + 1,
        })
    }
}

fn first(source: &GitSource) -> Repository {
    let commit = source.digest.git_commit.as_str();
    Repository {
        wanted: Wanted {
            uri: source.uri.clone(),
            commit: commit.to_owned(),
            reference: source.reference.clone(),
        },
        id: object_id(commit).expect("a commit's id is 40 lower-case digits"),
        at: TreePath::root(),
        depth: 0,
    }
}

fn not_allowed(path: &TreePath, uri: &HttpsUri) -> GitProblem {
    GitProblem::Submodule {
        path: path.clone(),
        problem: SubmoduleProblem::NotAllowed(uri.clone()),
    }
}

/// Adds the tree of `repository`; returns the submodules in it.
async fn grow(
    mut grown: Grown,
    repository: &Repository,
    limits: Limits,
) -> Result<(Grown, Vec<Gitlink>), GitProblem> {
    let (id, at) = (repository.id, repository.at.clone());
    blocking(move || {
        let commit = checkout::commit(&grown.objects, &id)?;
        let mtime = *grown.mtime.get_or_insert(commit.time);
        let Grown {
            objects,
            tree,
            bytes,
            ..
        } = &mut grown;
        let mut checkout = Checkout::new(objects, &limits, tree, bytes, mtime);
        let gitlinks = checkout.add(commit.tree, &at)?;
        Ok((grown, gitlinks))
    })
    .await
}

/// What the `.gitmodules` of `repository` says, by path; nothing where it is no file.
fn modules(grown: &Grown, repository: &Repository) -> Result<BTreeMap<String, String>, GitProblem> {
    let path = if repository.at.is_root() {
        ".gitmodules".to_owned()
    } else {
        format!("{}/.gitmodules", repository.at)
    };
    let odd = |problem: String| GitProblem::Submodule {
        path: repository.at.clone(),
        problem: SubmoduleProblem::Modules(problem),
    };
    // A path that is too long is no path of the tree.
    let path = TreePath::parse(path).ok();
    let item = path.and_then(|path| grown.tree.items().get(&path));
    let Some(ItemKind::File(extent)) = item.map(|item| &item.kind) else {
        return Ok(BTreeMap::new());
    };
    if extent.size > MAX_MODULES_BYTES {
        return Err(odd(format!("is larger than {MAX_MODULES_BYTES} bytes")));
    }
    modules::parse(&grown.objects.at(*extent)?).map_err(odd)
}
