//! Sources that lie behind https, from a real server on loopback: commits of git repositories, and archives.

use anyhow::{Context as _, Result, ensure};
use e2e::archive;
use e2e::project::Project;
use e2e::queue;
use schemas::{JobResult, Reason, Sha256Digest};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stack::{Cases, PLAIN};

pub(crate) async fn a_commit_is_built_and_the_second_job_fetches_nothing(
    cases: &mut Cases,
) -> Result<()> {
    cases.is_baked("fetch").await?;
    let (name, project) = repository(cases, &[("file", "by commit\n")])?;
    let job = || git_job(cases, &format!("git/{name}"), &project, "cat file");
    let first = cases.ends_with(&job()?, Reason::Completed).await?;
    ensure!(cases.log(&first).await? == "by commit\n");
    names_its_commit(&first, &project)?;
    let requests = cases.web()?.requests();
    ensure!(!requests.is_empty(), "nothing was fetched");
    let second = cases.ends_with(&job()?, Reason::Completed).await?;
    names_its_commit(&second, &project)?;
    ensure!(cases.web()?.requests() == requests, "it was fetched again");
    Ok(())
}

pub(crate) async fn other_content_under_a_commits_name_is_refused(cases: &mut Cases) -> Result<()> {
    cases.is_baked("fetch").await?;
    let (name, project) = repository(cases, &[("file", "what was asked for\n")])?;
    project.branch("other", "file", "what is sent\n")?;
    cases.web()?.add_repository(&name, &project)?;
    let job = git_job(cases, &format!("evil/{name}"), &project, "cat file")?;
    let result = cases.ends_with(&job, Reason::SourceDigestMismatch).await?;
    was_not_built(&result)
}

pub(crate) async fn a_branch_that_leads_elsewhere_is_refused(cases: &mut Cases) -> Result<()> {
    cases.is_baked("fetch").await?;
    let (name, project) = repository(cases, &[("file", "served\n")])?;
    let absent = Project::of_file("file", &Uuid::new_v4().to_string())?;
    let mut job = git_job(cases, &format!("git/{name}"), &absent, "cat file")?;
    job["source"]["git"]["ref"] = json!("main");
    let result = cases.ends_with(&job, Reason::InvalidJob).await?;
    ensure!(project.head()? != absent.head()?);
    was_not_built(&result)
}

pub(crate) async fn a_submodule_is_built_where_the_tree_has_it(cases: &mut Cases) -> Result<()> {
    cases.is_baked("fetch").await?;
    let (inner_name, inner) = repository(cases, &[("file", "from the submodule\n")])?;
    let (name, project) = repository(cases, &[("file", "outer\n")])?;
    let uri = cases.web()?.uri(&format!("git/{inner_name}"));
    project.add_submodule("inner", &uri, &inner.head()?)?;
    cases.web()?.add_repository(&name, &project)?;
    let mut job = git_job(
        cases,
        &format!("git/{name}"),
        &project,
        "cat file inner/file",
    )?;
    job["source"]["git"]["submodules"] = json!(true);
    let result = cases.ends_with(&job, Reason::Completed).await?;
    let shown = cases.log(&result).await?;
    ensure!(shown == "outer\nfrom the submodule\n", "{shown}");
    Ok(())
}

pub(crate) async fn a_host_that_the_operator_does_not_allow_is_refused(
    cases: &mut Cases,
) -> Result<()> {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let git = json!({"git": {"uri": "https://git.example.com/a", "digest": {"gitCommit": commit}}});
    let digest = Sha256Digest::of(b"");
    let archive = queue::source("https://files.example.com/a.tar.zst", &digest);
    for source in [git, archive] {
        let job = queue::job(&source, PLAIN, "true");
        let result = cases.ends_with(&job, Reason::InvalidJob).await?;
        ensure!(result.message.contains("example.com"), "{}", result.message);
        was_not_built(&result)?;
    }
    Ok(())
}

pub(crate) async fn an_archive_is_fetched_over_https_and_its_digest_is_checked(
    cases: &mut Cases,
) -> Result<()> {
    let packed = archive::pack(&[("file", &Uuid::new_v4().to_string())])?;
    cases.web()?.add_file("a.tar.zst", &packed)?;
    let uri = cases.web()?.uri("files/a.tar.zst");
    let source = queue::source(&uri, &Sha256Digest::of(&packed));
    let job = queue::job(&source, PLAIN, "test -s file");
    cases.ends_with(&job, Reason::Completed).await?;
    let source = queue::source(&uri, &Sha256Digest::of(b"something else"));
    let job = queue::job(&source, PLAIN, "true");
    let result = cases.ends_with(&job, Reason::SourceDigestMismatch).await?;
    was_not_built(&result)
}

/// A repository that no other run had, and the name under which it is served.
fn repository(cases: &Cases, files: &[(&str, &str)]) -> Result<(String, Project)> {
    let name = Uuid::new_v4().simple().to_string();
    let mut files = files.to_vec();
    files.push(("unique", &name));
    let project = Project::of_files(&files)?;
    cases.web()?.add_repository(&name, &project)?;
    Ok((name, project))
}

/// A job that builds what is checked out in the project, from a path of the server.
fn git_job(cases: &Cases, path: &str, project: &Project, script: &str) -> Result<Value> {
    let uri = cases.web()?.uri(path);
    let source = json!({"git": {"uri": uri, "digest": {"gitCommit": project.head()?}}});
    Ok(queue::job(&source, PLAIN, script))
}

fn names_its_commit(result: &JobResult, project: &Project) -> Result<()> {
    let source = result
        .source
        .as_ref()
        .context("a result names its source")?;
    let commit = source.digest.git_commit.as_ref().map(ToString::to_string);
    ensure!(commit == Some(project.head()?), "{commit:?}");
    Ok(())
}

fn was_not_built(result: &JobResult) -> Result<()> {
    ensure!(result.timing.vm_ready_at.is_none(), "a VM was forked");
    Ok(())
}
