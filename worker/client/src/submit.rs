//! `sourdough submit`: check, pack and upload where the source is a directory, publish; then, if asked to, follow the log and wait for
//! the result.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use bus::objects::Objects;
use bus::retry::Policy;
use bus::{nats, results};
use schemas::event::Event;
use schemas::source::{ArchiveSource, Source};
use schemas::{EnvironmentChoice, Job, JobResult, Token};
use tokio::sync::mpsc;

use crate::args::{Environment, Submit};
use crate::definition::inline;
use crate::follow::{Chunk, follow};
use crate::git::Head;
use crate::interrupt::Interrupt;
use crate::pack::{self, Packed};
use crate::progress::Progress;
use crate::transcript::{Showing, Transcript};
use crate::waiting::{self, Waiting};
use crate::{exit, job, publish, summary, upload};

/// 1 min: a person who waits longer wants to know why.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// 10 s: the last chunks are published before the result, so only a connection that comes back makes them later than that.
const REST_OF_LOG: Duration = Duration::from_secs(10);

/// Chunks between the connection and the terminal: 4 MiB at most.
const CHUNKS_AHEAD: usize = 64;

/// Does it all, and gives the code to exit with.
pub(crate) async fn run(submit: &Submit, interrupt: &mut Interrupt) -> anyhow::Result<ExitCode> {
    let draft = job::draft(submit, environment(&submit.environment)?)?;
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
    interrupt.or(Box::pin(queued(submit, &job, progress))).await
}

/// The environment by its name, or as the file has it.
fn environment(asked: &Environment) -> anyhow::Result<EnvironmentChoice> {
    match (&asked.name, &asked.file) {
        (_, Some(file)) => Ok(EnvironmentChoice::Inline(Box::new(inline(file)?))),
        (Some(name), None) => Ok(name.clone().into()),
        (None, None) => anyhow::bail!("name an environment with --environment"),
    }
}

/// Publishes, and waits for the result if asked to.
async fn queued(submit: &Submit, job: &Job, progress: Progress) -> anyhow::Result<ExitCode> {
    progress.now("publishing");
    let policy = Policy::up_to(GIVE_UP_AFTER);
    let client = nats::connect_within(&submit.servers.nats(), "sourdough", policy).await?;
    let jetstream = jetstream::new(client.clone());
    publish::publish(&jetstream, &submit.queue.subject(), job).await?;
    progress.clear();
    if !submit.wait && !submit.json {
        writeln!(io::stdout(), "{}", job.id)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("job {}", job.id);
    let result = result(submit, &client, &jetstream, job).await?;
    report(submit, &result)?;
    Ok(exit::code(&result).into())
}

/// Packs, and warns of what is left out.
async fn packed(submit: &Submit) -> anyhow::Result<Packed> {
    let dir = submit.dir.clone();
    let packing = tokio::task::spawn_blocking(move || -> Result<_, pack::PackError> {
        let head = Head::of(&dir)?;
        Ok((head.has_changes()?, pack::pack(&head)?))
    });
    let (changes, packed) = packing.await.context("pack the tree")??;
    if changes {
        eprintln!("warning: there are changes that are not committed; HEAD is built, without them");
    }
    Ok(packed)
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

/// Shows the log until the result is there and the log of its attempt is complete.
async fn result(
    submit: &Submit,
    client: &async_nats::Client,
    jetstream: &jetstream::Context,
    job: &Job,
) -> anyhow::Result<JobResult> {
    let (tenant, job_id) = (submit.queue.subject().tenant, Token::from(job.id));
    let (sender, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
    let log = follow(jetstream.clone(), tenant.clone(), job_id.clone(), sender);
    let (sender, mut events) = mpsc::channel(CHUNKS_AHEAD);
    let news = waiting::follow(jetstream.clone(), tenant.clone(), job_id.clone(), sender);
    let following = [tokio::spawn(log), tokio::spawn(news)];
    let mut screen = Screen::new(submit.json);
    let waiting = results::wait(client, jetstream, &tenant, &job_id);
    tokio::pin!(waiting);
    let result = loop {
        tokio::select! {
            Some(chunk) = chunks.recv() => screen.show(&chunk)?,
            Some(event) = events.recv() => screen.tell(&event),
            result = &mut waiting => break result?,
        }
    };
    screen.show_rest(&mut chunks, &result).await?;
    for task in following {
        task.abort();
    }
    Ok(result)
}

fn report(submit: &Submit, result: &JobResult) -> anyhow::Result<()> {
    for line in summary::lines(result) {
        eprintln!("{line}");
    }
    if submit.json {
        let mut stdout = io::stdout().lock();
        serde_json::to_writer(&mut stdout, result)?;
        writeln!(stdout)?;
    }
    Ok(())
}

/// Where the log is shown.
struct Screen {
    transcript: Transcript,
    waiting: Waiting,
    /// Standard output, or standard error where the result goes to standard output.
    out: Box<dyn io::Write + Send>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let out: Box<dyn io::Write + Send> = if json {
            Box::new(io::stderr())
        } else {
            Box::new(io::stdout())
        };
        Self {
            transcript: Transcript::default(),
            waiting: Waiting::default(),
            out,
        }
    }

    fn tell(&mut self, event: &Event) {
        if let Some(line) = self.waiting.line(event) {
            eprintln!("{line}");
        }
    }

    fn show(&mut self, chunk: &Chunk) -> io::Result<()> {
        let lost = match self.transcript.take(&chunk.header) {
            Showing::Skip => return Ok(()),
            Showing::Show { lost } => lost,
            Showing::NewAttempt { lost } => {
                eprintln!(
                    "note: the host failed; this is attempt {}",
                    chunk.header.attempt
                );
                lost
            }
        };
        if lost > 0 {
            eprintln!("note: chunks of the live log missing here: {lost}");
        }
        self.out.write_all(&chunk.bytes)?;
        self.out.flush()
    }

    /// Shows what is left of the log of the result's attempt.
    async fn show_rest(
        &mut self,
        chunks: &mut mpsc::Receiver<Chunk>,
        result: &JobResult,
    ) -> io::Result<()> {
        let Some(log) = &result.log else {
            return Ok(());
        };
        let deadline = tokio::time::sleep(REST_OF_LOG);
        tokio::pin!(deadline);
        while !self.transcript.is_complete(result.attempt) {
            tokio::select! {
                Some(chunk) = chunks.recv() => self.show(&chunk)?,
                () = &mut deadline => {
                    eprintln!("note: the rest of the live log did not come; all of it is at {}", log.uri);
                    return Ok(());
                }
            }
        }
        let lost = log.chunks_lost.max(self.transcript.lost());
        if lost > 0 {
            eprintln!(
                "note: chunks of the live log lost: {lost}; all of it is at {}",
                log.uri
            );
        }
        Ok(())
    }
}
