//! The proxy over real sockets on loopback: what it lets through, what it refuses and in which words, and what ends a tunnel.

mod fixture;
mod phases;
mod refusals;
mod tunnels;
