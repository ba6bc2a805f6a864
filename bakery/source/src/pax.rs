//! Pax extended headers: the records that stand before a tar entry and correct its header.
//!
//! ```text
//! record = length " " key "=" value "\n"      length: decimal, of the whole record, itself and the newline included
//! ```
//!
//! The length alone delimits a record, so a value may hold newlines. Read strictly: two readers that disagree on where a
//! record ends see two different archives.

use crate::error::Refusal;

/// What a pax header says of the entry after it. Keys that change neither name, target, size nor time are ignored.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Pax {
    /// `path`: the entry's name.
    pub(crate) path: Option<Vec<u8>>,
    /// `linkpath`: a link's target.
    pub(crate) link: Option<Vec<u8>>,
    /// `size`: bytes of content.
    pub(crate) size: Option<u64>,
    /// `mtime`: seconds since the epoch; the fraction is dropped.
    pub(crate) mtime: Option<i64>,
}

impl Pax {
    /// Reads the body of a pax header that describes one entry (type `x`).
    pub(crate) fn parse(mut body: &[u8]) -> Result<Self, Refusal> {
        let mut pax = Self::default();
        while !body.is_empty() {
            let (key, value, rest) = record(body).ok_or(Refusal::Pax("is malformed"))?;
            pax.take(key, value)?;
            body = rest;
        }
        Ok(pax)
    }

    /// Checks a pax header for the whole archive (type `g`): only what does not change an entry may stand there,
    /// such as the comment in which `git archive` leaves the commit.
    pub(crate) fn check_global(body: &[u8]) -> Result<(), Refusal> {
        let pax = Self::parse(body)?;
        if pax.path.is_some() || pax.link.is_some() || pax.size.is_some() {
            return Err(Refusal::Pax("renames or resizes every entry"));
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                self.size =
                    Some(number(value).ok_or(Refusal::Pax("has a size that is no number"))?);
            }
            b"mtime" => {
                self.mtime =
                    Some(seconds(value).ok_or(Refusal::Pax("has a time that is no number"))?);
            }
            sparse if sparse.starts_with(b"GNU.sparse.") => {
                return Err(Refusal::Pax("describes a sparse file"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, rest.
fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&body[..space])?).ok()?;
    let (record, rest) = body.split_at_checked(length)?;
    let fields = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = fields.iter().position(|byte| *byte == b'=')?;
    Some((&fields[..equals], &fields[equals + 1..], rest))
}

/// A decimal number of digits only: no sign, no space.
fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    whole.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &[u8]) -> String {
        Pax::parse(body).unwrap_err().to_string()
    }

    #[test]
    fn the_four_keys_that_matter_are_read_and_the_others_ignored() {
        let pax = Pax::parse(b"12 path=a/b\n14 linkpath=c\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(b"a/b".as_slice()));
        assert_eq!(pax.link.as_deref(), Some(b"c".as_slice()));
        let pax = Pax::parse(b"11 size=42\n22 mtime=1700000000.5\n13 comment=x\n").unwrap();
        assert_eq!(pax.size, Some(42));
        assert_eq!(pax.mtime, Some(1_700_000_000));
    }

    #[test]
    fn a_value_may_hold_a_newline() {
        let pax = Pax::parse(b"12 path=a\nb\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(b"a\nb".as_slice()));
    }

    #[test]
    fn a_record_whose_length_is_wrong_is_refused() {
        for body in [
            "13 path=a/b\n",
            "11 path=a/b\n",
            "99 path=a\n",
            "path=a\n",
            " \n",
            "0 =\n",
            "\n",
        ] {
            assert_eq!(
                refused(body.as_bytes()),
                "has a pax header that is malformed"
            );
        }
    }

    #[test]
    fn a_sparse_file_is_refused() {
        assert_eq!(
            refused(b"22 GNU.sparse.major=1\n"),
            "has a pax header that describes a sparse file"
        );
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        assert_eq!(
            refused(b"11 size=-2\n"),
            "has a pax header that has a size that is no number"
        );
        assert_eq!(
            refused(b"11 mtime=x\n"),
            "has a pax header that has a time that is no number"
        );
    }

    #[test]
    fn a_global_header_may_comment_but_not_rename() {
        assert_eq!(Pax::check_global(b"13 comment=x\n"), Ok(()));
        assert_eq!(
            Pax::check_global(b"10 path=a\n").unwrap_err().to_string(),
            "has a pax header that renames or resizes every entry"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Pax::parse(&body);
        }

        #[test]
        fn a_record_that_was_written_is_read_back(value in "[^\0]{1,200}") {
            let fields = format!(" path={value}\n");
            let length = (1..=3)
                .map(|digits| fields.len() + digits)
                .find(|length| length.to_string().len() + fields.len() == *length)
                .unwrap();
            let pax = Pax::parse(format!("{length}{fields}").as_bytes()).unwrap();
            prop_assert_eq!(pax.path, Some(value.into_bytes()));
        }
    }
}
