//! The program itself, as a person starts it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// 20 s: far more than it takes to exit, and less than the git below sleeps.
const AT_ONCE: Duration = Duration::from_secs(20);

fn submit(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sourdough"));
    command.args(["submit", "--environment", "widget", "--dir"]);
    command.arg(dir).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_bad_flag_is_refused_before_anything_is_packed() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = submit(&dir.path().join("nothing"));
    let output = command.args(["--artifact", "../x"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("artifacts[0].paths[0]"), "{said}");
}

#[test]
fn an_interrupt_while_packing_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let begun = dir.path().join("begun");
    let made = Command::new("mkfifo").arg(&begun).status().unwrap();
    assert!(made.success());
    let git = dir.path().join("git");
    let script = format!("#!/bin/sh\n: > '{}'\nexec sleep 40\n", begun.display());
    fs::write(&git, script).unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let mut child = submit(dir.path()).env("PATH", path).spawn().unwrap();
    // It opens once git has opened the other end, and so once it packs.
    fs::read(&begun).unwrap();
    let interrupted = Instant::now();
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(interrupted.elapsed() < AT_ONCE);
}
