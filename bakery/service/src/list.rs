//! `bakery list`: every published snapshot in a line.

use jiff::Timestamp;

use crate::human;
use crate::inventory::{Kind, Summary};
use crate::table::Table;

/// 12 of 64 digits: enough for a person to tell keys apart, and for `bakery inspect`.
const SHOWN_DIGITS: usize = 12;

/// The snapshots as a table for a person, with ages as of `now`.
pub fn table(summaries: &[Summary], now: Timestamp) -> Vec<String> {
    let mut table = Table::new([
        "KEY", "KIND", "NAME", "TENANT", "TRUST", "CLASS", "SIZE", "STORED", "AGE", "CURRENT",
    ]);
    for summary in summaries {
        table.row([
            short(&summary.key),
            kind(summary.kind).to_owned(),
            summary.name.clone(),
            or_dash(summary.tenant.as_ref()),
            or_dash(summary.trust.as_ref()),
            summary.class.to_string(),
            human::size(summary.size_bytes),
            human::size(summary.stored_bytes),
            human::age(summary.created_at, now),
            if summary.current { "yes" } else { "" }.to_owned(),
        ]);
    }
    table.lines()
}

/// The first digits of a key.
pub(crate) fn short(key: &schemas::Sha256Digest) -> String {
    let mut digits = key.to_string();
    digits.truncate(SHOWN_DIGITS);
    digits
}

pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Template => "template",
        Kind::Environment => "environment",
    }
}

fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::tests::{environment, inventory, now, template};

    #[test]
    fn a_snapshot_is_a_line_with_its_age() {
        let node = template("node", 3);
        let widget = environment("widget", &node, 0);
        let inventory = inventory(&[&node, &widget]).with_template(&node);
        let lines = table(&inventory.summaries(), now());
        assert_eq!(lines.len(), 3);
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&lines[0])[..4], ["KEY", "KIND", "NAME", "TENANT"]);
        let template = words(&lines[1]);
        assert_eq!(template[0], short(&node.manifest.key));
        assert_eq!(template[1..4], ["template", "node", "-"]);
        assert!(lines[1].ends_with("3 days ago  yes"), "{}", lines[1]);
        assert_eq!(
            words(&lines[2])[1..5],
            ["environment", "widget", "acme", "untrusted"]
        );
        assert!(lines[2].ends_with("now"), "{}", lines[2]);
    }
}
