//! The document against the names that the code uses.

use std::collections::BTreeSet;

use super::*;
use crate::names::{self, BakeSubject, BakeTriggerSubject, JobSubject, bucket};
use crate::{Priority, Token, Trust};

const NAMES: &str = include_str!("../names.rs");

/// An address with every parameter's own name in its place, or the first of what it may be.
fn filled(channel: &Channel) -> String {
    let word = |word: &str| {
        let name = word
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let Some(name) = name else {
            return word.to_owned();
        };
        let parameter = PARAMETERS.iter().find(|(known, ..)| *known == name);
        let (_, _, values) = parameter.unwrap_or_else(|| panic!("no parameter {name}"));
        (*values.first().unwrap_or(&name)).to_owned()
    };
    let words: Vec<_> = channel.address.split('.').map(word).collect();
    words.join(".")
}

fn token(name: &str) -> Token {
    Token::parse(name).unwrap()
}

#[test]
fn every_address_is_what_the_code_publishes_to() {
    let [tenant, job_id, environment] = ["tenant", "job_id", "environment"].map(token);
    let trust = Trust::Trusted;
    let job = JobSubject {
        pool: token("pool"),
        trust,
        priority: Priority::new(0).unwrap(),
        tenant: tenant.clone(),
    };
    let request = BakeSubject {
        class: "class".parse().unwrap(),
        trust,
        tenant: tenant.clone(),
        environment: environment.clone(),
    };
    let trigger = BakeTriggerSubject {
        trust,
        tenant: tenant.clone(),
        environment: environment.clone(),
    };
    let key = |bucket: &str, key: String| format!("$KV.{bucket}.{key}");
    let expected = BTreeSet::from([
        job.to_string(),
        names::result_subject(&tenant, &job_id),
        names::report_subject(&tenant, &job_id),
        names::event_subject(&tenant, &job_id),
        names::log_subject(&tenant, &job_id),
        names::dead_subject(&tenant, &job_id),
        request.to_string(),
        trigger.to_string(),
        names::bake_event_subject(&tenant, &environment),
        key(bucket::CANCELS, names::cancel_key(&tenant, &job_id)),
        key(bucket::JOBS, names::job_record(&tenant, &job_id)),
        key(
            bucket::ENVIRONMENTS,
            names::environment_key(&tenant, &environment),
        ),
        key(
            bucket::ENVIRONMENTS,
            names::template_definition_key(&token("template")),
        ),
        key(bucket::TENANTS, tenant.to_string()),
        key(bucket::WORKERS, "worker".to_owned()),
    ]);
    let addresses: BTreeSet<_> = CHANNELS.iter().map(filled).collect();
    assert_eq!(addresses, expected);
}

#[test]
fn no_subject_of_the_names_is_missing() {
    let literals = NAMES.split('"').skip(1).step_by(2);
    let subjects = literals.filter_map(|text| {
        let mut words = text.split('.');
        let (first, second) = (words.next()?, words.next()?);
        let ours = ["build", "bake"].contains(&first) && !second.starts_with('{');
        ours.then(|| format!("{first}.{second}."))
    });
    let subjects: BTreeSet<_> = subjects.collect();
    assert_eq!(subjects.len(), 9, "{subjects:?}");
    for subject in subjects {
        let known = CHANNELS
            .iter()
            .any(|channel| channel.address.starts_with(&subject));
        assert!(known, "no channel for {subject}");
    }
}

#[test]
fn names_are_used_once_and_every_reference_leads_somewhere() {
    let document = document();
    for list in ["channels", "operations"] {
        assert_eq!(document[list].as_object().unwrap().len(), CHANNELS.len());
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 60, "{}", references.len());
    let schemas = crate::json_schema::all();
    for reference in references {
        let found = match reference.strip_prefix('#') {
            Some(pointer) => document.pointer(pointer).is_some(),
            None => schemas
                .iter()
                .any(|(name, _)| reference == format!("./{name}.schema.json")),
        };
        assert!(found, "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            references.extend(
                entries
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            entries
                .values()
                .for_each(|value| collect(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
