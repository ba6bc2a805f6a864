//! How a request to leave ended, and what the guest is told.

use std::fmt;

use crate::endpoint::EndpointError;
use crate::limits;
use crate::policy::Phase;

/// How one request to leave ended. As text it is one line without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The tunnel was open until both sides had finished.
    Finished,
    /// The tunnel was cut: the phase ended, or the guest did.
    Cut,
    /// The tunnel broke: one side went away without finishing.
    Broken(String),
    /// The endpoint is allowed but could not be found or reached.
    Unreachable(String),
    /// The phase does not allow this endpoint.
    NotAllowed(Phase),
    /// The name leads to addresses that are not public, and not in the operator's networks either.
    PrivateAddress,
    /// The proxy is closed for good.
    Closed,
    /// The target of `CONNECT` is not a plain host and port.
    BadTarget(EndpointError),
    /// A method other than `CONNECT`.
    NotConnect,
    /// Not a well-formed HTTP/1.1 head.
    Malformed,
    /// The head is longer than the limit.
    HeadTooLong,
    /// The head was not there in time.
    HeadTimeout,
    /// As many tunnels are open as one guest may have.
    TooManyTunnels,
}

impl Reason {
    /// Whether the policy allowed the request, however it went afterwards.
    pub fn allowed(&self) -> bool {
        match self {
            Self::Finished | Self::Cut | Self::Broken(_) | Self::Unreachable(_) => true,
            Self::NotAllowed(_)
            | Self::PrivateAddress
            | Self::Closed
            | Self::BadTarget(_)
            | Self::NotConnect
            | Self::Malformed
            | Self::HeadTooLong
            | Self::HeadTimeout
            | Self::TooManyTunnels => false,
        }
    }

    /// Status code and reason phrase for the guest, and the header field that 405 requires. A tunnel that was open has
    /// no answer left to give; what stands here for those is never sent.
    pub(crate) fn status(&self) -> &'static str {
        match self {
            Self::Finished => "200 Connection Established",
            Self::NotAllowed(_) | Self::PrivateAddress | Self::Closed | Self::BadTarget(_) => {
                "403 Forbidden"
            }
            Self::NotConnect => "405 Method Not Allowed\r\nAllow: CONNECT",
            Self::Malformed => "400 Bad Request",
            Self::HeadTooLong => "431 Request Header Fields Too Large",
            Self::HeadTimeout => "408 Request Timeout",
            Self::Cut | Self::Broken(_) | Self::Unreachable(_) => "502 Bad Gateway",
            Self::TooManyTunnels => "503 Service Unavailable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Cut => f.write_str("cut when the phase ended"),
            Self::Broken(error) => write!(f, "the tunnel broke: {error}"),
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::NotAllowed(phase) => write!(f, "not allowed during {phase}"),
            Self::PrivateAddress => f.write_str("leads to no address that is allowed"),
            Self::Closed => f.write_str("the way out is closed"),
            Self::BadTarget(error) => write!(f, "not a host and a port: {error}"),
            Self::NotConnect => f.write_str("only CONNECT is served"),
            Self::Malformed => f.write_str("not an HTTP/1 request"),
            Self::HeadTooLong => write!(
                f,
                "the request head is longer than {} bytes",
                limits::HEAD_BYTES
            ),
            Self::HeadTimeout => write!(f, "no request head within {:?}", limits::HEAD_DEADLINE),
            Self::TooManyTunnels => write!(f, "{} tunnels are open already", limits::TUNNELS),
        }
    }
}
