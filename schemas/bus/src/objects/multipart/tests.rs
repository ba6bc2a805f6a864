//! What an S3 server in this process is asked for when an upload ends, or is cut.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::*;
use crate::objects::PART_BYTES;
use crate::testing::S3Server;

const BUCKET: &str = "build-artifacts";

/// A server, and the operations that it is asked for from now on; the first of an upload waits for `answer`.
async fn heard() -> (S3Server, mpsc::UnboundedReceiver<String>, Arc<Notify>) {
    let server = S3Server::start().await;
    let (asked, operations) = mpsc::unbounded_channel();
    let answer = Arc::new(Notify::new());
    let gate = Arc::clone(&answer);
    server.intercept(move |operation, _| {
        let (asked, gate) = (asked.clone(), Arc::clone(&gate));
        async move {
            let begins = operation == "CreateMultipartUpload";
            let _ = asked.send(operation);
            if begins {
                gate.notified().await;
            }
            true
        }
    });
    (server, operations, answer)
}

/// A full part: what makes an upload one in parts.
fn part() -> Bytes {
    vec![7; PART_BYTES].into()
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted_at_the_server() {
    let (server, mut operations, answer) = heard().await;
    answer.notify_one();
    let mut upload = server.objects.upload(BUCKET, "cut");
    upload.write(part()).await.unwrap();
    drop(upload);
    for expected in [
        "CreateMultipartUpload",
        "UploadPart",
        "AbortMultipartUpload",
    ] {
        assert_eq!(operations.recv().await.unwrap(), expected);
    }
    assert_eq!(server.objects.size(BUCKET, "cut").await.unwrap(), None);
}

#[tokio::test]
async fn an_upload_whose_beginning_was_cut_is_aborted_once_the_server_has_begun_it() {
    let (server, mut operations, answer) = heard().await;
    let mut upload = server.objects.upload(BUCKET, "cut");
    tokio::select! {
        written = upload.write(part()) => panic!("the server has not answered: {written:?}"),
        asked = operations.recv() => assert_eq!(asked.unwrap(), "CreateMultipartUpload"),
    }
    drop(upload);
    answer.notify_one();
    assert_eq!(operations.recv().await.unwrap(), "AbortMultipartUpload");
}

#[tokio::test]
async fn an_upload_that_has_ended_is_not_aborted_again() {
    let (server, mut operations, answer) = heard().await;
    for (completes, last) in [
        (true, "CompleteMultipartUpload"),
        (false, "AbortMultipartUpload"),
    ] {
        answer.notify_one();
        let mut upload = server.objects.upload(BUCKET, "whole");
        upload.write(part()).await.unwrap();
        if completes {
            upload.complete().await.unwrap();
        } else {
            upload.abort().await;
        }
        server.objects.size(BUCKET, "whole").await.unwrap();
        for expected in ["CreateMultipartUpload", "UploadPart", last, "HeadObject"] {
            assert_eq!(operations.recv().await.unwrap(), expected);
        }
    }
}

#[test]
fn an_upload_that_the_server_gives_no_id_is_not_begun() {
    let config = aws_sdk_s3::Config::builder().behavior_version_latest();
    let (bucket, key) = ("b".to_owned(), "a".to_owned());
    let place = Place {
        client: Client::from_conf(config.build()),
        bucket,
        key,
    };
    for none in [None, Some(String::new())] {
        let error = Multipart::begun(place.clone(), none).unwrap_err();
        assert_eq!(
            Causes(&error).to_string(),
            "upload a to the bucket b: the server began it without an id"
        );
    }
}
