//! All keys of a bucket with their values, one question a key, while others write them.
//!
//! A key that is written again moves to the end. So a second pass finds what moved while the first one looked; and each pass ends with what
//! was the last place when it began, since keys that are written faster than they are read would lead it on for ever. A key is there once, with
//! the value that was read last.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Two: what moves in both, each time before it is read, is written faster than anybody could tell what it is.
const PASSES: usize = 2;

/// What lies at one place.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Which place.
    pub(crate) sequence: u64,
    /// Of which key.
    pub(crate) key: String,
    /// Its value; none where it has none any more.
    pub(crate) value: Option<Bytes>,
}

/// Reads them: `last` gives the last place that there is, `next` the first from that place on.
pub(crate) async fn scan<E>(
    last: impl AsyncFn() -> Result<Option<u64>, E>,
    next: impl AsyncFn(u64) -> Result<Option<Place>, E>,
) -> Result<BTreeMap<String, Bytes>, E> {
    let mut found = BTreeMap::new();
    let mut from = 1;
    for _ in 0..PASSES {
        let end = last().await?.unwrap_or_default();
        while from <= end
            && let Some(place) = next(from).await?
        {
            from = place.sequence + 1;
            match place.value {
                Some(value) => found.insert(place.key, value),
                None => found.remove(&place.key),
            };
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::convert::Infallible;

    use super::*;

    /// A bucket that keeps the last value of a key.
    #[derive(Default)]
    struct Bucket(RefCell<Vec<Place>>);

    impl Bucket {
        fn write(&self, key: &str, value: Option<&'static str>) {
            let mut places = self.0.borrow_mut();
            let sequence = places.last().map_or(1, |last| last.sequence + 1);
            places.retain(|place| place.key != key);
            places.push(Place {
                sequence,
                key: key.to_owned(),
                value: value.map(Bytes::from),
            });
        }

        /// Scans it; `meanwhile` happens before each place is read.
        async fn scan(&self, meanwhile: impl Fn(&Self, u64)) -> Vec<(String, Bytes)> {
            let last = async || Ok(self.0.borrow().last().map(|last| last.sequence));
            let next = async |from| {
                meanwhile(self, from);
                let places = self.0.borrow();
                let found = places.iter().find(|place| place.sequence >= from).cloned();
                Ok::<_, Infallible>(found)
            };
            scan(last, next).await.unwrap().into_iter().collect()
        }
    }

    fn keys(found: &[(String, Bytes)]) -> Vec<&str> {
        found.iter().map(|(key, _)| key.as_str()).collect()
    }

    #[tokio::test]
    async fn a_key_that_is_always_written_is_found_once_and_the_scan_ends() {
        let bucket = Bucket::default();
        for key in ["a", "b"] {
            bucket.write(key, Some("x"));
        }
        let again = |bucket: &Bucket, _| bucket.write("a", Some("x"));
        assert_eq!(keys(&bucket.scan(again).await), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_key_that_moves_before_it_is_read_is_found_where_it_went() {
        let bucket = Bucket::default();
        for key in ["a", "b", "c"] {
            bucket.write(key, Some("old"));
        }
        let moves = |bucket: &Bucket, from| {
            if from == 2 {
                bucket.write("b", Some("new"));
            }
        };
        let found = bucket.scan(moves).await;
        assert_eq!(keys(&found), ["a", "b", "c"]);
        assert_eq!(found[1].1, "new");
    }

    #[tokio::test]
    async fn a_key_without_a_value_is_not_there() {
        let bucket = Bucket::default();
        assert!(bucket.scan(|_, _| {}).await.is_empty());
        bucket.write("a", Some("x"));
        bucket.write("b", None);
        let deletes = |bucket: &Bucket, from| {
            if from == 2 {
                bucket.write("a", None);
            }
        };
        assert!(bucket.scan(deletes).await.is_empty());
    }
}
