//! Every name of an object in S3. Those of a tenant start with [`tenant_prefix`].

use crate::digest::{GitCommit, Sha256Digest};
use crate::token::{Token, Trust};

/// Name in the source bucket of the archive that was made of a commit.
pub fn git_object(tenant: &Token, trust: Trust, commit: &GitCommit, options: &str) -> String {
    format!("{tenant}/{trust}/git/{commit}/{options}.tar.zst")
}

/// Name of a source archive in the source bucket.
pub fn source_object(tenant: &Token, digest: &Sha256Digest) -> String {
    format!("{tenant}/{digest}.tar.zst")
}

/// What every name of a tenant's objects starts with.
pub fn tenant_prefix(tenant: &Token) -> String {
    format!("{tenant}/")
}

/// Name of an artifact in the artifact bucket.
pub fn artifact_object(tenant: &Token, digest: &Sha256Digest) -> String {
    let hex = digest.to_string();
    format!("{tenant}/sha256/{}/{hex}", &hex[..2])
}

/// Name of the whole log of one attempt in the log bucket.
pub fn log_object(tenant: &Token, job_id: &Token, attempt: u32) -> String {
    format!("{tenant}/{job_id}/{attempt}.log")
}

/// Name of the whole output of one delivery of a bake request in the log bucket. `request` is the request's sequence in its stream, which
/// nobody chooses, so that no request's log lies over another's; it stands where no job's log can.
pub fn bake_log_object(tenant: &Token, trust: Trust, request: u64, delivery: u64) -> String {
    format!("{tenant}/bake/{trust}/{request}/{delivery}.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bakes_log_is_never_a_jobs() {
        let [tenant, bake] = ["acme", "bake"].map(|text| Token::parse(text).unwrap());
        assert_eq!(
            bake_log_object(&tenant, Trust::Trusted, 7, 1),
            "acme/bake/trusted/7/1.log"
        );
        // Not even that of a job of that name: it has two parts less.
        assert_eq!(log_object(&tenant, &bake, 1), "acme/bake/1.log");
    }

    #[test]
    fn an_artifact_lies_under_its_digest() {
        let tenant = Token::parse("acme").unwrap();
        let object = artifact_object(&tenant, &Sha256Digest::of(b""));
        assert!(object.starts_with("acme/sha256/e3/e3b0c442"), "{object}");
    }
}
