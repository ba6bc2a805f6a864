//! TCP ports on loopback that nobody uses.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};

/// As many different ports as asked for. They are free when this returns; who starts a server on them must cope with
/// another process that was faster.
pub fn free<const COUNT: usize>() -> Result<[u16; COUNT]> {
    // All are held until all are known, so that none is given twice.
    let listeners = (0..COUNT)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<Vec<_>, _>>()
        .context("find a free port on loopback")?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener
            .local_addr()
            .context("read the port of a listener")?
            .port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn free_ports_are_all_different() {
        let ports = free::<20>().unwrap();
        assert_eq!(BTreeSet::from(ports).len(), ports.len());
    }
}
