//! Objects against a real S3 implementation in this process.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::retry::Policy;
use crate::testing::S3Server;

const BUCKET: &str = "build-artifacts";

async fn read(objects: &Objects, key: &str) -> Vec<u8> {
    let mut download = objects.get(BUCKET, key).await.unwrap();
    let mut bytes = Vec::new();
    download.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(download.size, bytes.len() as u64);
    bytes
}

/// Bytes that differ from place to place, so that parts in the wrong order show.
fn bytes(len: usize) -> Bytes {
    (0..len)
        .map(|index| u8::try_from(index * 31 % 251).expect("below 251"))
        .collect()
}

#[tokio::test]
async fn an_object_reads_back_what_was_put() {
    let server = S3Server::start().await;
    let objects = &server.objects;
    objects
        .put(BUCKET, "acme/a b+c", bytes(1000))
        .await
        .unwrap();
    assert_eq!(read(objects, "acme/a b+c").await, bytes(1000));
    assert_eq!(
        objects.size(BUCKET, "acme/a b+c").await.unwrap(),
        Some(1000)
    );
}

#[tokio::test]
async fn an_absent_object_is_told_by_its_type() {
    let server = S3Server::start().await;
    let objects = &server.objects;
    assert_eq!(objects.size(BUCKET, "nothing").await.unwrap(), None);
    let error = objects.get(BUCKET, "nothing").await.err().unwrap();
    assert!(
        matches!(&error, ObjectsError::NotFound { key, .. } if key == "nothing"),
        "{error:?}"
    );
    assert!(!error.is_transient());
}

#[tokio::test]
async fn objects_are_listed_in_order_with_size_and_age_page_by_page() {
    let server = S3Server::start().await;
    let objects = &server.objects;
    let begun = SystemTime::now() - Duration::from_secs(2);
    for number in 0..1002 {
        let (key, body) = (format!("a/{number:04}"), bytes(number % 7));
        objects.put(BUCKET, &key, body).await.unwrap();
    }
    objects.put(BUCKET, "b/0", bytes(1)).await.unwrap();
    let first = objects.list(BUCKET, "a/", None).await.unwrap();
    assert_eq!((first.objects.len(), first.whole), (1000, false));
    let last = first.objects.last().unwrap();
    assert_eq!((last.key.as_str(), last.size), ("a/0999", 999 % 7));
    assert!(last.modified >= begun && last.modified <= SystemTime::now());
    let rest = objects.list(BUCKET, "a/", Some(&last.key)).await.unwrap();
    let keys: Vec<_> = rest
        .objects
        .iter()
        .map(|object| object.key.as_str())
        .collect();
    assert_eq!((keys, rest.whole), (vec!["a/1000", "a/1001"], true));
    let seen = objects.look(BUCKET, "a/1001").await.unwrap();
    let seen = seen.unwrap();
    assert_eq!((seen.key.as_str(), seen.size), ("a/1001", 1001 % 7));
    assert!(seen.modified >= begun && seen.modified <= SystemTime::now());
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_may_be_so_already() {
    let server = S3Server::start().await;
    let objects = &server.objects;
    objects.put(BUCKET, "a", bytes(1)).await.unwrap();
    for _ in 0..2 {
        objects.delete(BUCKET, "a").await.unwrap();
        assert_eq!(objects.look(BUCKET, "a").await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_upload_of_any_size_becomes_one_object() {
    let server = S3Server::start().await;
    let objects = &server.objects;
    for len in [
        0,
        1,
        PART_BYTES - 1,
        PART_BYTES,
        PART_BYTES + 1,
        2 * PART_BYTES + 5,
    ] {
        let key = format!("upload-{len}");
        let mut upload = objects.upload(BUCKET, &key);
        let mut rest = bytes(len);
        while !rest.is_empty() {
            upload
                .write(rest.split_to(rest.len().min(1_000_003)))
                .await
                .unwrap();
        }
        assert_eq!(
            objects.size(BUCKET, &key).await.unwrap(),
            None,
            "it exists before it is complete"
        );
        upload.complete().await.unwrap();
        assert!(read(objects, &key).await == bytes(len), "{len}");
    }
}

#[tokio::test]
async fn an_aborted_upload_leaves_no_object() {
    let server = S3Server::start().await;
    let objects = &server.objects;
    let mut upload = objects.upload(BUCKET, "gone");
    upload.write(bytes(PART_BYTES + 1)).await.unwrap();
    upload.abort().await;
    assert_eq!(objects.size(BUCKET, "gone").await.unwrap(), None);
}

#[tokio::test]
async fn a_bucket_may_be_there_already() {
    let server = S3Server::start().await;
    let objects = &server.objects;
    objects.create_bucket(BUCKET).await.unwrap();
}

#[tokio::test]
async fn a_server_without_our_buckets_is_ready() {
    let server = S3Server::start_without_buckets().await;
    server.objects.wait_ready().await.unwrap();
}

#[tokio::test]
async fn wrong_credentials_are_not_waited_for() {
    let server = S3Server::start().await;
    let objects = Objects::connect_as(&server.config, "user", "wrong")
        .await
        .unwrap();
    let error = objects.wait_ready().await.unwrap_err();
    assert!(matches!(error, ObjectsError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let config = ObjectsConfig {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ..ObjectsConfig::default()
    };
    let objects = Objects::connect_as(&config, "user", "secret")
        .await
        .unwrap();
    let policy = Policy {
        first_wait: Duration::from_millis(1),
        ..Policy::up_to(Duration::from_millis(20))
    };
    let error = objects.wait_ready_within(policy).await.unwrap_err();
    assert!(matches!(error, ObjectsError::Away { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_no_address_is_refused() {
    let config = ObjectsConfig {
        endpoint: Some("127.0.0.1:8333".to_owned()),
        ..ObjectsConfig::default()
    };
    let error = Objects::connect(&config).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the S3 endpoint must start with http:// or https://, is \"127.0.0.1:8333\""
    );
}

#[test]
fn a_configuration_is_read_from_toml() {
    let config: ObjectsConfig =
        toml::from_str("endpoint = 'http://s3.example.com'\nbuckets.logs = 'logs'").unwrap();
    assert_eq!(config.buckets.logs, "logs");
    assert_eq!(config.buckets.sources, "build-sources");
    assert!(config.force_path_style);
    assert!(toml::from_str::<ObjectsConfig>("endpont = 'x'").is_err());
}
