//! Keys follow content: what changes one, what does not, and how many bakes that takes.

use anyhow::{Result, ensure};
use e2e::news::BakeNews;
use e2e::queue;
use schemas::bake::BakeEventKind;
use schemas::{JobResult, Reason, Trust};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stack::{Cases, LOCKED, key_of};

/// Prints what the setup made of the lockfile, and the file beside it.
const SHOW: &str = "cat made; test ! -e other || cat other";

pub(crate) async fn a_changed_lockfile_is_a_new_key_and_one_bake_and_the_old_snapshot_serves_on(
    cases: &mut Cases,
) -> Result<()> {
    let mut news = BakeNews::of(&cases.queue, LOCKED).await?;
    let (old_lock, old_source) = cases.locked_source(&[("other", "1")]).await?;
    let old = shows(cases, &old_source, &format!("{old_lock}1")).await?;
    let (lock, source) = cases.locked_source(&[("other", "1")]).await?;
    let new = shows(cases, &source, &format!("{lock}1")).await?;
    ensure!(key_of(&old)? != key_of(&new)?, "one key for two lockfiles");
    let again = shows(cases, &old_source, &format!("{old_lock}1")).await?;
    ensure!(
        key_of(&again)? == key_of(&old)?,
        "the old commit has another key"
    );
    let bakes = news.count(&cases.queue, BakeEventKind::Started).await?;
    ensure!(bakes == 2, "{bakes} bakes of two lockfiles");
    Ok(())
}

pub(crate) async fn a_changed_file_that_is_no_input_is_the_same_key(
    cases: &mut Cases,
) -> Result<()> {
    let mut news = BakeNews::of(&cases.queue, LOCKED).await?;
    let (lock, source) = cases.locked_source(&[("other", "1")]).await?;
    let first = shows(cases, &source, &format!("{lock}1")).await?;
    let changed = [("lock", lock.as_str()), ("other", "2")];
    let source = cases.queue.store_source(&changed).await?;
    let second = shows(cases, &source, &format!("{lock}2")).await?;
    ensure!(key_of(&first)? == key_of(&second)?, "another key");
    let bakes = news.count(&cases.queue, BakeEventKind::Started).await?;
    ensure!(bakes == 1, "{bakes} bakes of one lockfile");
    Ok(())
}

pub(crate) async fn an_environment_that_a_job_brings_along_is_baked_for_it(
    cases: &mut Cases,
) -> Result<()> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let mut job = queue::job(&source, "inline", "cat brought");
    job["environment"] = inline("inline", "cp lock brought");
    let result = cases.ends_with(&job, Reason::Completed).await?;
    ensure!(cases.log(&result).await? == lock);
    Ok(())
}

pub(crate) async fn a_definition_that_changes_is_baked_for_the_last_source_without_a_job(
    cases: &mut Cases,
) -> Result<()> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let mut definition = inline("changing", "cp lock made");
    definition["salt"] = json!(lock);
    cases.define(&definition).await?;
    let job = || queue::job(&source, "changing", "cat made");
    let first = cases.ends_with(&job(), Reason::Completed).await?;
    let mut news = BakeNews::of(&cases.queue, "changing").await?;
    definition["setup"][0]["sh"] = json!("echo changed > made");
    cases.define(&definition).await?;
    news.until(BakeEventKind::Published).await?;
    let second = cases.ends_with(&job(), Reason::Completed).await?;
    ensure!(key_of(&first)? != key_of(&second)?, "the key is the same");
    ensure!(cases.log(&second).await? == "changed\n");
    let bakes = news.count(&cases.queue, BakeEventKind::Started).await?;
    ensure!(bakes == 1, "{bakes} bakes of one change");
    Ok(())
}

