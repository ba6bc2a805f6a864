//! Configurations that are right, and ones that are wrong in several ways.

use super::*;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, |_| None)
}

#[test]
fn a_state_directory_is_all_that_has_no_default() {
    let config = parse("state = '/s'").unwrap();
    let package = "linux-image-cloud-amd64".to_owned();
    assert_eq!(config.kernel, Kernel::Package(package));
    assert_eq!(config.qemu.accelerator, Accelerator::Tcg);
    assert_eq!(parse("").unwrap_err(), ["state: is missing"]);
}

#[test]
fn all_mistakes_are_reported_together() {
    let text = "
        replicas = 9
        keep = 0
        speed = 3
        [telemetry]
        sample_ratio = 2
        [qemu]
        accelerator = 'warp'
        [kernel]
        image = '/k'
        [oci.team]
        [registries.npm]
        hosts = []
        [registries.pypi]
        hosts = ['no-port.example.com']
    ";
    let problems = parse(text).unwrap_err();
    let about: Vec<_> = problems
        .iter()
        .map(|problem| problem.split(':').next().unwrap())
        .collect();
    assert_eq!(
        about,
        [
            "state",
            "replicas",
            "telemetry.sample_ratio",
            "qemu",
            "kernel",
            "oci.team",
            "keep",
            "registries.npm",
            "registries.pypi",
            "speed"
        ]
    );
}

#[test]
fn a_variable_of_the_environment_stands_above_the_file() {
    let variable = |name: &str| (name == "SOURDOUGH_NATS_URL").then(|| "nats://b.example:1".into());
    let text = "state = '/s'\n[nats]\nurl = 'nats://a.example:1'";
    let config = Config::parse(text, variable).unwrap();
    assert_eq!(config.nats.url, "nats://b.example:1");
}

#[test]
fn what_is_logged_holds_no_secret() {
    let text = "
        state = '/s'
        [nats]
        url = 'nats://user:password@a.example:1'
        [objects]
        endpoint = 'https://user:password@s3.example.com'
        [registries.npm]
        hosts = ['registry.example.com:443']
        networks = ['10.20.0.0/16']
        env = { npm_config_registry = 'https://user:password@registry.example.com/' }
    ";
    let logged = format!("{:?}", parse(text).unwrap());
    assert!(!logged.contains("password"), "{logged}");
    assert!(logged.contains("npm_config_registry"), "{logged}");
}

#[test]
fn a_line_that_is_not_toml_is_named_and_not_quoted() {
    let problems =
        parse("state = '/s'\n[nats]\nurl = 'nats://user:password@a.example:1\n").unwrap_err();
    assert!(
        problems[0].starts_with("line 3: is not TOML: "),
        "{problems:?}"
    );
    assert!(!problems[0].contains("password"), "{problems:?}");
}

#[test]
fn the_example_above_is_a_configuration() {
    let example = include_str!("../config.rs")
        .lines()
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//!"))
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(parse(&example).unwrap().registries.len(), 1);
}
