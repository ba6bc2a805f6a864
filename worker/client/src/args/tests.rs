//! What the command line takes, and what it refuses.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_well_formed() {
    Args::command().debug_assert();
}

fn refused(flags: &[&str]) -> String {
    let args = [&["sourdough", "submit"], flags].concat();
    Args::try_parse_from(args).unwrap_err().to_string()
}

#[test]
fn a_source_is_pinned_in_full_and_there_is_one() {
    let commit = "a".repeat(40);
    let git = [
        "--environment",
        "w",
        "--git",
        "https://git.example.com/a.git",
    ];
    assert!(refused(&git).contains("--commit"));
    let both = [&git[..], &["--commit", &commit, "--dir", "x"]].concat();
    assert!(refused(&both).contains("cannot be used with"));
    let archive = [
        "--environment",
        "w",
        "--archive-uri",
        "https://files.example.com/a",
    ];
    assert!(refused(&archive).contains("--sha256"));
    let ftp = ["--environment", "w", "--archive-uri", "ftp://a/b"];
    assert!(refused(&ftp).contains("must be s3://"));
    let branch = [
        "--environment",
        "w",
        "--git",
        "https://a.example/b",
        "--commit",
        "main",
    ];
    assert!(refused(&branch).contains("--commit"));
}

#[test]
fn an_environment_is_named_or_given_and_what_it_misses_is_one_of_three_words() {
    assert!(refused(&[]).contains("--environment"));
    let both = ["--environment", "w", "--environment-file", "f"];
    assert!(refused(&both).contains("cannot be used with"));
    let said = refused(&["--environment", "w", "--on-missing", "wait"]);
    assert!(said.contains("bake, cold, fail"), "{said}");
}

#[test]
fn keys_are_explained_or_an_environment_is() {
    let parse =
        |flags: &[&str]| Args::try_parse_from([&["sourdough", "env", "explain"], flags].concat());
    assert!(parse(&["abcdef", "cdefab"]).is_ok());
    assert!(parse(&["abcdef", "cdefab", "efabcd"]).is_err());
    assert!(parse(&["abcde"]).is_err());
    assert!(parse(&["--environment", "w", "--dir", "x"]).is_ok());
    assert!(parse(&["abcdef", "--environment", "w"]).is_err());
}

#[test]
fn without_a_step_the_project_is_built_with_make() {
    let args = Args::try_parse_from(["sourdough", "submit", "--environment", "widget"]).unwrap();
    let Command::Submit(submit) = args.command else {
        panic!("another command")
    };
    assert_eq!(submit.steps, ["make build".parse().unwrap()]);
}
