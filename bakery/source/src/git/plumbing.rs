//! The commands that the fetch VM runs, and what their failures mean.
//!
//! What always holds: nothing but plumbing runs. No work tree is ever made, so no filter, no conversion of line ends and no LFS can have
//! a say; no hook and no configuration of a system or a user is read; the only protocol is https, through the way out of the guest.

use schemas::guest::base_environment;

use crate::git::problem::{GitProblem, Matter};

/// 300: characters of git's last words that an error repeats.
const SHOWN: usize = 300;

/// What git says where the repository or the commit is not there, or not for us.
const NOT_THERE: [&str; 9] = [
    "not our ref",
    "couldn't find remote ref",
    "unadvertised object",
    // Of the repository: git says "not found" of many things, its own programs among them.
    "/' not found",
    "epository not found",
    "could not read Username",
    "Authentication failed",
    "The requested URL returned error: 403",
    "bad object",
];

/// What git says where what came is not the commit.
const OTHER_CONTENT: [&str; 3] = [
    "did not receive expected object",
    "did not send all necessary objects",
    "SHA1 COLLISION",
];

/// How git is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// Where the way out is on the guest's loopback.
    pub(crate) proxy_port: u16,
    /// The certificate authorities inside the guest.
    pub(crate) ca_bundle: String,
}

impl Guest {
    /// The whole environment of a command.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment = base_environment(0);
        // Sentences that are understood, and nobody to ask.
        let mut set = |name: &str, value: &str| {
            environment.insert(name.to_owned(), value.to_owned());
        };
        set("LC_ALL", "C");
        set("LANG", "C");
        set("GIT_CONFIG_NOSYSTEM", "1");
        set("GIT_CONFIG_GLOBAL", "/dev/null");
        set("GIT_ATTR_NOSYSTEM", "1");
        set("GIT_TERMINAL_PROMPT", "0");
        set("GIT_ASKPASS", "false");
        set("GIT_NO_REPLACE_OBJECTS", "1");
        set("GIT_DIR", ".");
        let settings = self.settings();
        set("GIT_CONFIG_COUNT", &settings.len().to_string());
        for (index, (name, value)) in settings.iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{index}"), name);
            set(&format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        environment.into_iter().collect()
    }

    fn settings(&self) -> [(&'static str, String); 17] {
        let proxy = format!("http://127.0.0.1:{}", self.proxy_port);
        let fixed = |value: &str| value.to_owned();
        [
            ("protocol.allow", fixed("never")),
            ("protocol.https.allow", fixed("always")),
            ("http.proxy", proxy),
            ("http.sslVerify", fixed("true")),
            ("http.sslCAInfo", self.ca_bundle.clone()),
            // To the same host: the way out knows no other. Hosts of repositories redirect from an old name to the new one.
            ("http.followRedirects", fixed("initial")),
            // A server that sends less than that for two minutes is gone.
            ("http.lowSpeedLimit", fixed("1")),
            ("http.lowSpeedTime", fixed("120")),
            // The host checks every id itself; git's own check refuses what genuine old repositories have, as a mode with a zero before it.
            ("transfer.fsckObjects", fixed("false")),
            // One pack stays one pack: nothing reads the objects but the command that sends them.
            ("transfer.unpackLimit", fixed("1")),
            ("core.hooksPath", fixed("/dev/null")),
            ("core.fsync", fixed("none")),
            ("credential.helper", fixed("")),
            ("init.defaultBranch", fixed("main")),
            ("init.templateDir", fixed("")),
            ("gc.auto", fixed("0")),
            ("maintenance.auto", fixed("false")),
        ]
    }
}

/// Makes a repository of the working directory.
pub(crate) fn init() -> Vec<String> {
    words(&["git", "init", "--quiet", "--bare", "--template=", "."])
}

/// Fetches one commit and nothing before it.
pub(crate) fn fetch_commit(uri: &str, commit: &str) -> Vec<String> {
    fetch(&["--depth=1"], uri, commit)
}

/// Fetches a branch or tag with all that leads to it.
pub(crate) fn fetch_reference(uri: &str, reference: &str) -> Vec<String> {
    fetch(&[], uri, reference)
}

fn fetch(options: &[&str], uri: &str, what: &str) -> Vec<String> {
    let mut command = words(&[
        "git",
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
    ]);
    command.extend(words(&["--no-recurse-submodules", "--no-auto-maintenance"]));
    command.extend(words(options));
    command.extend(words(&["--", uri, what]));
    command
}

/// Writes the commit, its tree and all that lies in it to standard output. `commit` is 40 hexadecimal digits.
pub(crate) fn send(commit: &str) -> String {
    format!(
        "git rev-list --objects --no-object-names --max-count=1 {commit} -- > ids\n\
         exec git cat-file --batch --buffer < ids"
    )
}

/// What it means that git, while `doing` something, failed with these last words.
pub(crate) fn failure(doing: String, stderr: &[u8]) -> GitProblem {
    let text = String::from_utf8_lossy(stderr);
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let matter = if says(&OTHER_CONTENT) {
        Matter::OtherContent
    } else if says(&NOT_THERE) {
        Matter::NotThere
    } else {
        Matter::Trouble
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<_> = lines.collect();
    let said = without_queries(&said.join("; "));
    let said = said.chars().take(SHOWN).flat_map(char::escape_debug);
    GitProblem::Failed {
        doing,
        said: said.collect(),
        matter,
    }
}

/// `text` without what follows the `?` of an address in it: that may be a key to what lies there.
fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((address, _)) if address.contains("://") => format!("{address}?..."),
        Some(_) | None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matter(stderr: &str) -> Matter {
        match failure("fetch".to_owned(), stderr.as_bytes()) {
            GitProblem::Failed { matter, .. } => matter,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_git_says_tells_whose_matter_it_is() {
        assert_eq!(
            matter("fatal: remote error: upload-pack: not our ref 11"),
            Matter::NotThere
        );
        assert_eq!(
            matter("fatal: https://a.example/ did not send all necessary objects"),
            Matter::OtherContent
        );
        assert_eq!(
            matter("fatal: repository 'https://a.example/b/' not found"),
            Matter::NotThere
        );
        for trouble in [
            "fatal: unable to access: Could not resolve proxy",
            "sh: 1: git-remote-https: not found",
        ] {
            assert_eq!(matter(trouble), Matter::Trouble, "{trouble}");
        }
    }

    #[test]
    fn what_git_says_is_shown_on_one_line() {
        let error = failure("fetch".to_owned(), b"fatal: a\n\nfatal: b\x1b[31m\n");
        assert_eq!(error.to_string(), "fetch: fatal: a; fatal: b\\u{1b}[31m");
    }

    #[test]
    fn what_follows_an_address_is_not_shown() {
        let said = b"fatal: https://a.example/b?sig=secret/ is not it; is it?";
        assert_eq!(
            failure("fetch".to_owned(), said).to_string(),
            "fetch: fatal: https://a.example/b?... is not it; is it?"
        );
    }

    #[test]
    fn no_configuration_but_ours_is_read() {
        let guest = Guest {
            proxy_port: 3128,
            ca_bundle: "/ca".to_owned(),
        };
        let environment = guest.environment();
        let value = |name: &str| {
            let found = environment.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("GIT_CONFIG_NOSYSTEM"), Some("1"));
        assert_eq!(value("GIT_CONFIG_GLOBAL"), Some("/dev/null"));
        assert_eq!(value("GIT_CONFIG_COUNT"), Some("17"));
        assert_eq!(value("GIT_CONFIG_VALUE_2"), Some("http://127.0.0.1:3128"));
    }
}
