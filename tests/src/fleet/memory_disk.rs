//! A worker whose state lies in memory: a disk that is full when it is wanted to be, or that costs nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};

use crate::stack::Service;

/// Becomes the program in a mount namespace of its own, so that the mount goes with the process.
const SCRIPT: &str = "#!/bin/sh
exec unshare --mount --propagation private sh -ec \\
    'mount -t tmpfs -o size=SIZEm tmpfs \"$0\" && exec \"$@\"' STATE PROGRAM \"$@\"
";

/// The same worker with `mib` of memory for its state, begun afresh at each start. Only root can start it.
pub fn in_memory(worker: Service, mib: u32) -> Result<Service> {
    let script = worker.directory.join("worker.sh");
    let state = worker.directory.join(worker.name);
    let text = SCRIPT
        .replace("SIZE", &mib.to_string())
        .replace("STATE", &state.display().to_string())
        .replace("PROGRAM", &worker.program.display().to_string());
    let written = fs::write(&script, text);
    let written =
        written.and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)));
    written.with_context(|| format!("write {}", script.display()))?;
    Ok(Service {
        program: script,
        ..worker
    })
}
