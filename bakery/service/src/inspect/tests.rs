//! What is found by some digits, and what is said of it.

use super::*;
use crate::inventory::tests::{environment, inventory, now, template};

fn prefix(text: &str) -> KeyPrefix {
    text.parse().unwrap()
}

#[test]
fn a_key_is_found_by_its_first_digits() {
    let (one, other) = (template("node", 1), template("node", 2));
    let inventory = inventory(&[&one, &other]);
    let key = one.manifest.key.to_string();
    for text in [&key[..6], &key, &format!("sha256:{key}")] {
        assert_eq!(
            inventory.inspect(&prefix(text)).unwrap().summary.key,
            one.manifest.key
        );
    }
    let nothing = if key.starts_with('0') {
        "111111"
    } else {
        "000000"
    };
    let unknown = inventory.inspect(&prefix(nothing)).unwrap_err();
    assert_eq!(unknown, InspectError::Unknown(prefix(nothing)));
}

#[test]
fn digits_that_several_keys_begin_with_are_too_few() {
    let held = template("node", 1);
    let key = held.manifest.key.to_string();
    let mut inventory = inventory(&[&held]);
    let neighbour = format!(
        "{}{}",
        &key[..63],
        if key.ends_with('0') { '1' } else { '0' }
    );
    inventory.snapshots.insert(neighbour.parse().unwrap(), held);
    let error = inventory.inspect(&prefix(&key[..63])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "2 snapshots have a key that begins with {}: give more digits",
            &key[..63]
        )
    );
}

#[test]
fn everybody_who_uses_a_snapshot_is_named() {
    let node = template("node", 3);
    let (old, new) = (
        environment("widget", &node, 2),
        environment("widget", &node, 1),
    );
    let inventory = inventory(&[&node, &old, &new])
        .with_template(&node)
        .with_recent("widget", &[&new, &old])
        .with_user("w1", &old);
    let lines = |held: &crate::inventory::Held| {
        let inspected = inventory
            .inspect(&prefix(&held.manifest.key.to_string()))
            .unwrap();
        let lines = inspected.lines(now()).into_iter();
        lines
            .filter(|line| line.starts_with("used by"))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&node)[0], "used by    template node");
    assert_eq!(lines(&node).len(), 3);
    assert_eq!(
        lines(&old),
        [
            "used by    environment widget of acme, untrusted (1 newer)",
            "used by    worker w1"
        ]
    );
    assert_eq!(
        lines(&new),
        ["used by    environment widget of acme, untrusted (its newest)"]
    );
}

#[test]
fn what_is_told_a_program_holds_the_manifest_and_who_uses_it() {
    let node = template("node", 3);
    let inventory = inventory(&[&node]).with_template(&node);
    let inspected = inventory
        .inspect(&prefix(&node.manifest.key.to_string()))
        .unwrap();
    let told = serde_json::to_value(&inspected).unwrap();
    assert_eq!(told["kind"], "template");
    assert_eq!(told["used_by"]["templates"][0], "node");
    assert_eq!(told["contents"]["key"], node.manifest.key.to_string());
}
