//! The trace that a job belongs to, as [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header) writes it:
//!
//! ```text
//! 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//! version  trace id, not all 0     parent id, not all 0  flags
//! ```

use std::ffi::OsStr;
use std::str::FromStr;

/// Name of the header that carries it.
pub(crate) const HEADER: &str = "traceparent";

/// Name of the variable that whoever starts programs hands it to them in.
pub(crate) const VARIABLE: &str = "TRACEPARENT";

/// What is wrong with most of those that are refused.
const SHAPE: &str = "must be 00-<32 hex>-<16 hex>-<2 hex> in lower case";

/// A value of the header, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traceparent(String);

impl Traceparent {
    /// As it is sent.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The one in the variable, if it holds any. It is set for all programs alike, so what is no trace there is left out with a warning, as the
    /// standard has it.
    pub(crate) fn of_variable(value: Option<&OsStr>) -> Option<Self> {
        let text = value.filter(|text| !text.is_empty())?.to_string_lossy();
        let parsed = text.parse::<Self>();
        let warn = |said: &String| eprintln!("warning: {VARIABLE} is left out: it {said}");
        parsed.inspect_err(warn).ok()
    }
}

impl FromStr for Traceparent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields: Vec<_> = text.split('-').collect();
        let [version, trace, parent, flags, further @ ..] = &fields[..] else {
            return Err(SHAPE.to_owned());
        };
        let widths = [(version, 2), (trace, 32), (parent, 16), (flags, 2)];
        if !widths.iter().all(|(field, width)| is_hex(field, *width)) {
            return Err(SHAPE.to_owned());
        }
        // A later version may say more after the flags; this one does not.
        if *version == "ff" || (*version == "00" && !further.is_empty()) {
            return Err(SHAPE.to_owned());
        }
        for (name, field) in [("trace", trace), ("parent", parent)] {
            if field.bytes().all(|digit| digit == b'0') {
                return Err(format!("must have a {name} id that is not all zeros"));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_hex(text: &str, width: usize) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == width && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_taken_as_it_is() {
        assert_eq!(GOOD.parse::<Traceparent>().unwrap().as_str(), GOOD);
        let later = format!("cc{}-what-comes", &GOOD[2..]);
        assert!(later.parse::<Traceparent>().is_ok());
    }

    #[test]
    fn what_is_no_trace_in_the_variable_is_none() {
        let of = |text: &str| Traceparent::of_variable(Some(OsStr::new(text)));
        assert_eq!(of(GOOD), Some(GOOD.parse().unwrap()));
        assert_eq!(of(""), None);
        assert_eq!(of("00-1-2-3"), None);
        assert_eq!(Traceparent::of_variable(None), None);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for bad in [
            String::new(),
            "x".to_owned(),
            GOOD.to_uppercase(),
            format!("ff{}", &GOOD[2..]),
            format!("{GOOD}-more"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            format!("{GOOD}\r\nx: y"),
        ] {
            assert!(bad.parse::<Traceparent>().is_err(), "{bad:?}");
        }
    }
}
