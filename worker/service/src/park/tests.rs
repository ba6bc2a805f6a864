//! Which words end a wait, and which requests are one.

use async_nats::jetstream::kv::Operation;
use schemas::{HostClass, ObjectUri, Sha256Digest, Trust};

use super::*;

fn missing(wanted: Wanted) -> Missing {
    let definition = br#"{"name": "widget", "template": "node"}"#;
    Missing {
        class: class(),
        trust: Trust::Untrusted,
        environment: schemas::Environment::parse(definition).unwrap(),
        wanted,
        template: None,
    }
}

fn template(gone: Option<Sha256Digest>) -> Missing {
    let name = "node".parse().unwrap();
    missing(Wanted::Template { name, gone })
}

fn class() -> HostClass {
    "qemu-7_2-tcg-0123abcd".parse().unwrap()
}

fn source(bytes: &str) -> ArchiveSource {
    ArchiveSource {
        uri: ObjectUri::new("build-sources", "acme/x").unwrap().into(),
        digest: Sha256Digest::of(bytes).into(),
    }
}

fn event(request_id: &str, key: Option<Sha256Digest>) -> BakeEvent {
    let body = serde_json::json!({
        "request_id": request_id, "key": key, "class": class(), "trust": "untrusted", "kind": "failed",
        "seq": 1, "time": "2026-01-01T00:00:00Z"
    });
    BakeEvent::parse(body.to_string().as_bytes()).unwrap()
}

#[test]
fn a_pointer_that_is_put_ends_the_wait_and_one_that_goes_does_not() {
    let waits = missing(Wanted::Key(Sha256Digest::of("key")));
    assert!(waits.is_ended_by(Operation::Put, b"manifest"));
    assert!(!waits.is_ended_by(Operation::Delete, b""));
    assert!(!waits.is_ended_by(Operation::Purge, b""));
}

#[test]
fn a_template_whose_pointer_still_leads_to_what_is_gone_is_not_there() {
    let gone = Sha256Digest::of("gone");
    let waits = template(Some(gone));
    assert!(!waits.is_ended_by(Operation::Put, gone.to_string().as_bytes()));
    assert!(waits.is_ended_by(Operation::Put, b"another"));
    let watched = waits.watched();
    assert_eq!(watched[1], names::snapshot_pointer(&gone));
}

#[test]
fn an_event_is_known_by_its_request_or_by_the_key() {
    let key = Sha256Digest::of("key");
    let waits = missing(Wanted::Key(key));
    let ours = "bake-1".parse().unwrap();
    assert!(waits.is_about(&event("bake-1", None), &ours));
    assert!(waits.is_about(&event("bake-2", Some(key)), &ours));
    assert!(!waits.is_about(&event("bake-2", None), &ours));
    // No key of ours is not the same as no key of theirs.
    assert!(!template(None).is_about(&event("bake-2", None), &ours));
}

#[test]
fn an_event_of_another_trust_or_another_class_ends_no_wait() {
    let key = Sha256Digest::of("key");
    let ours = "bake-1".parse().unwrap();
    for waits in [missing(Wanted::Key(key)), template(None)] {
        let mut event = event("bake-1", Some(key));
        event.trust = Trust::Trusted;
        assert!(!waits.is_about(&event, &ours));
        event.trust = Trust::Untrusted;
        assert!(waits.is_about(&event, &ours));
        event.class = "qemu-7_2-kvm-0123abcd".parse().unwrap();
        assert!(!waits.is_about(&event, &ours));
    }
}

#[test]
fn jobs_that_ask_for_the_same_key_ask_once_and_have_events_of_their_own() {
    let waits = missing(Wanted::Key(Sha256Digest::of("key")));
    let ask = || waits.request_id(&source("a"));
    let (first, second) = (ask(), ask());
    assert_ne!(first, second);
    let key = Sha256Digest::of("key");
    let subject = "bake.request.c.untrusted.acme.widget".parse().unwrap();
    let request = |id: Token| BakeRequest {
        schema: BakeRequestSchema,
        request_id: id,
        tenant: None,
        trust: None,
        environment: "widget".parse().unwrap(),
        definition: None,
        source: Source::Archive(source("a")),
        key: Some(key),
        again: false,
    };
    let id_of = |id: &Token, mark| {
        waits
            .wanted
            .message_id(&subject, &request(id.clone()), mark)
    };
    assert_eq!(id_of(&first, 0), format!("bake-{key}"));
    assert_eq!(id_of(&first, 0), id_of(&second, 0));
    assert_ne!(
        id_of(&first, 0),
        id_of(&second, 7),
        "its snapshot was withdrawn"
    );
}

#[test]
fn without_a_key_the_same_request_has_the_same_id_and_another_source_another() {
    let waits = template(None);
    let ask = |bytes| waits.request_id(&source(bytes));
    assert_eq!(ask("a"), ask("a"));
    assert_ne!(ask("a"), ask("b"));
}
