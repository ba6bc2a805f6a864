//! The package managers of this host, asked by their own commands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::Finding;
use super::audit::Audit;
use crate::program::{Program, ProgramError, TO_ANSWER};

/// 60 s for one download of a small package: a client's own retries included.
const PATIENCE: Duration = Duration::from_mins(1);

/// A package of some ten kilobytes that needs no other, for pip.
const PYTHON_PACKAGE: &str = "six";

/// The same for cargo.
const CRATE: &str = "cfg-if";

/// npm's configured registry.
pub(super) async fn npm() -> Finding {
    let asked = Program::new("npm")
        .own_environment()
        .args(["config", "get", "registry"])
        .run(TO_ANSWER)
        .await;
    match asked {
        Ok(registry) => {
            let mut finding = Finding::default();
            finding.add_url(registry.trim(), Some("npm_config_registry"));
            finding
        }
        Err(error) => Finding::failed("npm", &error),
    }
}

/// The sites of apt's enabled sources.
pub(super) async fn debian() -> Finding {
    let asked = Program::new("apt-get")
        .args(["indextargets", "--format", "$(SITE)"])
        .run(TO_ANSWER)
        .await;
    let sites = match asked {
        Ok(sites) => sites,
        Err(error) => return Finding::failed("apt-get", &error),
    };
    let mut finding = Finding::default();
    let sites: std::collections::BTreeSet<_> = sites.lines().collect();
    for site in sites {
        finding.add_url(site, None);
    }
    finding
}

/// What pip asks for when it downloads.
pub(super) async fn pip() -> anyhow::Result<Finding> {
    let (audit, directory) = (Audit::start().await?, TempDir::new()?);
    let downloading = through(&audit, Program::new("python3").own_environment())
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--quiet",
        ])
        .args(["--dest".as_ref(), directory.path().as_os_str()])
        .arg(PYTHON_PACKAGE)
        // Packages that lie on this host are no download.
        .env("PIP_FIND_LINKS", "")
        .run(PATIENCE);
    let mut finding = watched(&audit, "pip", downloading).await;
    if finding.hosts.is_empty() {
        return Ok(finding);
    }
    let configured = Program::new("python3")
        .own_environment()
        .args(["-m", "pip", "config", "get", "global.index-url"])
        .run(TO_ANSWER);
    // It fails where nothing is configured: then guests need nothing either.
    if let Ok(index) = configured.await {
        finding.add_url(index.trim(), Some("PIP_INDEX_URL"));
    }
    Ok(finding)
}

/// What cargo asks for when it downloads, with nothing in its cache.
pub(super) async fn cargo() -> anyhow::Result<Finding> {
    let (audit, directory) = (Audit::start().await?, TempDir::new()?);
    let home = directory.path().join("home");
    let replaced = lend_settings(&home)?;
    let package = directory.path().join("package");
    std::fs::create_dir_all(package.join("src"))?;
    std::fs::write(package.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"detect\"\nedition = \"2021\"\n\n[dependencies]\n{CRATE} = \"1\"\n"
    );
    std::fs::write(package.join("Cargo.toml"), manifest)?;
    let url = audit.url();
    let downloading = through(&audit, Program::new("cargo").own_environment())
        .args(["fetch", "--quiet"])
        .directory(&package)
        .env("CARGO_HOME", &home)
        .env("CARGO_HTTP_PROXY", &url)
        .run(PATIENCE);
    let mut finding = watched(&audit, "cargo", downloading).await;
    if replaced && !finding.hosts.is_empty() {
        let note = "cargo is told to use another source by its own file: setup needs the same in .cargo/config.toml";
        finding.notes.push(note.to_owned());
    }
    Ok(finding)
}

/// Lets a client that is told of the proxy run; returns what it asked for.
async fn watched(
    audit: &Audit,
    client: &str,
    downloading: impl Future<Output = Result<String, ProgramError>>,
) -> Finding {
    let mut finding = match downloading.await {
        Ok(_) => Finding::default(),
        Err(error) => Finding::failed(client, &error),
    };
    finding.hosts = audit.seen().await;
    if finding.hosts.is_empty() && finding.notes.is_empty() {
        let note = format!("{client} downloaded without asking for a host");
        finding.notes.push(note);
    }
    finding
}

/// Every spelling of the proxy's variable that some client reads.
fn through(audit: &Audit, program: Program) -> Program {
    let url = audit.url();
    let names = [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ];
    let program = names
        .into_iter()
        .fold(program, |program, name| program.env(name, &url));
    program.env("no_proxy", "").env("NO_PROXY", "")
}

/// Copies the operator's settings of cargo, but nothing that it has downloaded, into a home of its own. Returns whether they replace a
/// source.
fn lend_settings(home: &Path) -> std::io::Result<bool> {
    std::fs::create_dir_all(home)?;
    let Some(own) = own_cargo_home() else {
        return Ok(false);
    };
    let mut replaced = false;
    for name in ["config.toml", "config", "credentials.toml"] {
        let from = own.join(name);
        if !from.is_file() {
            continue;
        }
        replaced |= std::fs::read_to_string(&from)?.contains("replace-with");
        std::fs::copy(from, home.join(name))?;
    }
    Ok(replaced)
}

fn own_cargo_home() -> Option<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
}
