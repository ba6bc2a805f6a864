//! `deploy/install-packages`, with stubs in place of dpkg, apt and id.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use e2e::state::repository;
use tempfile::TempDir;

/// A machine on which only `make` is installed, and on which every call of apt-get is written down.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn with_user(id: u32) -> Result<Self> {
        let machine = Self {
            directory: tempfile::tempdir()?,
        };
        let log = machine.path().join("apt.log");
        machine.stub("id", &format!("echo {id}"))?;
        machine.stub(
            "dpkg-query",
            "for last; do :; done; [ $last = make ] && echo installed",
        )?;
        machine.stub("apt-get", &format!("echo \"$@\" >> {}", log.display()))?;
        Ok(machine)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn stub(&self, name: &str, script: &str) -> Result<()> {
        let path = self.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o755),
        )?)
    }

    fn install(&self, list: &str) -> Result<Output> {
        self.install_with(&[], list)
    }

    fn install_with(&self, arguments: &[&str], list: &str) -> Result<Output> {
        let path = self.path().join("packages.txt");
        fs::write(&path, list)?;
        let others = std::env::var("PATH").context("PATH is set")?;
        let output = Command::new(repository().join("deploy/install-packages"))
            .args(arguments)
            .arg(&path)
            .env("PATH", format!("{}:{others}", self.path().display()))
            .output()?;
        Ok(output)
    }

    fn apt_calls(&self) -> String {
        fs::read_to_string(self.path().join("apt.log")).unwrap_or_default()
    }
}

#[test]
fn nothing_is_done_where_nothing_is_missing() -> Result<()> {
    let machine = Machine::with_user(0)?;
    let output = machine.install("# a comment\n\nmake\nsome-shell   sh\n")?;
    ensure!(output.status.success() && output.stdout.is_empty() && machine.apt_calls().is_empty());
    Ok(())
}

#[test]
fn what_only_the_tests_need_is_installed_for_them_only() -> Result<()> {
    let list = "make\nalpha\n[tests]\nbeta\n";
    for (arguments, expected) in [(&[][..], "alpha\n"), (&["--tests"], "alpha beta\n")] {
        let machine = Machine::with_user(0)?;
        let output = machine.install_with(arguments, list)?;
        ensure!(output.status.success());
        ensure!(
            machine
                .apt_calls()
                .ends_with(&format!("recommends {expected}")),
            "{}",
            machine.apt_calls()
        );
    }
    Ok(())
}

#[test]
fn root_installs_what_is_missing_and_no_more() -> Result<()> {
    let machine = Machine::with_user(0)?;
    let output = machine.install("make\nalpha\nbeta   no-such-command\n")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let expected = "update --quiet\ninstall --quiet -y --no-install-recommends alpha beta\n";
    ensure!(machine.apt_calls() == expected, "{}", machine.apt_calls());
    Ok(())
}

#[test]
fn another_user_is_given_the_one_line_to_run() -> Result<()> {
    let machine = Machine::with_user(1000)?;
    let output = machine.install("make\nalpha\nbeta   no-such-command\n")?;
    ensure!(output.status.code() == Some(69), "{}", output.status);
    let line = "apt-get update && apt-get install -y --no-install-recommends alpha beta\n";
    ensure!(
        output.stdout == line.as_bytes(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    ensure!(machine.apt_calls().is_empty());
    Ok(())
}
