//! A server behind https on loopback, for sources: git repositories, files, and a server that lies. See `web.py` for its paths.
//!
//! ```text
//! <directory>/
//!   files/…         what is served as files
//!   git/<name>      bare repositories
//!   requests        one line for each request
//! ```

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::authority::{ADDRESS, Authority};
use crate::launch::{Launch, Lifetime};
use crate::ports;
use crate::process::Process;
use crate::project::Project;
use crate::tools::run;

/// 30 s until it listens.
const READY_DEADLINE: Duration = Duration::from_secs(30);

const SCRIPT: &str = include_str!("web.py");

/// The server. Dropping it kills it.
#[derive(Debug)]
pub struct WebServer {
    // Held so that the server lives as long as this.
    _process: Process,
    directory: PathBuf,
    port: u16,
}

impl WebServer {
    /// Starts one on a free port. What an earlier one served from `directory` is removed.
    pub async fn start(directory: &Path, authority: &Authority) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("remove {}", directory.display()))?;
        }
        for folder in ["files", "git"] {
            fs::create_dir_all(directory.join(folder)).context("make a folder for a server")?;
        }
        let [port] = ports::free()?;
        let mut process = Process::spawn(Launch {
            name: "web",
            program: "python3".into(),
            arguments: vec![
                "-c".into(),
                SCRIPT.into(),
                ADDRESS.into(),
                port.to_string().into(),
                authority.certificate().into(),
                authority.key().into(),
                directory.into(),
                directory.join("requests").into(),
            ],
            environment: Vec::new(),
            log: directory.join("web.log"),
            lifetime: Lifetime::Owner,
            leftovers: Vec::new(),
        })?;
        process
            .ready(READY_DEADLINE, async || {
                TcpStream::connect((ADDRESS, port)).ok()
            })
            .await?;
        Ok(Self {
            _process: process,
            directory: directory.to_owned(),
            port,
        })
    }

    /// Its host and port, as an operator allows them.
    pub fn endpoint(&self) -> String {
        format!("{ADDRESS}:{}", self.port)
    }

    /// The address of a path.
    pub fn uri(&self, path: &str) -> String {
        format!("https://{}/{path}", self.endpoint())
    }

    /// Serves the repository of a project as it is now as `git/<name>`.
    pub fn add_repository(&self, name: &str, project: &Project) -> Result<()> {
        let at = self.directory.join("git").join(name);
        if at.exists() {
            fs::remove_dir_all(&at).with_context(|| format!("remove {}", at.display()))?;
        }
        let mut clone = Command::new("git");
        clone
            .args(["clone", "--quiet", "--bare"])
            .arg(project.path())
            .arg(at);
        run(&mut clone)
    }

    /// Serves `bytes` as `files/<name>`.
    pub fn add_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.directory.join("files").join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    /// Every request so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("requests")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use super::*;

    struct Served {
        server: WebServer,
        project: Project,
        authority: Authority,
        directory: tempfile::TempDir,
    }

    async fn served() -> Served {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::at(&directory.path().join("ca")).unwrap();
        let web = directory.path().join("web");
        let server = WebServer::start(&web, &authority).await.unwrap();
        let project = Project::of_file("README", "mine\n").unwrap();
        project.branch("other", "README", "another's\n").unwrap();
        server.add_repository("project", &project).unwrap();
        Served {
            server,
            project,
            authority,
            directory,
        }
    }

    impl Served {
        fn fetch(&self, path: &str) -> Output {
            let clone = self.directory.path().join("clone");
            run(Command::new("git")
                .args(["init", "--quiet", "--bare"])
                .arg(&clone))
            .unwrap();
            let mut git = Command::new("git");
            git.current_dir(&clone)
                .env("GIT_SSL_CAINFO", self.authority.bundle())
                .args(["fetch", "--depth=1", &self.server.uri(path)])
                .arg(self.project.head().unwrap());
            git.output().unwrap()
        }
    }

    #[tokio::test]
    async fn a_commit_is_fetched_by_its_id_and_the_request_is_on_record() {
        let served = served().await;
        let output = served.fetch("git/project");
        assert!(output.status.success(), "{output:?}");
        let requests = served.server.requests();
        assert!(
            requests[0].starts_with("GET /git/project/info/refs"),
            "{requests:?}"
        );
    }

    #[tokio::test]
    async fn the_server_that_lies_sends_other_objects() {
        let served = served().await;
        let output = served.fetch("evil/project");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains("did not send all necessary objects") || said.contains("bad object"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn files_are_served_as_they_are() {
        let served = served().await;
        served.server.add_file("a", b"bytes\n").unwrap();
        let mut curl = Command::new("python3");
        curl.args(["-c", "import sys, ssl, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2])).read())"])
            .arg(served.server.uri("files/a"))
            .arg(served.authority.bundle());
        let output = curl.output().unwrap();
        assert_eq!(output.stdout, b"bytes\n", "{output:?}");
    }
}
