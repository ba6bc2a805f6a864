//! What can go wrong with an object, told apart by whether it helps to try again.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// Any error of the SDK.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// What went wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The endpoint in the configuration is no address.
    #[error("the S3 endpoint must start with http:// or https://, is {endpoint:?}")]
    Endpoint {
        /// What stands there.
        endpoint: String,
    },
    /// There is no such object.
    #[error("no object {key} in the bucket {bucket}")]
    NotFound {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// The server answers, and will not do it for us: no credentials, wrong ones, or no right.
    #[error("{doing}: refused")]
    Refused {
        /// What we were doing.
        doing: String,
        /// The server's answer.
        #[source]
        source: Cause,
    },
    /// The server is away or in trouble: it may work a moment later.
    #[error("{doing}: no good answer")]
    Away {
        /// What we were doing.
        doing: String,
        /// What came instead.
        #[source]
        source: Cause,
    },
    /// The server answers, and says that it cannot be done: no such bucket, for one.
    #[error("{doing}")]
    Failed {
        /// What we were doing.
        doing: String,
        /// The server's answer.
        #[source]
        source: Cause,
    },
    /// More than S3 takes in one upload.
    #[error("upload {key} to the bucket {bucket}: more than 10000 parts")]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}

impl ObjectsError {
    /// Whether another try may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Endpoint { .. }
            | Self::NotFound { .. }
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::TooLarge { .. } => false,
        }
    }

    /// What the SDK's error means.
    pub(super) fn of<E>(doing: String, error: SdkError<E, HttpResponse>) -> Self
    where
        E: Error + Send + Sync + 'static,
    {
        match kind(&error) {
            Kind::Refused => Self::Refused {
                doing,
                source: error.into(),
            },
            Kind::Away => Self::Away {
                doing,
                source: error.into(),
            },
            Kind::Absent | Kind::Failed => Self::Failed {
                doing,
                source: error.into(),
            },
        }
    }

    /// Whether the answer is that there is nothing of that name: for `HEAD` that is a bare 404, for others also a word, since a missing
    /// bucket is a 404 too.
    pub(super) fn says_absent<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
        let code = error
            .as_service_error()
            .and_then(ProvideErrorMetadata::code);
        kind(error) == Kind::Absent && code != Some("NoSuchBucket")
    }

    /// Whether the server answered at all.
    pub(super) fn is_answer<E>(error: &SdkError<E, HttpResponse>) -> bool {
        matches!(kind(error), Kind::Absent | Kind::Failed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Absent,
    Refused,
    Away,
    Failed,
}

fn kind<E>(error: &SdkError<E, HttpResponse>) -> Kind {
    match error {
        SdkError::DispatchFailure(failure) => {
            let network = failure.is_io() || failure.is_timeout();
            // What the connector does not call a network error comes before the network: no credentials.
            if network { Kind::Away } else { Kind::Refused }
        }
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Kind::Away,
        SdkError::ServiceError(answer) => kind_of_status(answer.raw().status().as_u16()),
        // A request that cannot be built; and the SDK's enum may grow.
        _ => Kind::Failed,
    }
}

fn kind_of_status(status: u16) -> Kind {
    match status {
        404 => Kind::Absent,
        401 | 403 => Kind::Refused,
        408 | 429 | 500..=599 => Kind::Away,
        _ => Kind::Failed,
    }
}
