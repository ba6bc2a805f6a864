//! The job that the command line describes.

use schemas::artifact::Artifact;
use schemas::job::{Job, JobSchema, Retry, Timeouts};
use schemas::source::{ArchiveSource, GitDigest, GitSource, Source};
use schemas::step::{Command, Step};
use schemas::{EnvironmentChoice, FieldError, Glob, ObjectUri, Sha256Digest, Token, names};
use uuid::Uuid;

use crate::args::{Named, Pinned, Submit};

/// A job that is right but for its source, which nobody knows before it is packed.
#[derive(Debug)]
pub(crate) struct Draft(Job);

/// The job with its source.
pub(crate) fn of(draft: Draft, source: Source) -> Job {
    Job { source, ..draft.0 }
}

/// The source that the command line names; none where it is a directory.
pub(crate) fn pinned(pinned: &Pinned) -> Option<Source> {
    if let (Some(uri), Some(commit)) = (&pinned.git, &pinned.commit) {
        return Some(Source::Git(GitSource {
            uri: uri.clone(),
            digest: GitDigest {
                git_commit: commit.clone(),
            },
            reference: pinned.reference.clone(),
            submodules: pinned.submodules,
        }));
    }
    let (uri, digest) = (pinned.archive_uri.clone()?, pinned.sha256?);
    Some(Source::Archive(ArchiveSource {
        uri,
        digest: digest.into(),
    }))
}

/// Makes the draft, and refuses it here if a worker would refuse the job.
pub(crate) fn draft(submit: &Submit, environment: EnvironmentChoice) -> Result<Draft, FieldError> {
    let job = Job {
        schema: JobSchema,
        id: Uuid::now_v7(),
        source: match pinned(&submit.pinned) {
            Some(source) => source,
            None => Source::Archive(nothing(submit)?),
        },
        environment,
        on_missing: submit.on_missing,
        steps: steps(&submit.steps, submit.timeout),
        env: submit
            .env
            .iter()
            .map(|pair| (pair.name.clone(), pair.value.clone()))
            .collect(),
        timeouts: Timeouts {
            queue_s: submit.queue_timeout,
            run_s: submit.timeout,
            ..Timeouts::default()
        },
        artifacts: artifacts(&submit.artifacts)?,
        retry: Retry {
            max_attempts: submit.max_attempts,
        },
        labels: submit
            .labels
            .iter()
            .map(|pair| (pair.name.clone(), pair.value.clone()))
            .collect(),
    };
    job.check()?;
    Ok(Draft(job))
}

/// What stands for the source in a draft: no bytes, where they would lie.
fn nothing(submit: &Submit) -> Result<ArchiveSource, FieldError> {
    let digest = Sha256Digest::of(b"");
    let key = names::source_object(&submit.queue.subject().tenant, &digest);
    let uri = ObjectUri::new(&submit.servers.objects().buckets.sources, &key)
        .map_err(|error| FieldError::new("source.archive.uri", error.to_string()))?;
    Ok(ArchiveSource {
        uri: uri.into(),
        digest: digest.into(),
    })
}

/// Each step may take as long as all together.
fn steps(steps: &[Named], timeout_s: u32) -> Vec<Step> {
    let step = |(index, step): (usize, &Named)| {
        let name = name(step, "step", index);
        Step {
            timeout_s,
            ..Step::new(name, Command::Sh(step.rest.clone()))
        }
    };
    steps.iter().enumerate().map(step).collect()
}

fn artifacts(artifacts: &[Named]) -> Result<Vec<Artifact>, FieldError> {
    let artifact = |(index, artifact): (usize, &Named)| {
        let refuse = |error: schemas::TextError| {
            FieldError::new(format!("artifacts[{index}].paths[0]"), error.to_string())
        };
        let glob = Glob::parse(artifact.rest.as_str()).map_err(refuse)?;
        Ok(Artifact::new(name(artifact, "artifact", index), vec![glob]))
    };
    artifacts.iter().enumerate().map(artifact).collect()
}

