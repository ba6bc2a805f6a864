//! `.gitmodules`: where the repositories of submodules are. Git's own syntax for configurations, as far as this file needs it.
//!
//! ```text
//! file    = { line }             line  = [ section | variable ] [ comment ]
//! section = "[" name [ SP quoted ] "]"      variable = name [ "=" value ]      comment = ( "#" | ";" ) …
//! ```
//!
//! A value is trimmed; quotes keep spaces and comment signs in it; `\\`, `\"`, `\n`, `\t` and `\b` are what they are in C; a backslash at
//! the end of a line joins the next one. Of the variables only `submodule.<name>.path` and `.url` count. What git would have to choose
//! between is refused.

use std::collections::BTreeMap;

use schemas::https::HttpsUri;
use schemas::quoted;

/// Where one submodule belongs, and where it comes from, as the file says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) path: Option<String>,
    pub(crate) url: Option<String>,
}

/// The modules of a `.gitmodules`, by path. The error reads on from ".gitmodules".
pub(crate) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    let mut reader = Reader::new(text);
    let mut module = None;
    while let Some(item) = reader.next()? {
        match item {
            Item::Section(name) => module = name,
            Item::Variable(name, value) => {
                let Some(module) = &module else { continue };
                let entry = modules.entry(module.clone()).or_default();
                match name.as_str() {
                    "path" => once(&mut entry.path, value, module)?,
                    "url" => once(&mut entry.url, value, module)?,
                    _ => {}
                }
            }
        }
    }
    by_path(modules)
}

fn once(slot: &mut Option<String>, value: Option<String>, module: &str) -> Result<(), String> {
    let value =
        value.ok_or_else(|| format!("gives {} a variable without a value", quoted(module)))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("gives {} a path or url twice", quoted(module))),
    }
}

fn by_path(modules: BTreeMap<String, Module>) -> Result<BTreeMap<String, String>, String> {
    let mut paths = BTreeMap::new();
    for module in modules.into_values() {
        // One half alone names no submodule: git passes over it as well.
        let (Some(path), Some(url)) = (module.path, module.url) else {
            continue;
        };
        if let Some(_other) = paths.insert(path.clone(), url) {
            return Err(format!("gives {} two urls", quoted(&path)));
        }
    }
    Ok(paths)
}

/// The address that `url` means in a repository that came from `parent`: one that begins with `./` or `../` is relative to it, as to a
/// directory. None if it does not lead to https.
pub(crate) fn resolve(parent: &HttpsUri, url: &str) -> Option<HttpsUri> {
    if !(url.starts_with("./") || url.starts_with("../")) {
        return HttpsUri::parse(url).ok();
    }
    let target = parent.target().split('?').next().unwrap_or_default();
    let mut parts: Vec<_> = target.split('/').filter(|part| !part.is_empty()).collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            // Above the host there is nothing.
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let (host, port) = (parent.host(), parent.port());
    let authority = match port {
        443 => host,
        port => format!("{host}:{port}"),
    };
    HttpsUri::parse(format!("https://{authority}/{}", parts.join("/"))).ok()
}

/// What a file is made of.
enum Item {
    /// A section begins: the name of a submodule, or none for every other section.
    Section(Option<String>),
    /// A variable in lower case, and its value if it has one.
    Variable(String, Option<String>),
}

