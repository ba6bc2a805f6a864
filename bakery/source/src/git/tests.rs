//! Commits from a server on loopback, through the fake driver: its guests run the host's own git.

mod kept;
mod reach;
mod submodules;

use std::sync::atomic::Ordering;

use schemas::source::{GitDigest, Source};
use schemas::{Reason, TreePath};
use store::Fault;

use super::*;
use crate::testing::bench::Bench;
use crate::testing::repository::Repository;
use crate::testing::server::{Manner, Server, repositories};

/// The name that the server proves to be.
const NAME: &str = "git.example.com";

/// Packs the commit that the file `evil` names instead of any other.
const LIE: &[u8] =
    b"#!/bin/sh\nread -r evil < evil || :\nsed \"s/[0-9a-f]\\{40\\}/$evil/\" | \"$@\"\n";

/// Replaces a file by another one under the same id once it is fetched: what whoever has taken the VM over could do.
const TAKEN_OVER: &str = "#!/bin/sh -e
git \"$@\"
[ \"$1\" = fetch ] || exit 0
mv objects/pack/*.pack pack
rm -f objects/pack/*
git unpack-objects -q < pack
evil=$(echo 'int evil;' | git hash-object -w --stdin)
good=$(echo 'int main;' | git hash-object --stdin)
file() { echo \"objects/$(echo \"$1\" | cut -c1-2)/$(echo \"$1\" | cut -c3-)\"; }
cp -f \"$(file \"$evil\")\" \"$(file \"$good\")\"
";

/// A server with one repository, `widget`, and what fetches from it.
struct Rig {
    widget: Repository,
    server: Server,
    bench: Bench,
}

impl Rig {
    async fn new() -> Self {
        Self::serving(Repository::new(), Manner::Current).await
    }

    async fn serving(widget: Repository, manner: Manner) -> Self {
        Self::within(widget, manner, r#"["127.0.0.0/8"]"#).await
    }

    /// With a tenant whose host may lie in `networks`.
    async fn within(widget: Repository, manner: Manner, networks: &str) -> Self {
        widget.write("package.json", b"{}\r\n");
        widget.write("src/main.c", b"int main;\n");
        widget.commit();
        // A repository is served by the name of its directory.
        let root = widget.path().parent().unwrap();
        let server = Server::start(NAME, repositories(root, manner)).await;
        let host = format!("{NAME}:{}", server.port);
        let tenant = format!(
            r#"{{"name": "acme", "hosts": [{{"hosts": ["{host}"], "networks": {networks}}}]}}"#
        );
        let bench = Bench::new(&server, &tenant).await;
        Self {
            widget,
            server,
            bench,
        }
    }

    async fn baked() -> Self {
        let rig = Self::new().await;
        rig.bench.bake_fetch_template().await;
        rig
    }

    fn uri(&self, repository: &Repository) -> String {
        let name = repository.path().file_name().unwrap().to_str().unwrap();
        format!("https://{NAME}:{}/{name}/.git", self.server.port)
    }

    fn source(&self, commit: &str, submodules: bool) -> Source {
        source(&self.uri(&self.widget), commit, submodules)
    }
}

fn source(uri: &str, commit: &str, submodules: bool) -> Source {
    Source::Git(GitSource {
        uri: uri.parse().unwrap(),
        digest: GitDigest {
            git_commit: commit.parse().unwrap(),
        },
        reference: None,
        submodules,
    })
}

/// The error with its causes, its owner and its word.
fn told(error: &SourceError) -> (String, Fault, Reason) {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let sentence: Vec<_> = causes.map(ToString::to_string).collect();
    (sentence.join(": "), error.fault(), error.reason())
}

async fn digest(fetched: &Fetched, path: &str) -> Sha256Digest {
    let path: TreePath = path.parse().unwrap();
    let digests = fetched.archive.input_digests(std::slice::from_ref(&path));
    digests.await.unwrap()[&path]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_not_there_is_the_jobs_matter() {
    let rig = Rig::baked().await;
    let absent = rig.source(&"1".repeat(40), false);
    let (sentence, fault, reason) = told(&rig.bench.fetch(&absent).await.unwrap_err());
    assert!(sentence.contains("not our ref"), "{sentence}");
    assert_eq!((fault, reason), (Fault::Job, Reason::InvalidJob));
    let elsewhere = format!("https://{NAME}:{}/nothing/.git", rig.server.port);
    let elsewhere = source(&elsewhere, &rig.widget.head(), false);
    let (sentence, fault, _) = told(&rig.bench.fetch(&elsewhere).await.unwrap_err());
    assert!(sentence.contains("not found"), "{sentence}");
    assert_eq!(fault, Fault::Job);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_an_address_is_in_no_error() {
    let rig = Rig::baked().await;
    let uri = format!("{}?sig=secret", rig.uri(&rig.widget));
    let source = source(&uri, &"1".repeat(40), false);
    let (sentence, ..) = told(&rig.bench.fetch(&source).await.unwrap_err());
    assert!(!sentence.contains("secret"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_only_a_branch_leads_to_is_found_through_the_branch() {
    let rig = Rig::serving(Repository::new(), Manner::Old).await;
    rig.bench.bake_fetch_template().await;
    let commit = rig.widget.head();
    rig.widget.write("more", b"x");
    rig.widget.commit();
    let mut source = rig.source(&commit, false);
    let (sentence, fault, _) = told(&rig.bench.fetch(&source).await.unwrap_err());
    assert!(sentence.contains("unadvertised object"), "{sentence}");
    assert_eq!(fault, Fault::Job);
    let Source::Git(git) = &mut source else {
        panic!("made just now")
    };
    git.reference = Some("main".parse().unwrap());
    let fetched = rig.bench.fetch(&source).await.unwrap();
    assert_eq!(fetched.archive.entries(), 3);
    // A branch that leads elsewhere does not decide what is built.
    rig.widget
        .git(&["checkout", "--quiet", "--orphan", "other"]);
    rig.widget.commit();
    let absent = "1".repeat(40);
    let mut source = rig.source(&absent, false);
    let Source::Git(git) = &mut source else {
        panic!("made just now")
    };
    git.reference = Some("other".parse().unwrap());
    let (sentence, fault, reason) = told(&rig.bench.fetch(&source).await.unwrap_err());
    assert!(sentence.contains("bad object"), "{sentence}");
    assert_eq!((fault, reason), (Fault::Job, Reason::InvalidJob));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_does_not_hash_to_the_commit_is_refused() {
    let rig = Rig::baked().await;
    let commit = rig.widget.head();
    let tree = String::from_utf8(rig.widget.git(&["rev-parse", "HEAD:src/main.c"])).unwrap();
    let blob = tree.trim();
    rig.widget.write("src/main.c", b"int evil;\n");
    rig.widget.git(&["hash-object", "-w", "src/main.c"]);
    let evil = rig.widget.git(&["hash-object", "src/main.c"]);
    let evil = String::from_utf8(evil).unwrap();
    let file = |id: &str| {
        let (directory, name) = id.trim().split_at(2);
        rig.widget
            .path()
            .join(".git/objects")
            .join(directory)
            .join(name)
    };
    std::fs::remove_file(file(blob)).unwrap();
    std::fs::copy(file(&evil), file(blob)).unwrap();
    let (sentence, fault, reason) = told(
        &rig.bench
            .fetch(&rig.source(&commit, false))
            .await
            .unwrap_err(),
    );
    assert!(
        sentence.contains("did not send all necessary objects"),
        "{sentence}"
    );
    assert_eq!((fault, reason), (Fault::Job, Reason::SourceDigestMismatch));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_sends_another_commit_is_refused() {
    let widget = Repository::new();
    let program = widget.write(".git/lie", LIE);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let hook = format!("[uploadpack]\npackObjectsHook = {}\n", program.display());
    let configuration = widget.write(".git/lying", hook.as_bytes());
    let rig = Rig::serving(widget, Manner::Lying(configuration)).await;
    rig.bench.bake_fetch_template().await;
    let commit = rig.widget.head();
    rig.widget.git(&["checkout", "--quiet", "--orphan", "evil"]);
    rig.widget.write("src/main.c", b"int evil;\n");
    let evil = rig.widget.commit();
    rig.widget.write(".git/evil", evil.as_bytes());
    let (sentence, fault, reason) = told(
        &rig.bench
            .fetch(&rig.source(&commit, false))
            .await
            .unwrap_err(),
    );
    assert!(
        sentence.contains("did not send all necessary objects"),
        "{sentence}"
    );
    assert_eq!((fault, reason), (Fault::Job, Reason::SourceDigestMismatch));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_sends_other_content_is_refused_by_the_host() {
    let rig = Rig::new().await;
    rig.bench.bake_with_git(TAKEN_OVER).await;
    let source = rig.source(&rig.widget.head(), false);
    let (sentence, fault, reason) = told(&rig.bench.fetch(&source).await.unwrap_err());
    assert!(sentence.contains("hashes to"), "{sentence}");
    assert_eq!((fault, reason), (Fault::Job, Reason::SourceDigestMismatch));
    assert!(rig.bench.snapshots.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_git_itself_finds_fault_with_is_fetched() {
    let rig = Rig::baked().await;
    let tree = rig.widget.git(&["rev-parse", "HEAD^{tree}"]);
    let tree = String::from_utf8(tree).unwrap();
    let commit = format!(
        "tree {}\nauthor A <a@example.com> 01600000000 +0000\ncommitter A <a@example.com> 1600000000 +0000\n\nold\n",
        tree.trim()
    );
    rig.widget.write("commit", commit.as_bytes());
    let made = ["hash-object", "-t", "commit", "--literally", "-w", "commit"];
    let id = String::from_utf8(rig.widget.git(&made)).unwrap();
    let fetched = rig.bench.fetch(&rig.source(id.trim(), false)).await;
    assert_eq!(fetched.unwrap().archive.entries(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_template_the_operator_is_told_what_to_do() {
    let mut rig = Rig::new().await;
    let source = rig.source(&rig.widget.head(), false);
    let told_now = async |rig: &Rig| told(&rig.bench.fetch(&source).await.unwrap_err());
    let not_baked = "template fetch is not baked for class fake-1-none-00000000";
    let (sentence, fault, reason) = told_now(&rig).await;
    assert!(sentence.contains(not_baked), "{sentence}");
    assert_eq!((fault, reason), (Fault::Host, Reason::SourceUnavailable));
    let Shared { store, class, .. } = &*rig.bench.sources.shared;
    let name: Token = "fetch".parse().unwrap();
    let collected = store.set_template_key(class, &name, Sha256Digest::of("x"));
    collected.await.unwrap();
    let (sentence, ..) = told_now(&rig).await;
    assert!(sentence.contains(not_baked), "{sentence}");
    let shared = std::sync::Arc::get_mut(&mut rig.bench.sources.shared).unwrap();
    shared.config.fetch_template = None;
    let (sentence, fault, _) = told_now(&rig).await;
    assert!(sentence.contains("[git]"), "{sentence}");
    assert_eq!(fault, Fault::Host);
}
