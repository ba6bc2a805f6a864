//! Which job: its tenant and its id.

use std::fmt;

use schemas::Token;

/// The tenant that commands take where none is given.
const DEFAULT_TENANT: &str = "default";

/// Which job. Written as the arguments that name it on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobName {
    /// Whose it is.
    pub(crate) tenant: Token,
    /// Its id, or what its result is filed under.
    pub(crate) id: Token,
}

impl fmt::Display for JobName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(formatter)?;
        if self.tenant.as_str() == DEFAULT_TENANT {
            return Ok(());
        }
        write!(formatter, " --tenant {}", self.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_arguments_that_name_it() {
        let name = |tenant: &str| JobName {
            tenant: tenant.parse().unwrap(),
            id: "j1".parse().unwrap(),
        };
        assert_eq!(name("default").to_string(), "j1");
        assert_eq!(name("acme").to_string(), "j1 --tenant acme");
    }
}
