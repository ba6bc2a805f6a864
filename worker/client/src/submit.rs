//! `sourdough submit`: check, pack and upload where the source is a directory, publish; then, if asked to, follow the log and wait for
//! the result.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use bus::objects::Objects;
use bus::retry::Policy;
use schemas::EnvironmentChoice;
use schemas::source::{ArchiveSource, Source};

use crate::args::{Environment, Submit};
use crate::definition::inline;
use crate::git::Head;
use crate::interrupt::Interrupt;
use crate::job_name::JobName;
use crate::pack::{self, Packed};
use crate::progress::Progress;
use crate::screen::Screen;
use crate::server::{GIVE_UP_AFTER, Server};
use crate::summary::one_line;
use crate::traceparent::{Traceparent, VARIABLE};
use crate::{exit, job, outcome, publish, upload};

/// Paths that are named of those that are not committed; of more, only the number is.
const NAMED_CHANGES: usize = 4;

/// Does it all, and gives the code to exit with.
pub(crate) async fn run(submit: &Submit, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    let draft = job::draft(submit, environment(&submit.environment)?)?;
    let trace = trace(submit);
    let progress = Progress::start("packing");
    let source = match job::pinned(&submit.pinned) {
        Some(source) => source,
        None => {
            let packed = interrupt.or(packed(submit)).await?;
            progress.now("uploading");
            Source::Archive(uploaded(submit, packed, interrupt).await?)
        }
    };
    let job = job::of(draft, source);
    let name = JobName {
        tenant: submit.queue.subject().tenant,
        id: job.id.into(),
    };
    progress.now("publishing");
    let server = interrupt.or(Server::connect(&submit.servers)).await?;
    let subject = submit.queue.subject();
    let published = Box::pin(publish::publish(&server, &subject, &job, trace.as_ref()));
    interrupt.or_leave(name.clone(), published).await?;
    progress.clear();
    let told = Box::pin(told(&server, &name, submit.wait, submit.json));
    interrupt.or_leave(name.clone(), told).await
}

/// The environment by its name, or as the file has it.
fn environment(asked: &Environment) -> anyhow::Result<EnvironmentChoice> {
    match (&asked.name, &asked.file) {
        (_, Some(file)) => Ok(EnvironmentChoice::Inline(Box::new(inline(file)?))),
        (Some(name), None) => Ok(name.clone().into()),
        (None, None) => anyhow::bail!("name an environment with --environment"),
    }
}

/// The trace that the job belongs to, if any.
fn trace(submit: &Submit) -> Option<Traceparent> {
    let given = submit.traceparent.clone();
    given.or_else(|| Traceparent::of_variable(std::env::var_os(VARIABLE).as_deref()))
}

/// Says the id of a job that was published; waits for its result where that is asked for.
pub(crate) async fn told(
    server: &Server,
    job: &JobName,
    wait: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if !wait && !json {
        writeln!(io::stdout(), "{}", job.id)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("job {}", job.id);
    let result = outcome::with_log(server, job, &mut Screen::new(json)).await?;
    outcome::report(&result, json)?;
    Ok(exit::code(&result).into())
}

/// Packs, and says what of the directory is in it that is not committed, or is not.
async fn packed(submit: &Submit) -> anyhow::Result<Packed> {
    let (dir, dirty) = (submit.dir.clone(), submit.dirty);
    let packing = tokio::task::spawn_blocking(move || -> Result<_, pack::PackError> {
        let head = Head::of(&dir)?;
        let changes = head.changes()?;
        let tree = if dirty { head.with_changes()? } else { head };
        Ok((changes, pack::pack(&tree)?))
    });
    let (changes, packed) = packing.await.context("pack the tree")??;
    if let Some(line) = of_changes(&changes, dirty) {
        eprintln!("{line}");
    }
    Ok(packed)
}

/// What is said of what is not committed.
fn of_changes(changes: &[String], dirty: bool) -> Option<String> {
    let (first, more) = changes.split_at(changes.len().min(NAMED_CHANGES));
    let named: Vec<_> = first.iter().map(|path| one_line(path)).collect();
    let mut named = named.join(", ");
    if !more.is_empty() {
        named = format!("{named} and {} more", more.len());
    }
    match (changes.is_empty(), dirty) {
        (true, _) => None,
        (false, true) => Some(format!(
            "note: the directory is built as it stands, with what is not committed: {named}"
        )),
        (false, false) => Some(format!(
            "warning: HEAD is built, without what is not committed (--dirty takes it along): {named}"
        )),
    }
}

async fn uploaded(
    submit: &Submit,
    packed: Packed,
    interrupt: &mut Interrupt,
) -> anyhow::Result<ArchiveSource> {
    let objects = Objects::connect(&submit.servers.objects()).await?;
    let ready = objects.wait_ready_within(Policy::up_to(GIVE_UP_AFTER));
    interrupt.or(ready).await?;
    upload::upload(&objects, &submit.queue.subject().tenant, packed, interrupt).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_committed_is_named_whether_it_is_built_or_not() {
        let changes = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let few: Vec<_> = changes(&["a", "b\n"]);
        let said = of_changes(&few, false).unwrap();
        assert!(said.starts_with("warning: HEAD is built, without") && said.ends_with(": a, b "));
        let many: Vec<_> = changes(&["a", "b", "c", "d", "e", "f"]);
        let said = of_changes(&many, true).unwrap();
        assert!(said.starts_with("note: the directory is built as it stands"));
        assert!(said.ends_with(": a, b, c, d and 2 more"), "{said}");
        assert_eq!(of_changes(&[], true), None);
    }
}
