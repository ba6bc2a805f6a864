//! Which job: its tenant and its id.

use std::fmt;

use schemas::Token;

/// Which job. Written as the arguments that name it on the command line, the tenant always: what a command takes where none is given is the
/// affair of the shell that it is started in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobName {
    /// Whose it is.
    pub(crate) tenant: Token,
    /// Its id, or what its result is filed under.
    pub(crate) id: Token,
}

impl fmt::Display for JobName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} --tenant {}", self.id, self.tenant)
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
        assert_eq!(name("default").to_string(), "j1 --tenant default");
        assert_eq!(name("acme").to_string(), "j1 --tenant acme");
    }
}
