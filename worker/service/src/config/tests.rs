//! What a file may say, and what is refused.

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(file.path(), |_| None)
}

#[test]
fn a_short_file_is_enough() {
    let config = load("state = \"/var/lib/sourdough/worker\"").unwrap();
    assert_eq!(config.slots, None);
    let slot = (
        config.slot_vcpu,
        config.slot_memory_mib,
        config.slot_disk_mib,
    );
    assert_eq!(slot, (1, 1024, 4096));
    assert_eq!(
        config.accepted(),
        [Trust::Trusted],
        "emulation is no boundary by default"
    );
}

#[test]
fn untrusted_jobs_under_emulation_must_be_asked_for() {
    let config = load("state = \"/w\"\nuntrusted_under_tcg = true").unwrap();
    assert_eq!(config.accepted(), [Trust::Trusted, Trust::Untrusted]);
    let refused = load("state = \"/w\"\ntrust = [\"untrusted\"]").unwrap_err();
    assert!(
        refused.to_string().contains("untrusted_under_tcg"),
        "{refused}"
    );
}

#[test]
fn all_mistakes_are_reported_together() {
    let wrong = "state = 'w'\nslots = 0\nslot_memory_mib = 0\nmax_parked = 5000\ncache_max_mib = 0\nca_bundle = 'x'\n[telemetry]\nsample_ratio = 2";
    let error = load(wrong).unwrap_err();
    assert_eq!(error.problems.len(), 7, "{error}");
}

#[test]
fn git_and_registries_are_the_operators() {
    let config = load(
        "state = '/w'\n[git]\ntemplate = 'fetch'\n\
         [registries.npm]\nhosts = ['registry.example.com:443']",
    );
    let config = config.unwrap();
    assert!(config.registries.contains_key(&"npm".parse().unwrap()));
    assert_eq!(config.sources().fetch_template.unwrap().as_str(), "fetch");
    let refused = load("state = '/w'\n[registries.npm]\nhosts = []").unwrap_err();
    assert!(refused.to_string().contains("(line "), "{refused}");
}

#[test]
fn an_unknown_setting_is_refused_with_its_line() {
    let error = load("state = \"/w\"\nslotz = 2").unwrap_err();
    assert!(error.to_string().contains("slotz"), "{error}");
}
