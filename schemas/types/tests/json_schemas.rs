//! The files in `schemas/json` are what the types generate. `UPDATE_SCHEMAS=1` writes them anew.

use std::path::{Path, PathBuf};

use serde::Serialize;

#[test]
fn the_checked_in_schemas_are_what_the_types_generate() {
    for (name, schema) in schemas::json_schema::all() {
        assert_generated(&format!("{name}.schema.json"), &schema);
    }
}

#[test]
fn the_checked_in_asyncapi_document_is_what_the_types_generate() {
    assert_generated("asyncapi.json", &schemas::asyncapi::document());
}

fn assert_generated(name: &str, value: &impl Serialize) {
    let file = folder().join(name);
    let generated = serde_json::to_string_pretty(value).expect("it is JSON") + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&file, &generated).expect("the folder is there");
    }
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what the types generate: run UPDATE_SCHEMAS=1 cargo test -p schemas",
        file.display()
    );
}

#[test]
fn no_schema_lies_there_that_no_type_generates() {
    let known: Vec<_> = schemas::json_schema::all()
        .into_iter()
        .map(|(name, _)| format!("{name}.schema.json"))
        .collect();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            known.contains(&name) || !name.ends_with(".schema.json"),
            "{name}"
        );
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../json")
}
