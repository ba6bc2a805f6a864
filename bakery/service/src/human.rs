//! Sizes and ages in words.

use jiff::{SignedDuration, Timestamp};

/// A size with three digits: `412 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Whole parts, for a size in words is rounded anyway.
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths < 100 {
        return format!("{}.{} {}", tenths / 10, tenths % 10, units[unit]);
    }
    format!("{} {}", tenths / 10, units[unit])
}

/// How long before `now` something was: `3 h ago`. Clocks differ a little: what is not past yet is `now`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let age = now.duration_since(then);
    if age < SignedDuration::from_secs(1) {
        return "now".to_owned();
    }
    format!("{} ago", span(age.unsigned_abs().as_secs()))
}

/// A time in its largest unit: `3 h`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_about_three_digits() {
        for (bytes, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (432 << 20, "432 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "1677721 TiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let now: Timestamp = "2024-01-10T00:00:00Z".parse().unwrap();
        for (seconds, words) in [
            (-5, "now"),
            (0, "now"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (7300, "2 h ago"),
            (86_400 * 3, "3 days ago"),
        ] {
            assert_eq!(age(now - SignedDuration::from_secs(seconds), now), words);
        }
    }
}
