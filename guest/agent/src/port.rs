//! The virtio-serial port: the byte stream to the host.
//!
//! Whether a host is there is told to the driver by a message of its own, and that message is handled later than data that
//! came after it. So after a restore the agent may read the host's first frame while the driver still says "nobody there":
//! a read gives 0 bytes, a write would block, `poll` says "hung up". An agent that takes that for the end of the session
//! loses its answer to the host's hello: in 7 of 120 forks beside two busy loops.
//!
//! What always holds: "hung up" is neither an end nor an error here, only a reason to wait for a change; the waits are
//! edge-triggered, so that they do not spin while it lasts. A session ends with the next hello.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::boot;

/// The port, opened once and for the life of the guest.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    file: Arc<File>,
    incoming: Arc<Epoll>,
    room: Arc<Epoll>,
    /// Number of the session that may write; held while a frame is written.
    session: Arc<Mutex<u64>>,
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
        let incoming = edges(&file, EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP)?;
        let room = edges(&file, EpollFlags::EPOLLOUT)?;
        Ok(Self {
            file: Arc::new(file),
            incoming,
            room,
            session: Arc::default(),
        })
    }

    /// Waits for bytes and reads them: at least one.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&*self.file).read(buffer) {
                Ok(0) => wait(&self.incoming)?,
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.incoming)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins session `number` with its first frame. From here on the threads of earlier sessions say nothing more: a restored
    /// guest may hold one that had its last word still to say, and channel numbers begin anew with each session.
    pub(crate) fn begin(&self, number: u64, frame: &[u8]) -> io::Result<()> {
        let mut current = self.session.lock().expect("a writer does not panic");
        *current = number;
        self.write_all(frame)
    }

    /// Writes a frame of session `number`, one writer at a time; waits for a host that takes it. Says nothing if that session
    /// is over.
    pub(crate) fn write(&self, number: u64, frame: &[u8]) -> io::Result<()> {
        let current = self.session.lock().expect("a writer does not panic");
        if *current == number {
            self.write_all(frame)
        } else {
            Ok(())
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&*self.file).write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.room)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Watches `file` for changes to any of `events`. A change between a look at the file and the wait is not missed: it is
/// kept until the wait.
fn edges(file: &File, events: EpollFlags) -> io::Result<Arc<Epoll>> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(file, EpollEvent::new(events | EpollFlags::EPOLLET, 0))?;
    Ok(Arc::new(epoll))
}

fn wait(epoll: &Epoll) -> io::Result<()> {
    match epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
