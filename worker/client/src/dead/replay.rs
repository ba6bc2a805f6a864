//! The job that a dead letter becomes again: the body that it had, under a new id, with a label that names the old one.

use anyhow::{Context as _, anyhow, bail};
use schemas::dead::{DeadLetter, REPLAY_OF};
use schemas::{FieldError, Job, JobSubject};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The job, and where it goes.
pub(super) fn of(letter: &DeadLetter) -> anyhow::Result<(JobSubject, Job)> {
    let id = &letter.job_id;
    let subject = letter.subject.parse();
    let subject = subject.with_context(|| format!("the subject of the dead job {id}"))?;
    let mut body = object(letter)?;
    body.insert("id".to_owned(), Uuid::now_v7().to_string().into());
    let labels = body
        .entry("labels")
        .or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(labels) = labels else {
        bail!("the labels of the dead job {id} are not a JSON object: it cannot be replayed");
    };
    labels.insert(REPLAY_OF.to_owned(), id.to_string().into());
    let body = Value::Object(body).to_string();
    let job = Job::parse(body.as_bytes()).map_err(|error| {
        anyhow!(
            "the dead job {id} cannot be replayed: {error}{}",
            hint(&error)
        )
    })?;
    Ok((subject, job))
}

/// What a person can do about it.
fn hint(error: &FieldError) -> String {
    if error.field == "labels" {
        format!(
            "; one of them is {REPLAY_OF}, which a replay adds: publish the body that `sourdough dead show` prints with a label less and a new id"
        )
    } else {
        String::new()
    }
}

fn object(letter: &DeadLetter) -> anyhow::Result<Map<String, Value>> {
    serde_json::from_str(&letter.body).map_err(|error| {
        anyhow!(
            "the body of the dead job {} is not a JSON object: it cannot be replayed: {error}",
            letter.job_id
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTER: &[u8] = include_bytes!("../../../../schemas/examples/dead-letter.json");
    const JOB: &str = include_str!("../../../../schemas/examples/job.json");

    fn letter(body: &str) -> DeadLetter {
        DeadLetter {
            body: body.to_owned(),
            ..DeadLetter::parse(LETTER).unwrap()
        }
    }

    #[test]
    fn a_replayed_job_differs_by_its_id_and_a_label() {
        let before = Job::parse(JOB.as_bytes()).unwrap();
        let (subject, job) = of(&letter(JOB)).unwrap();
        assert_eq!(subject.to_string(), "build.job.default.untrusted.5.acme");
        assert_ne!(job.id, before.id);
        assert_eq!(job.id.get_version_num(), 7);
        assert_eq!(job.labels[REPLAY_OF], before.id.to_string());
        let mut same = job.clone();
        same.id = before.id;
        same.labels.remove(REPLAY_OF);
        assert_eq!(same, before);
    }

    #[test]
    fn a_job_without_room_for_a_label_is_refused_with_what_to_do() {
        let with = |labels: usize, replayed: bool| {
            let mut job = Job::parse(JOB.as_bytes()).unwrap();
            job.labels = (0..labels)
                .map(|one| (one.to_string(), String::new()))
                .collect();
            if replayed {
                job.labels.insert(REPLAY_OF.to_owned(), "before".to_owned());
            }
            of(&letter(&serde_json::to_string(&job).unwrap()))
        };
        assert!(with(63, false).is_ok());
        assert!(with(63, true).is_ok(), "the label is there already");
        let said = with(64, false).unwrap_err().to_string();
        let words = "has 65; one of them is replay_of, which a replay adds: publish the body";
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_body_that_is_no_job_is_refused_in_words() {
        for (body, words) in [
            ("[1]", "is not a JSON object"),
            ("not json", "is not a JSON object"),
            (r#"{"labels": 7}"#, "labels of the dead job"),
            ("{}", "cannot be replayed: "),
        ] {
            let said = of(&letter(body)).unwrap_err().to_string();
            assert!(said.contains(words), "{body}: {said}");
        }
    }
}
