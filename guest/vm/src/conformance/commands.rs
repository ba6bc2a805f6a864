//! Commands: how they start, what they see, what they say.

use sha2::{Digest, Sha256};
use wire::{Command, ExecSpec, Termination, User};

use super::Outcome::{self, Passed};
use super::guest::{
    Failure, PATH, check, directory, equal, file, first_line, program, rest, shell,
};
use super::rig::Rig;

const MIB: usize = 1024 * 1024;

pub(super) async fn argv(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let show = "for word in \"$@\"; do printf '<%s>' \"$word\"; done";
    let words = ["a b", "", "'", "$HOME *", "-e"];
    let output = guest
        .run(&program(&[&["sh", "-c", show, "sh"], &words[..]].concat()))
        .await?;
    equal(
        "the argument list",
        output.text(),
        "<a b><><'><$HOME *><-e>",
    )?;
    Ok(Passed)
}

pub(super) async fn script(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let output = guest
        .run(&shell("echo before; (exit 4); echo after"))
        .await?;
    equal("the output", output.text(), "before\n")?;
    let wanted = Termination::Exited { code: 4 };
    equal("the end", &output.ended().termination, &wanted)?;
    Ok(Passed)
}

pub(super) async fn exit_code(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for code in [0, 3, 255] {
        let output = guest.run(&shell(&format!("exit {code}"))).await?;
        let wanted = Termination::Exited { code };
        equal("the end", &output.ended().termination, &wanted)?;
    }
    Ok(Passed)
}

pub(super) async fn environment(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let env = [
        ("PATH", PATH),
        ("EMPTY", ""),
        ("GREETING", "a b=c\td"),
        ("ä", "ö"),
    ];
    let spec = ExecSpec {
        env: env.map(|(name, value)| (name.into(), value.into())).into(),
        ..program(&["env"])
    };
    let output = rig.fork().await?.run(&spec).await?;
    let text = output.text();
    let mut seen: Vec<&str> = text.lines().collect();
    seen.sort_unstable();
    let mut wanted = env.map(|(name, value)| format!("{name}={value}"));
    wanted.sort_unstable();
    equal("the environment", seen, wanted)?;
    Ok(Passed)
}

pub(super) async fn working_directory(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let entries = [directory("inner"), file("inner/marker", b"here")];
    guest.put("/build/src", &entries).await?;
    let spec = ExecSpec {
        cwd: "/build/src/inner".into(),
        ..program(&["cat", "marker"])
    };
    equal("the file", guest.run(&spec).await?.text(), "here")?;
    Ok(Passed)
}

pub(super) async fn lanes(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let script = "echo one; echo two >&2; echo three";
    let output = rig.fork().await?.run(&shell(script)).await?;
    equal("standard output", output.text(), "one\nthree\n")?;
    equal("standard error", output.stderr, b"two\n")?;
    Ok(Passed)
}

pub(super) async fn standard_input(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let output = rig.fork().await?.run(&program(&["cat"])).await?;
    check(output.success(), "reading it failed")?;
    equal("what was read", output.stdout, b"")?;
    Ok(Passed)
}

pub(super) async fn umask(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let script = "mkdir made; touch made/file; stat -c %a made made/file";
    let modes = rig.fork().await?.sh(script).await?;
    equal("the modes", modes, "755\n644")?;
    Ok(Passed)
}

pub(super) async fn missing_program(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    for name in ["no-such-program", "/no/such/program", "./no-such-program"] {
        let problem = not_started(guest.run(&program(&[name])).await?.ended())?;
        check(
            problem.contains(name),
            &format!("{problem:?} does not name {name}"),
        )?;
    }
    let nothing = ExecSpec {
        command: Command::Argv(Vec::new()),
        ..program(&[])
    };
    not_started(guest.run(&nothing).await?.ended())?;
    equal(
        "a later command's output",
        guest.sh("echo well").await?,
        "well",
    )?;
    Ok(Passed)
}

pub(super) async fn missing_directory(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let spec = ExecSpec {
        cwd: "/build/src/nowhere".into(),
        user: User::ROOT,
        ..program(&["env"])
    };
    let problem = not_started(rig.fork().await?.run(&spec).await?.ended())?;
    check(
        problem.contains("nowhere"),
        &format!("{problem:?} does not name it"),
    )?;
    Ok(Passed)
}

fn not_started(ended: &wire::Ended) -> Result<String, Failure> {
    match &ended.termination {
        Termination::NotStarted { problem } => Ok(problem.clone()),
        other @ (Termination::Exited { .. }
        | Termination::Signalled { .. }
        | Termination::TimedOut
        | Termination::OutOfMemory
        | Termination::Terminated) => Err(Failure::new(format!("it ended with {other:?}"))),
    }
}

pub(super) async fn whole_output(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let script = "head -c 10485760 /dev/urandom >noise; sha256sum <noise >&2; cat noise";
    let output = rig.fork().await?.run(&shell(script)).await?;
    equal("the length", output.stdout.len(), 10 * MIB)?;
    let digest = format!("{:x}", Sha256::digest(&output.stdout));
    let announced = String::from_utf8_lossy(&output.stderr);
    let announced = announced.split_whitespace().next().unwrap_or_default();
    equal("the digest of what came", digest.as_str(), announced)?;
    Ok(Passed)
}

pub(super) async fn slow_reader(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    let mut execution = guest.start("echo $$ >writer; exec head -c 2097152 /dev/zero")?;
    // It waits for a reader when it sleeps for the length of ten looks; it is held back for good when it is there at all.
    let script = "while ! read -r id 2>/dev/null <writer; do sleep 0.05; done
        looks=0; while [ $looks -lt 10 ]; do
          read -r _ _ state _ </proc/$id/stat || exit 1
          if [ $state = S ]; then looks=$((looks+1)); else looks=0; fi
          sleep 0.05
        done
        read -r _ name _ </proc/$id/stat; echo $name";
    let name = guest.sh(script).await?;
    equal("the writer", name, "(head)")?;
    let (bytes, end) = rest(&mut execution).await?;
    equal("the end", end, Termination::Exited { code: 0 })?;
    equal("the length", bytes.len(), 2 * MIB)?;
    Ok(Passed)
}

pub(super) async fn parallel(rig: &Rig<'_>) -> Result<Outcome, Failure> {
    let guest = rig.fork().await?;
    // Each waits until all are there: one after the other they would wait for ever.
    let mut executions = Vec::new();
    for number in 0..8 {
        executions.push(guest.start(&format!(
            "touch here.{number}; while set -- here.*; [ $# -lt 8 ]; do sleep 0.1; done; echo {number}"
        ))?);
    }
    for (number, execution) in executions.iter_mut().enumerate() {
        let line = first_line(execution).await?;
        equal("a command's number", line, number.to_string())?;
        rest(execution).await?;
    }
    Ok(Passed)
}
