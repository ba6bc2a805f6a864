//! Who a restored guest is: every fork of a snapshot wakes as the same guest until it is told otherwise.

/// What makes one fork different from all others. To be made anew for each; the clock is the third part of a thaw and is
/// read when it is sent, since a fork takes its time.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) entropy: ([u8; 32], [u8; 32]),
    pub(crate) hostname: String,
}

impl Identity {
    /// Fresh entropy from the host's kernel, and a hostname.
    pub fn fresh(hostname: &str) -> Self {
        let mut entropy = ([0; 32], [0; 32]);
        for half in [&mut entropy.0, &mut entropy.1] {
            getrandom::fill(half).expect("a Linux host has getrandom(2)");
        }
        Self {
            entropy,
            hostname: hostname.into(),
        }
    }
}
