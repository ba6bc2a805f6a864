//! The object store's clock: ages of objects are told by it alone, so that a machine whose own clock is wrong deletes nothing
//! that is young.

use std::time::{Duration, Instant, SystemTime};

use bus::objects::{Listed, Objects, ObjectsError};
use bytes::Bytes;

use crate::error::StoreError;

/// The object that is written to learn the time. It has no bytes, and everybody writes the same.
const PROBE: &str = "clock";

/// The object store's time, read once and carried on by this machine's steady clock. It may be late by a second, to which the
/// server cuts times, and so makes objects younger than they are, never older.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerClock {
    server: SystemTime,
    read: Instant,
}

impl ServerClock {
    /// Asks the server: writes an object and looks when that was.
    pub(crate) async fn read(objects: &Objects) -> Result<Self, StoreError> {
        let bucket = &objects.buckets().snapshots;
        let failed = || StoreError::objects(format!("read the time of s3://{bucket}/{PROBE}"));
        let put = objects.put(bucket, PROBE, Bytes::new()).await;
        put.map_err(failed())?;
        // Taken after the write: what comes between makes the clock late.
        let read = Instant::now();
        let found = objects.look(bucket, PROBE).await.map_err(failed())?;
        let found = found.ok_or_else(|| {
            failed()(ObjectsError::NotFound {
                bucket: bucket.clone(),
                key: PROBE.to_owned(),
            })
        })?;
        Ok(Self {
            server: found.modified,
            read,
        })
    }

    /// How long ago an object was written; one from the future is new.
    pub(crate) fn age(&self, listed: &Listed) -> Duration {
        let now = self.server + self.read.elapsed();
        now.duration_since(listed.modified).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bus::testing::S3Server;

    use super::*;

    fn written(modified: SystemTime) -> Listed {
        Listed {
            key: "chunk".to_owned(),
            size: 0,
            modified,
        }
    }

    #[tokio::test]
    async fn an_age_is_told_by_the_servers_clock() {
        let server = S3Server::start().await;
        let clock = ServerClock::read(&server.objects).await.unwrap();
        let hour = Duration::from_hours(1);
        let age = clock.age(&written(clock.server - hour));
        assert!(age >= hour && age < hour * 2, "{age:?}");
        assert_eq!(clock.age(&written(clock.server + hour)), Duration::ZERO);
        let bucket = &server.objects.buckets().snapshots;
        let probe = server.objects.look(bucket, PROBE).await.unwrap().unwrap();
        assert_eq!(clock.server, probe.modified);
    }
}
