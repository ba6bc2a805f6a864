//! Why an archive cannot be fetched over https, and who can mend it.

use std::path::PathBuf;
use std::time::Duration;

use egress::{ConnectError, Endpoint};
use hyper::StatusCode;
use rustls::pki_types::InvalidDnsNameError;
use schemas::Reason;
use store::Fault;

use crate::https::MAX_REDIRECTS;

/// Why an archive cannot be fetched over https.
#[derive(Debug, thiserror::Error)]
pub enum HttpsProblem {
    /// The host is not reached.
    #[error("connect to {endpoint}")]
    Connect {
        /// The host.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        source: ConnectError,
    },
    /// The operator's certificate authorities cannot be read.
    #[error("read certificate authorities from {}", path.display())]
    Authorities {
        /// [`crate::SourcesConfig::ca_bundle`].
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The host's name is none that a certificate can have.
    #[error("{0} is no name for a certificate")]
    Name(String, #[source] InvalidDnsNameError),
    /// The server does not prove who it is, or breaks off.
    #[error("speak TLS with {0}")]
    Tls(Endpoint, #[source] std::io::Error),
    /// The server does not speak HTTP, or breaks off.
    #[error("ask {0}")]
    Http(Endpoint, #[source] hyper::Error),
    /// The server says something else than the archive.
    #[error("{endpoint} answers {status}")]
    Status {
        /// The host.
        endpoint: Endpoint,
        /// Its answer.
        status: StatusCode,
    },
    /// The server sends us where we do not go.
    #[error("{endpoint} redirects to {to:?}, which {problem}")]
    Redirect {
        /// The host.
        endpoint: Endpoint,
        /// The address, cut to a length that can be shown.
        to: String,
        /// Reads on from "which".
        problem: &'static str,
    },
    /// The server sends us from here to there and back.
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
    /// It took too long, or nothing came for too long.
    #[error("{0} took longer than {1:?}")]
    TimedOut(&'static str, Duration),
}

impl HttpsProblem {
    /// Who can mend it: what the server says of the address is the job's matter, how it says it is not.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Connect { source, .. } => match source {
                ConnectError::NotAllowed | ConnectError::PrivateAddress => Fault::Job,
                ConnectError::Unreachable(_) => Fault::Host,
            },
            Self::Status { status, .. } if is_final(*status) => Fault::Job,
            Self::Name(..) | Self::Redirect { .. } | Self::TooManyRedirects => Fault::Job,
            Self::Status { .. }
            | Self::Authorities { .. }
            | Self::Tls(..)
            | Self::Http(..)
            | Self::TimedOut(..) => Fault::Host,
        }
    }

    /// The word for it in a result.
    pub fn reason(&self) -> Reason {
        match self.fault() {
            Fault::Job | Fault::Message => Reason::InvalidJob,
            Fault::Host => Reason::SourceUnavailable,
        }
    }
}

/// Whether asking again would bring the same answer.
fn is_final(status: StatusCode) -> bool {
    status.as_u16() < 500
        && status != StatusCode::REQUEST_TIMEOUT
        && status != StatusCode::TOO_MANY_REQUESTS
}
