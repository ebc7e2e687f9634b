//! From `host:port` to socket addresses.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::task::Poll;

/// Finds out where a peer is, at every attempt to connect to it.
pub trait Resolve: Send {
    /// Starts or continues to resolve `address`. While it is pending it is asked again with every
    /// [`Peers::on_timer`](crate::Peers::on_timer), so an implementation may look names up elsewhere.
    fn resolve(&mut self, address: &str) -> Poll<io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver, called in place. Addresses in numbers cost nothing, but a name is looked up on the
/// calling thread, which waits for the name server: nodes with host names should pass a [`Resolve`] that does
/// this elsewhere, or a dead name server takes the reactor, its heartbeats included, with it.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&mut self, address: &str) -> Poll<io::Result<Vec<SocketAddr>>> {
        if let Ok(address) = address.parse() {
            return Poll::Ready(Ok(vec![address]));
        }
        Poll::Ready(address.to_socket_addrs().map(Iterator::collect))
    }
}
