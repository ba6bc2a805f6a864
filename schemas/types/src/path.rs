//! Paths inside a source tree, and patterns over them. Neither can name anything outside the tree.
//!
//! A path is relative, UTF-8, `/`-separated and already normal: no empty part, no `.`, no `..`, no NUL, at most
//! [`MAX_PATH_BYTES`]. The one exception is `.` alone, which is the tree itself.

use glob::{MatchOptions, Pattern};

use crate::text::{TextError, text_type};

/// Longest path, as Linux's `PATH_MAX` has it.
pub const MAX_PATH_BYTES: usize = 4096;

/// `*` and `?` stay within one part of the path; a leading dot is a character like any other.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

text_type!(
    /// A path inside the source tree, or `.` for the tree itself.
    TreePath, check: check_tree_path,
    schema: {"type": "string", "minLength": 1, "maxLength": 4096, "description": "relative, `/`-separated, without empty, `.` or `..` parts; `.` alone is the tree itself"}
);

text_type!(
    /// A pattern over paths of the source tree. `*` and `?` match within one part, `[…]` one character, `**` as a whole part any number
    /// of parts. There are no braces and no escapes.
    Glob, check: check_glob,
    schema: {"type": "string", "minLength": 1, "maxLength": 4096, "description": "a relative path with `*`, `?`, `[…]`, and `**` as a whole part"}
);

impl TreePath {
    /// The tree itself, `.`.
    pub fn root() -> Self {
        Self(".".to_owned())
    }

    /// Whether this is the tree itself.
    pub fn is_root(&self) -> bool {
        self.0 == "."
    }

    /// The directory that holds it; none for the tree itself.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(
            self.0
                .rsplit_once('/')
                .map_or_else(Self::root, |(parent, _)| Self(parent.to_owned())),
        )
    }
}

impl Default for TreePath {
    fn default() -> Self {
        Self::root()
    }
}

impl Glob {
    /// Whether the pattern matches the whole of `path`.
    pub fn matches(&self, path: &TreePath) -> bool {
        let pattern =
            Pattern::new(&self.0).expect("the pattern was compiled when the glob was checked");
        pattern.matches_with(path.as_str(), MATCHING)
    }
}

fn check_tree_path(text: &str) -> Result<(), TextError> {
    if text == "." {
        return Ok(());
    }
    check_parts(text)
}

fn check_glob(text: &str) -> Result<(), TextError> {
    check_parts(text)?;
    Pattern::new(text).map(|_| ()).map_err(|e| {
        TextError::new(format!(
            "must be a pattern, is {text:?}: {} at {}",
            e.msg, e.pos
        ))
    })
}

fn check_parts(text: &str) -> Result<(), TextError> {
    let refuse = |problem: &str| Err(TextError::new(format!("{problem}, is {text:?}")));
    if text.len() > MAX_PATH_BYTES {
        return Err(TextError::new(format!(
            "must be at most {MAX_PATH_BYTES} bytes, is {}",
            text.len()
        )));
    }
    if text.is_empty() {
        return Err(TextError::new("must not be empty"));
    }
    if text.starts_with('/') {
        return refuse("must be relative to the source tree");
    }
    if text.contains('\0') {
        return refuse("must not contain a NUL");
    }
    for part in text.split('/') {
        match part {
            "" => return refuse("must not contain an empty part"),
            ".." => return refuse("must not leave the source tree"),
            "." => return refuse("must not contain a `.` part"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_leaves_the_tree_is_refused() {
        for (bad, problem) in [
            ("../x", "must not leave the source tree, is \"../x\""),
            ("a/../b", "must not leave the source tree, is \"a/../b\""),
            (
                "/etc/passwd",
                "must be relative to the source tree, is \"/etc/passwd\"",
            ),
            ("a//b", "must not contain an empty part, is \"a//b\""),
            ("a/", "must not contain an empty part, is \"a/\""),
            ("./a", "must not contain a `.` part, is \"./a\""),
            ("", "must not be empty"),
        ] {
            assert_eq!(TreePath::parse(bad).unwrap_err().to_string(), problem);
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_glob_matches_whole_paths_and_stars_stay_within_a_part() {
        let matches = |glob: &str, path: &str| {
            Glob::parse(glob)
                .unwrap()
                .matches(&TreePath::parse(path).unwrap())
        };
        assert!(matches("dist/**", "dist/a/b.js"));
        assert!(matches("dist/*.js", "dist/a.js"));
        assert!(!matches("dist/*.js", "dist/a/b.js"));
        assert!(matches("**/*.log", "x/y/z.log"));
        assert!(matches("dist/*", "dist/.hidden"));
        assert!(!matches("dist", "dist/a"));
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_refused() {
        assert!(
            Glob::parse("a/[b")
                .unwrap_err()
                .to_string()
                .starts_with("must be a pattern")
        );
        assert!(Glob::parse("a**b").is_err());
    }

    #[test]
    fn parents_lead_to_the_tree_itself() {
        let path = TreePath::parse("a/b").unwrap();
        assert_eq!(path.parent().unwrap().as_str(), "a");
        assert_eq!(path.parent().unwrap().parent(), Some(TreePath::root()));
        assert_eq!(TreePath::root().parent(), None);
    }

    proptest! {
        #[test]
        fn a_path_that_parses_never_climbs(text in "[a./\0]{0,12}") {
            if let Ok(path) = TreePath::parse(text) {
                prop_assert!(!path.as_str().starts_with('/'));
                prop_assert!(path.is_root() || path.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
