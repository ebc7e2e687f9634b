//! From `host:port` to socket addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::task::Poll;
use std::thread;

/// Finds out where a peer is, at every attempt to connect to it.
pub trait Resolve: Send {
    /// Starts or continues to resolve `address`. While it is pending it is asked again with every
    /// [`Peers::on_timer`](crate::Peers::on_timer). Must not wait: it is called by the thread that drives Raft.
    fn resolve(&mut self, address: &str) -> Poll<io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver. Addresses in numbers are answered at once. A name is looked up by a thread of its own,
/// one per name at a time, because a dead name server makes it wait for tens of seconds.
#[derive(Default, Debug)]
pub struct SystemResolver {
    lookups: BTreeMap<String, Receiver<io::Result<Vec<SocketAddr>>>>,
}

impl Resolve for SystemResolver {
    fn resolve(&mut self, address: &str) -> Poll<io::Result<Vec<SocketAddr>>> {
        if let Ok(address) = address.parse() {
            return Poll::Ready(Ok(vec![address]));
        }
        let Some(lookup) = self.lookups.get(address) else {
            let (sender, receiver) = channel();
            let name = address.to_owned();
            let spawned = thread::Builder::new().name("resolve".into()).spawn(move || {
                let found = name.to_socket_addrs().map(Iterator::collect);
                // Nobody is there to hear it if the node has stopped.
                let _ = sender.send(found);
            });
            return match spawned {
                Ok(_) => {
                    self.lookups.insert(address.to_owned(), receiver);
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            };
        };
        let found = match lookup.try_recv() {
            Ok(found) => found,
            Err(TryRecvError::Empty) => return Poll::Pending,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("the lookup died")),
        };
        self.lookups.remove(address);
        Poll::Ready(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_answered_at_once_and_names_later() {
        let mut resolver = SystemResolver::default();
        let Poll::Ready(Ok(addresses)) = resolver.resolve("127.0.0.1:5") else {
            panic!("a number waits for a lookup");
        };
        assert_eq!(addresses, ["127.0.0.1:5".parse().expect("address")]);
        for _ in 0..2 {
            assert!(resolver.resolve("localhost:5").is_pending(), "looked up in place");
            let found = loop {
                match resolver.resolve("localhost:5") {
                    Poll::Pending => thread::yield_now(),
                    Poll::Ready(found) => break found.expect("localhost"),
                }
            };
            assert!(
                found
                    .iter()
                    .all(|address| address.ip().is_loopback() && address.port() == 5)
            );
        }
        assert!(resolver.lookups.is_empty());
    }
}
