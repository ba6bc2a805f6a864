//! The golden messages in `schemas/examples`: the good ones parse and, written again, lose nothing; the refused ones are refused with
//! exactly their sentence. A refused message is a good one with some fields set or removed.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail by panicking, as the test does"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemas::bake::{BakeEvent, BakeFailure, BakeRequest, BakeTrigger, RecentBakes};
use schemas::dead::DeadLetter;
use schemas::event::Event;
use schemas::record::JobRecord;
use schemas::{Environment, FieldError, Job, JobResult, Template, Tenant, WorkerState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Reads a message of one kind and writes it again.
type Rewrite = fn(&[u8]) -> Result<Value, FieldError>;

/// Every kind of message, by the start of its files' names.
const KINDS: [(&str, Rewrite); 14] = [
    ("job", |body| Job::parse(body).map(written)),
    ("environment", |body| Environment::parse(body).map(written)),
    ("template", |body| Template::parse(body).map(written)),
    ("tenant", |body| Tenant::parse(body).map(written)),
    ("worker", |body| WorkerState::parse(body).map(written)),
    ("bake-failure", |body| BakeFailure::parse(body).map(written)),
    ("recent-bakes", |body| RecentBakes::parse(body).map(written)),
    ("bake-request", |body| BakeRequest::parse(body).map(written)),
    ("bake-trigger", |body| BakeTrigger::parse(body).map(written)),
    ("bake-event", |body| BakeEvent::parse(body).map(written)),
    ("event", |body| Event::parse(body).map(written)),
    ("result", |body| JobResult::parse(body).map(written)),
    ("record", |body| JobRecord::parse(body).map(written)),
    ("dead-letter", |body| DeadLetter::parse(body).map(written)),
];

/// How a good message becomes one that is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    remove: Vec<String>,
    sentence: String,
}

#[test]
fn every_good_message_is_read_and_nothing_of_it_is_lost() {
    for (kind, rewrite) in KINDS {
        for file in files_of_kind(&examples(), kind) {
            let body = std::fs::read(&file).unwrap();
            let again = rewrite(&body).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let given: Value = serde_json::from_slice(&body).unwrap();
            assert_holds(&again, &given, &file.display().to_string());
        }
    }
}

#[test]
fn every_refused_message_is_refused_with_its_sentence() {
    for (kind, rewrite) in KINDS {
        let good: Value = read(&examples().join(format!("{kind}.json")));
        for file in files_of_kind(&examples().join("refused"), kind) {
            for refused in read::<Vec<Refused>>(&file) {
                let body = refused.applied_to(good.clone()).to_string();
                let error = rewrite(body.as_bytes()).expect_err(&refused.sentence);
                assert_eq!(error.to_string(), refused.sentence);
            }
        }
    }
}

#[test]
fn every_example_is_of_some_kind() {
    for file in json_files(&examples()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            KINDS.iter().any(|(kind, _)| is_of_kind(&file, kind)),
            "{name}"
        );
    }
}

impl Refused {
    fn applied_to(&self, mut message: Value) -> Value {
        for (pointer, value) in &self.set {
            let (object, field) = parent(&mut message, pointer);
            match object {
                Value::Array(items) => items[field.parse::<usize>().unwrap()] = value.clone(),
                other => other[field] = value.clone(),
            }
        }
        for pointer in &self.remove {
            let (object, field) = parent(&mut message, pointer);
            assert!(
                object.as_object_mut().unwrap().remove(field).is_some(),
                "{pointer}"
            );
        }
        message
    }
}

/// What holds the field that `pointer` leads to, and the field's name there.
fn parent<'a>(message: &'a mut Value, pointer: &'a str) -> (&'a mut Value, &'a str) {
    let (above, field) = pointer.rsplit_once('/').unwrap();
    (
        message
            .pointer_mut(above)
            .unwrap_or_else(|| panic!("{pointer}")),
        field,
    )
}

/// Every field of `given` stands in `again`, whatever else does. Times may be written in another way.
fn assert_holds(again: &Value, given: &Value, at: &str) {
    if at.ends_with("a_field_of_a_later_version") {
        return;
    }
    match (again, given) {
        (Value::Object(again), Value::Object(given)) => {
            for (name, value) in given {
                assert_holds(
                    again.get(name).unwrap_or(&Value::Null),
                    value,
                    &format!("{at}.{name}"),
                );
            }
        }
        (Value::Array(again), Value::Array(given)) => {
            assert_eq!(again.len(), given.len(), "{at}");
            for (index, (again, given)) in again.iter().zip(given).enumerate() {
                assert_holds(again, given, &format!("{at}[{index}]"));
            }
        }
        (again, given) => assert_eq!(again, given, "{at}"),
    }
}

fn written(message: impl Serialize) -> Value {
    serde_json::to_value(message).unwrap()
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> T {
    let body = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn files_of_kind(dir: &Path, kind: &str) -> Vec<PathBuf> {
    json_files(dir)
        .into_iter()
        .filter(|file| is_of_kind(file, kind))
        .collect()
}

/// `job.minimal.json` is of kind `job`.
fn is_of_kind(file: &Path, kind: &str) -> bool {
    file.file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .split('.')
        .next()
        == Some(kind)
}

fn json_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect()
}