/// The name that was given, else `step-1` and so on.
fn name(named: &Named, word: &str, index: usize) -> Token {
    let numbered =
        || Token::parse(format!("{word}-{}", index + 1)).expect("a word, a hyphen and a number");
    named.name.clone().unwrap_or_else(numbered)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{self, Args};

    fn job_of(flags: &[&str]) -> Result<Job, FieldError> {
        let args = Args::try_parse_from(
            [&["sourdough", "submit", "--environment", "widget"], flags].concat(),
        )
        .unwrap();
        let args::Command::Submit(submit) = args.command else {
            panic!("another command")
        };
        let packed = Source::Archive(ArchiveSource {
            uri: ObjectUri::new("build-sources", "acme/x").unwrap().into(),
            digest: Sha256Digest::of(b"x").into(),
        });
        let source = pinned(&submit.pinned).unwrap_or(packed);
        let name: Token = "widget".parse().unwrap();
        draft(&submit, name.into()).map(|draft| of(draft, source))
    }

    #[test]
    fn flags_become_the_fields_of_a_job() {
        let job = job_of(&[
            "--step",
            "make",
            "--step",
            "test: make test",
            "--artifact",
            "dist/**",
            "--env",
            "CI=true",
            "--timeout",
            "60",
            "--queue-timeout",
            "90",
            "--max-attempts",
            "1",
        ]);
        let job = serde_json::to_value(job.unwrap()).unwrap();
        assert_eq!(job["source"]["archive"]["uri"], "s3://build-sources/acme/x");
        assert_eq!(job["steps"][0]["name"], "step-1");
        assert_eq!(job["steps"][1]["name"], "test");
        assert_eq!(job["steps"][1]["sh"], "make test");
        assert_eq!(job["steps"][1]["timeout_s"], 60);
        assert_eq!(job["timeouts"]["run_s"], 60);
        assert_eq!(job["timeouts"]["queue_s"], 90);
        assert_eq!(job["retry"]["max_attempts"], 1);
        assert_eq!(job["artifacts"][0]["name"], "artifact-1");
        assert_eq!(job["env"]["CI"], "true");
        Job::parse(job.to_string().as_bytes()).unwrap();
    }

    #[test]
    fn a_commit_and_an_archive_are_sources_too() {
        let commit = "a".repeat(40);
        let git = [
            "--git",
            "https://git.example.com/a.git",
            "--commit",
            &commit,
        ];
        let job = job_of(&[&git[..], &["--ref", "main", "--on-missing", "cold"]].concat());
        let job = serde_json::to_value(job.unwrap()).unwrap();
        assert_eq!(job["source"]["git"]["digest"]["gitCommit"], commit);
        assert_eq!(job["source"]["git"]["ref"], "main");
        assert_eq!(job["on_missing"], "cold");
        let sha256 = Sha256Digest::of("a").to_string();
        let archive = [
            "--archive-uri",
            "https://files.example.com/a.tar.zst",
            "--sha256",
            &sha256,
        ];
        let job = serde_json::to_value(job_of(&archive).unwrap()).unwrap();
        assert_eq!(job["source"]["archive"]["digest"]["sha256"], sha256);
    }

    #[test]
    fn what_a_worker_would_refuse_is_refused_before_it_is_published() {
        assert_eq!(
            job_of(&["--artifact", "../x"]).unwrap_err().to_string(),
            "artifacts[0].paths[0]: must not leave the source tree, is \"../x\""
        );
        assert_eq!(
            job_of(&["--timeout", "0"]).unwrap_err().to_string(),
            "steps[0].timeout_s: must be between 1 and 86400, is 0"
        );
        for flags in [["--max-attempts", "0"], ["--queue-timeout", "0"]] {
            assert!(job_of(&flags).is_err(), "{flags:?}");
        }
        let error = job_of(&["--source-bucket", "A/B"]).unwrap_err();
        assert_eq!(error.field, "source.archive.uri");
    }
}
