//! The virtio-serial port: the byte stream to the host.
//!
//! What always holds: with no host at the other end a read gives 0 bytes at once, and `poll` says "hung up" for as long as
//! that lasts; so the reader waits for a *change* (an edge-triggered epoll), and neither spins nor takes it for an error.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::boot;

/// The port, opened once and for the life of the guest.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    file: Arc<File>,
    changes: Arc<Epoll>,
    writing: Arc<Mutex<()>>,
}

/// What a read found.
pub(crate) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// No host is there.
    NoHost,
}

impl Port {
    /// Waits for the port to appear and opens it. There is one port, so its number is its name.
    pub(crate) fn open() -> io::Result<Self> {
        let path = boot::wait_for_device(|name| name.starts_with("vport"))?;
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(boot::doing(&format!("open {}", path.display())))?;
        let changes = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLET;
        changes.add(&file, EpollEvent::new(edges, 0))?;
        Ok(Self {
            file: Arc::new(file),
            changes: Arc::new(changes),
            writing: Arc::default(),
        })
    }

    /// Reads what is there; waits for bytes, but not for a host.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            match (&*self.file).read(buffer) {
                Ok(0) => return Ok(Received::NoHost),
                Ok(count) => return Ok(Received::Bytes(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_change()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until a host connects, says something or hangs up.
    pub(crate) fn wait_for_change(&self) -> io::Result<()> {
        let mut events = [EpollEvent::empty()];
        match self.changes.wait(&mut events, EpollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of `bytes`, one writer at a time; an error when the host is gone.
    pub(crate) fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let _turn = self.writing.lock().expect("a writer does not panic");
        while !bytes.is_empty() {
            match (&*self.file).write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let seen = fds[0].revents().unwrap_or(PollFlags::empty());
        if seen.contains(PollFlags::POLLHUP) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}
