//! The port through which programs of the guest reach the host's proxy. The agent knows nothing of what is said there: it
//! moves bytes between a connection and a channel, and the host decides.
//!
//! What always holds: the port is open exactly as long as its channel; each direction of a connection ends by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{Shutdown as SocketShutdown, shutdown};
use wire::frame::MAX_DATA;
use wire::{Lane, Open, ToHost};

use crate::session::{Channel, Event, Half, spawn};

/// Listens on `port` until the host closes the channel.
pub(crate) fn listen(mut channel: Channel, port: u16) {
    let half = channel.half();
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => listener,
        Err(error) => {
            drop(half.send(&ToHost::Failed(format!("listen on port {port}: {error}"))));
            return half.close();
        }
    };
    // A second descriptor of the same socket, to end the accepting thread's wait.
    let handle = match listener.try_clone() {
        Ok(handle) => OwnedFd::from(handle),
        Err(error) => return half.reset(&format!("share the listening socket: {error}")),
    };
    let accepting = Arc::clone(&half);
    spawn(&half, move || accept(&listener, &accepting));
    if half.send(&ToHost::Done).is_ok() {
        loop {
            match channel.next() {
                Event::Closed | Event::Gone => break,
                Event::Message(_) | Event::Data(_) | Event::SaidAll | Event::Exited(_) => {}
            }
        }
    }
    let _ = shutdown(handle.as_raw_fd(), SocketShutdown::Both);
    half.close();
}

/// Takes connections until the socket is shut down.
fn accept(listener: &TcpListener, half: &Arc<Half>) {
    loop {
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            // Its client gave up while it waited.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(_) => return,
        };
        let channel = half.session().open(&Open::Tunnel);
        let Ok(reading) = connection.try_clone() else {
            channel.half().reset("share the connection");
            continue;
        };
        let half = channel.half();
        let sending = Arc::clone(&half);
        spawn(&half, move || to_host(reading, &sending));
        spawn(&half, move || to_guest(channel, connection));
    }
}

fn to_host(mut connection: TcpStream, half: &Half) {
    let mut buffer = vec![0; MAX_DATA];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => {
                half.close();
                // The other thread may have ended with its connection.
                drop(half.events().send(Event::SaidAll));
                return;
            }
            Ok(count) => {
                if half.send_data(Lane::Out, &buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) => return half.reset(&error.to_string()),
        }
    }
}

fn to_guest(mut channel: Channel, mut connection: TcpStream) {
    let (mut host_said_all, mut guest_said_all) = (false, false);
    while !(host_said_all && guest_said_all) {
        match channel.next() {
            Event::Data(bytes) => {
                if let Err(error) = connection.write_all(&bytes) {
                    return channel.half().reset(&error.to_string());
                }
            }
            Event::Closed => {
                host_said_all = true;
                drop(connection.shutdown(Shutdown::Write));
            }
            Event::SaidAll => guest_said_all = true,
            Event::Gone => {
                drop(connection.shutdown(Shutdown::Both));
                return;
            }
            Event::Message(_) | Event::Exited(_) => {}
        }
    }
}
