//! Guests that are directories, for whole fleets on one machine: what `fake-worker` runs, and what it runs it from.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`driver`] | the fake driver, whose guests end as their snapshot says |
//! | [`publish`] | snapshots for it |
//!
//! What always holds: how a guest ends is written in its snapshot, so it depends on a job's environment alone, whichever worker runs it;
//! only a worker that stands for a bad host is told how all its guests end.

pub mod driver;
pub mod publish;

/// How guests of one snapshot end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// As the worker wishes.
    Steady,
    /// By themselves, at the first output of a command.
    GuestDies,
    /// At the same moment, but it is their VMM that fails.
    VmmFails,
    /// They never start.
    StartFails,
}

impl Fate {
    /// Each of them.
    pub const ALL: [Self; 4] = [
        Self::Steady,
        Self::GuestDies,
        Self::VmmFails,
        Self::StartFails,
    ];

    /// What stands in the `state` of a snapshot; also the name of the environment that has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::GuestDies => "guest-dies",
            Self::VmmFails => "vmm-fails",
            Self::StartFails => "start-fails",
        }
    }

    /// The fate with that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fate_reads_back_from_its_name() {
        for fate in Fate::ALL {
            assert_eq!(Fate::parse(fate.as_str()), Some(fate));
        }
        assert_eq!(Fate::parse("a fake guest at rest\n"), None);
    }
}