/// Reads items one after the other.
struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            rest: text.chars().peekable(),
        }
    }

    fn next(&mut self) -> Result<Option<Item>, String> {
        loop {
            match self.rest.peek() {
                None => return Ok(None),
                Some('#' | ';') => self.skip_line(),
                Some('[') => return self.section().map(Some),
                Some(c) if c.is_ascii_alphabetic() => return self.variable().map(Some),
                Some(c) if c.is_whitespace() => drop(self.rest.next()),
                Some(other) => return Err(format!("has a line that begins with {other:?}")),
            }
        }
    }

    fn section(&mut self) -> Result<Item, String> {
        self.rest.next();
        let name = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        self.skip_spaces();
        let quoted = match self.rest.peek() {
            Some('"') => Some(self.quoted()?),
            Some(_) | None => None,
        };
        if self.rest.next() != Some(']') {
            return Err("has a section without its end".to_owned());
        }
        Ok(Item::Section(quoted.filter(|_| name == "submodule")))
    }

    /// The part of a section's name in quotes: in it a backslash stands before a character as it is.
    fn quoted(&mut self) -> Result<String, String> {
        self.rest.next();
        let mut text = String::new();
        loop {
            let next = match self.rest.next() {
                Some('"') => return Ok(text),
                Some('\\') => self.rest.next(),
                other => other,
            };
            match next {
                Some('\n') | None => return Err("has a section without its end".to_owned()),
                Some(c) => text.push(c),
            }
        }
    }

    fn variable(&mut self) -> Result<Item, String> {
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '-');
        self.skip_spaces();
        match self.rest.peek() {
            Some('=') => {
                self.rest.next();
                self.skip_spaces();
                Ok(Item::Variable(name, Some(self.value()?)))
            }
            Some('\n' | '\r' | '#' | ';') | None => Ok(Item::Variable(name, None)),
            Some(other) => Err(format!("has {other:?} after the name of a variable")),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        let mut text = String::new();
        let mut quoted = false;
        // What stands before it is kept; the rest is trimmed at the end of the line.
        let mut kept = 0;
        loop {
            match self.rest.next() {
                None | Some('\n') if quoted => return Err("has a quote without its end".to_owned()),
                None | Some('\n') => break,
                Some('#' | ';') if !quoted => {
                    self.skip_line();
                    break;
                }
                Some('"') => quoted = !quoted,
                Some('\\') => {
                    text.extend(self.escaped()?);
                    kept = text.len();
                    continue;
                }
                Some(c) => text.push(c),
            }
            if quoted || !text.ends_with(char::is_whitespace) {
                kept = text.len();
            }
        }
        text.truncate(kept);
        Ok(text)
    }

    /// What a backslash in a value stands for; nothing where it joins two lines.
    fn escaped(&mut self) -> Result<Option<char>, String> {
        match self.rest.next() {
            Some('\n') => Ok(None),
            Some('n') => Ok(Some('\n')),
            Some('t') => Ok(Some('\t')),
            Some('b') => Ok(Some('\u{8}')),
            Some(c @ ('\\' | '"')) => Ok(Some(c)),
            Some('\r') if self.rest.next_if_eq(&'\n').is_some() => Ok(None),
            Some(_) | None => Err("has a backslash before what needs none".to_owned()),
        }
    }

    /// A name, in lower case.
    fn word(&mut self, good: impl Fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| good(*c)) {
            word.push(c.to_ascii_lowercase());
        }
        word
    }

    fn skip_spaces(&mut self) {
        while self.rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
    }

    fn skip_line(&mut self) {
        while self.rest.next().is_some_and(|c| c != '\n') {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        parse(text.as_bytes()).map(|modules| modules.into_iter().collect())
    }

    fn uri(text: &str) -> HttpsUri {
        HttpsUri::parse(text).unwrap()
    }

    #[test]
    fn the_usual_file_is_read() {
        let text = "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = https://git.example.com/lib.git ; here\r\n\
                    # more\n[core]\n\tpath = x\n[Submodule \"a \\\"b\"] PATH=\"a b\" \n\turl = ../b\\\n.git\n\tactive\n";
        let modules = read(text).unwrap();
        let expected = [
            ("a b", "../b.git"),
            ("vendor/lib", "https://git.example.com/lib.git"),
        ];
        let expected = expected.map(|(path, url)| (path.to_owned(), url.to_owned()));
        assert_eq!(modules, expected);
    }

    #[test]
    fn what_git_would_have_to_choose_between_is_refused() {
        for bad in [
            "[submodule \"a\"]\npath = x\npath = y\n",
            "[submodule \"a\"]\npath = x\nurl = u\n[submodule \"b\"]\npath = x\nurl = v\n",
            "[submodule \"a\"]\npath\n",
            "[submodule \"a\n",
            "[submodule \"a\"\npath = x\n",
            "[submodule \"a\"]\npath = \"x\n",
            "[submodule \"a\"]\npath = \\x\n",
            "= x\n",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_relative_url_starts_at_the_repository_and_stays_on_its_host() {
        let parent = uri("https://git.example.com:8443/a/b.git");
        let resolved = |url: &str| resolve(&parent, url).map(|uri| uri.to_string());
        let https = |rest: &str| Some(format!("https://git.example.com:8443/{rest}"));
        assert_eq!(resolved("../lib.git"), https("a/lib.git"));
        assert_eq!(resolved("./lib"), https("a/b.git/lib"));
        assert_eq!(resolved("../../c/d"), https("c/d"));
        assert_eq!(resolved("../../../c"), None);
        assert_eq!(
            resolved("https://x.example/a").as_deref(),
            Some("https://x.example/a")
        );
        for other in [
            "git@x.example:a",
            "ssh://x.example/a",
            "http://x.example/a",
            "/srv/a",
            "file:///a",
        ] {
            assert_eq!(resolved(other), None, "{other}");
        }
    }
}