pub(crate) async fn a_template_that_changes_is_baked_again_and_then_its_environments_last_source(
    cases: &mut Cases,
) -> Result<()> {
    let (lock, source) = cases.locked_source(&[]).await?;
    let template = cases.tiny_template("changing", &lock).await?;
    cases.define(&template).await?;
    let environment = inline_on("changing", "on-changing", "cat lock > made");
    cases.define(&environment).await?;
    let mut job = queue::job(&source, "on-changing", "cat made");
    let first = cases.ends_with(&job, Reason::Completed).await?;
    let mut news = BakeNews::of(&cases.queue, "on-changing").await?;
    let changed = cases
        .tiny_template("changing", &format!("{lock} changed"))
        .await?;
    cases.define(&changed).await?;
    // A request that found the first snapshot may be answered late: it waited for another guest to be made.
    let before = key_of(&first)?;
    let published = loop {
        let published = news.until(BakeEventKind::Published).await?;
        if published
            .key
            .is_some_and(|baked| baked.to_string() != before)
        {
            break published;
        }
    };
    job["id"] = json!(Uuid::now_v7().to_string());
    job["on_missing"] = json!("fail");
    let second = cases.ends_with(&job, Reason::Completed).await?;
    let key = key_of(&second)?;
    ensure!(before != key, "the key is the same");
    ensure!(published.key.is_some_and(|baked| baked.to_string() == key));
    ensure!(cases.log(&second).await? == lock);
    let template_of = async |key: &str| -> Result<Value> {
        Ok(cases.snapshots.manifest(key).await?["parts"]["template_key"].clone())
    };
    ensure!(template_of(&before).await? != template_of(&key).await?);
    Ok(())
}

pub(crate) async fn trusted_and_untrusted_jobs_of_one_lockfile_have_a_snapshot_each(
    cases: &mut Cases,
) -> Result<()> {
    let mut news = BakeNews::of(&cases.queue, LOCKED).await?;
    let (lock, source) = cases.locked_source(&[]).await?;
    let untrusted = shows_to(cases, Trust::Untrusted, &source, &lock, "bake").await?;
    let trusted = shows_to(cases, Trust::Trusted, &source, &lock, "bake").await?;
    ensure!(untrusted != trusted, "one key for both");
    // Each is there for its own jobs, and is what they fork.
    for (trust, key) in [(Trust::Untrusted, untrusted), (Trust::Trusted, trusted)] {
        let forked = shows_to(cases, trust, &source, &lock, "fail").await?;
        ensure!(forked == key, "{trust} jobs fork {forked}");
    }
    let heard = news.so_far(&cases.queue).await?.iter();
    let published = heard.filter(|event| event.kind.known() == Some(&BakeEventKind::Published));
    let published: Vec<_> = published.map(|event| event.trust).collect();
    ensure!(
        published == [Trust::Untrusted, Trust::Trusted],
        "{published:?}"
    );
    Ok(())
}

/// Runs a job of an author who is trusted so far, which must find what the lockfile made; gives the key that it ran in.
async fn shows_to(
    cases: &Cases,
    trust: Trust,
    source: &Value,
    lock: &str,
    on_missing: &str,
) -> Result<String> {
    let author = cases.queue.of_author(trust);
    let mut job = queue::job(source, LOCKED, "cat made");
    job["on_missing"] = json!(on_missing);
    let result = author.run(&job).await?;
    let (reason, message) = (&result.reason, &result.message);
    ensure!(
        reason.known() == Some(&Reason::Completed),
        "{trust}: {reason}: {message}"
    );
    ensure!(cases.log(&result).await? == lock);
    cases.is_settled().await?;
    key_of(&result)
}

/// An environment on the small Debian, as a job has it inline.
pub(crate) fn inline(name: &str, setup: &str) -> Value {
    inline_on("debian", name, setup)
}

/// The same on another template.
pub(crate) fn inline_on(template: &str, name: &str, setup: &str) -> Value {
    json!({
        "schema": "sourdough/environment/v1",
        "name": name,
        "template": template,
        "inputs": ["lock"],
        "setup": [{"name": "deps", "sh": setup, "timeout_s": 120}],
    })
}

/// Runs a job in the environment with the lockfile, which must find what its own lockfile made.
async fn shows(cases: &Cases, source: &Value, expected: &str) -> Result<JobResult> {
    let job = queue::job(source, LOCKED, SHOW);
    let result = cases.ends_with(&job, Reason::Completed).await?;
    let shown = cases.log(&result).await?;
    ensure!(shown == expected, "{shown} in place of {expected}");
    Ok(result)
}
