//! Snapshot keys as they are printed: for people in columns, or as JSON.

use std::io::{self, Write as _};

use schemas::Sha256Digest;
use serde_json::json;

use super::Explained;
use crate::args::Explain;
use crate::parts::{Difference, Row, differences, rows};
use crate::summary::one_line;

/// One key, a part a line.
pub(super) fn show_one(explain: &Explain, explained: &Explained) -> anyhow::Result<()> {
    let Explained {
        key,
        parts,
        snapshot,
    } = explained;
    let mut out = io::stdout().lock();
    if explain.json {
        let said = json!({"key": key, "snapshot": snapshot, "parts": parts});
        return Ok(writeln!(out, "{said}")?);
    }
    let baked = match snapshot {
        Some(digest) => format!("sha256:{digest}"),
        None => "none: it is not baked".to_owned(),
    };
    let mut shown = rows(parts);
    for (part, value) in [("snapshot", baked), ("key", format!("sha256:{key}"))] {
        let part = part.to_owned();
        shown.push(Row { part, value });
    }
    let width = shown.iter().map(|row| row.part.len()).max().unwrap_or(0);
    for Row { part, value } in shown {
        writeln!(out, "{part:width$}  {}", one_line(&value))?;
    }
    Ok(())
}

/// What two keys do not share, side by side.
pub(super) fn show_two(
    explain: &Explain,
    first: &Explained,
    second: &Explained,
) -> anyhow::Result<()> {
    let found = differences(&first.parts, &second.parts);
    let mut out = io::stdout().lock();
    if explain.json {
        let said = json!({"keys": [first.key, second.key], "differences": found});
        return Ok(writeln!(out, "{said}")?);
    }
    if found.is_empty() {
        return Ok(writeln!(out, "the same key")?);
    }
    for line in side_by_side(first.key, second.key, found) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Three columns: part, first, second.
fn side_by_side(first: Sha256Digest, second: Sha256Digest, found: Vec<Difference>) -> Vec<String> {
    let shown =
        |value: Option<String>| value.map_or("(no such part)".to_owned(), |value| one_line(&value));
    let heads = [
        "part".to_owned(),
        format!("sha256:{first}"),
        format!("sha256:{second}"),
    ];
    let rows = found
        .into_iter()
        .map(|one| [one_line(&one.part), shown(one.first), shown(one.second)]);
    let rows: Vec<[String; 3]> = [heads].into_iter().chain(rows).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (part, left) = (width(0), width(1));
    let line = |[name, one, two]: &[String; 3]| format!("{name:part$}  {one:left$}  {two}");
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_stand_side_by_side() {
        let (a, b) = (Sha256Digest::of("a"), Sha256Digest::of("b"));
        let found = vec![Difference {
            part: "salt".into(),
            first: Some("x\ny".into()),
            second: None,
        }];
        let lines = side_by_side(a, b, found);
        assert!(lines[0].starts_with("part  sha256:"));
        assert!(
            lines[1].starts_with("salt  x") && lines[1].ends_with("  (no such part)"),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 2);
    }
}
