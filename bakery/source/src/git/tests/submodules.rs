//! Submodules, from repositories beside each other, and those that cannot be had.

use schemas::Reason;
use store::Fault;

use super::*;

/// Adds `child` to `parent` at `path`, with `url` in its `.gitmodules`, and commits that; returns the commit.
fn add_submodule(parent: &Repository, path: &str, child: &Repository, url: &str) -> String {
    let modules = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    parent.write(".gitmodules", modules.as_bytes());
    let info = format!("160000,{},{path}", child.head());
    parent.git(&["update-index", "--add", "--cacheinfo", &info]);
    parent.git(&["add", ".gitmodules"]);
    parent.git(&["commit", "--quiet", "--message=submodule"]);
    parent.head()
}

/// A relative address from one repository to another beside it.
fn beside(repository: &Repository) -> String {
    let name = repository.path().file_name().unwrap().to_str().unwrap();
    format!("../../{name}/.git")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submodules_are_fetched_at_the_commits_that_the_trees_pin() {
    let rig = Rig::baked().await;
    let (inner, outer) = (Repository::new(), Repository::new());
    inner.write("deep", b"deep\n");
    inner.commit();
    outer.write("lib.c", b"lib\n");
    outer.commit();
    add_submodule(&outer, "third/inner", &inner, &beside(&inner));
    // Later commits of the branches do not count.
    let commit = add_submodule(&rig.widget, "vendor/outer", &outer, &beside(&outer));
    outer.write("lib.c", b"newer\n");
    outer.git(&["add", "lib.c"]);
    outer.git(&["commit", "--quiet", "--message=newer"]);
    let fetched = rig.bench.fetch(&rig.source(&commit, true)).await.unwrap();
    let lib = digest(&fetched, "vendor/outer/lib.c").await;
    assert_eq!(lib, Sha256Digest::of(b"lib\n"));
    let deep = digest(&fetched, "vendor/outer/third/inner/deep").await;
    assert_eq!(deep, Sha256Digest::of(b"deep\n"));
    assert!(
        fetched
            .stored
            .uri
            .to_string()
            .ends_with("/submodules.tar.zst")
    );
    let plain = rig.bench.fetch(&rig.source(&commit, false)).await.unwrap();
    assert_ne!(plain.digest.sha256, fetched.digest.sha256);
    // package.json, src/main.c, .gitmodules, and the directories src, vendor and vendor/outer, which is empty.
    assert_eq!(plain.archive.entries(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submodule_that_cannot_be_had_is_named() {
    let rig = Rig::baked().await;
    for (url, problem) in [
        (
            "https://other.example.com/a",
            "the tenant may not fetch https://other.example.com/a",
        ),
        ("git@git.example.com:a", "does not lead to https"),
        ("../../../../../x", "does not lead to https"),
    ] {
        let commit = add_submodule(&rig.widget, "vendor/lib", &rig.widget, url);
        let error = rig
            .bench
            .fetch(&rig.source(&commit, true))
            .await
            .unwrap_err();
        let (sentence, fault, reason) = told(&error);
        assert!(sentence.contains("submodule vendor/lib: "), "{sentence}");
        assert!(sentence.contains(problem), "{sentence}");
        assert_eq!((fault, reason), (Fault::Job, Reason::InvalidJob));
    }
    let asked = rig.bench.resolver.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|name| name == NAME), "{asked:?}");
}
