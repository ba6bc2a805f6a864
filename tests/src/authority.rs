//! A certificate authority of our own, for servers behind https that only a test's stack trusts.
//!
//! ```text
//! <directory>/
//!   ca.key ca.pem            made once: what guests trust is part of their templates' keys
//!   server.key server.pem    for ADDRESS
//!   bundle.pem               this machine's authorities and ours
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use schemas::guest::CA_BUNDLE;

use crate::tools::run;

/// The address that the certificate is for. It is a loopback address that no client takes for one: many go past their proxy to
/// 127.0.0.1, and in a guest nothing is there.
pub const ADDRESS: &str = "127.0.0.2";

/// Ten years.
const DAYS: &str = "3650";

/// The authority and one certificate.
#[derive(Debug, Clone)]
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// The authority in `directory`, made on first use.
    pub fn at(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let authority = Self {
            directory: directory.to_owned(),
        };
        if !authority.certificate().exists() {
            authority.make()?;
        }
        authority.write_bundle()?;
        Ok(authority)
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("server.pem")
    }

    /// The server's key.
    pub fn key(&self) -> PathBuf {
        self.directory.join("server.key")
    }

    /// Every authority that this machine trusts, and this one.
    pub fn bundle(&self) -> PathBuf {
        self.directory.join("bundle.pem")
    }

    /// The server's certificate comes last, since it shows that all is there.
    fn make(&self) -> Result<()> {
        run(self
            .request("ca", "/CN=Sourdough's tests")
            .args(["-addext", "basicConstraints=critical,CA:TRUE"])
            .args(["-addext", "keyUsage=critical,keyCertSign"]))?;
        run(self
            .request("server", &format!("/CN={ADDRESS}"))
            .arg("-CA")
            .arg(self.directory.join("ca.pem"))
            .arg("-CAkey")
            .arg(self.directory.join("ca.key"))
            .args(["-addext", &format!("subjectAltName=IP:{ADDRESS}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"]))
    }

    /// A new key and a certificate for it.
    fn request(&self, name: &str, subject: &str) -> Command {
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", DAYS])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject])
            .arg("-keyout")
            .arg(self.directory.join(format!("{name}.key")))
            .arg("-out")
            .arg(self.directory.join(format!("{name}.pem")));
        command
    }

    fn write_bundle(&self) -> Result<()> {
        let mut bundle = fs::read(CA_BUNDLE).with_context(|| format!("read {CA_BUNDLE}"))?;
        let ours = self.directory.join("ca.pem");
        bundle.extend(fs::read(&ours).with_context(|| format!("read {}", ours.display()))?);
        fs::write(self.bundle(), bundle).context("write the bundle of authorities")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_its_bundle_verifies_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::at(directory.path()).unwrap();
        let first = fs::read(authority.bundle()).unwrap();
        Authority::at(directory.path()).unwrap();
        assert_eq!(fs::read(authority.bundle()).unwrap(), first);
        let mut verify = Command::new("openssl");
        verify
            .args(["verify", "-verify_ip", ADDRESS, "-CAfile"])
            .arg(authority.bundle())
            .arg(authority.certificate());
        run(&mut verify).unwrap();
    }
}
