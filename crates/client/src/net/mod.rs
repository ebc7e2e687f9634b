//! Sockets: a connection to each node and mode, shared by all commands that go there.

mod connection;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{timeout, timeout_at};

use crate::core::call::Heard;
use crate::core::routes::{Mode, Route};
use connection::Connection;

/// A failed attempt to connect speaks for those that waited for it.
const FAILURE_SHARED: Duration = Duration::from_millis(50);

/// One connection, or none yet. Who connects holds the lock; the others wait for it.
#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    failed: Option<(Instant, String)>,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Pool {
    places: Mutex<HashMap<Route, Arc<AsyncMutex<Place>>>>,
    connect_max: Duration,
    /// A connection on which nothing came for so long, although something was asked, is of no more use.
    silence_max: Duration,
}

impl Pool {
    pub(crate) fn new(connect_max: Duration, silence_max: Duration) -> Self {
        Self {
            places: Mutex::default(),
            connect_max,
            silence_max,
        }
    }

    /// Sends a command and waits for the answer until then.
    pub(crate) async fn ask(&self, route: &Route, frame: Vec<u8>, until: Instant) -> Heard {
        let begun = Instant::now();
        let connection = match timeout_at(until.into(), self.connection(route)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(why)) => return Heard::NotSent(why),
            Err(_) => return Heard::NotSent("it takes too long".to_owned()),
        };
        let (sender, receiver) = oneshot::channel();
        if let Err(heard) = connection.send(frame, sender) {
            return heard;
        }
        match timeout_at(until.into(), receiver).await {
            Ok(Ok(heard)) => heard,
            // The runtime stops. The command may have been sent.
            Ok(Err(_)) => Heard::Lost("the client is shutting down".to_owned()),
            Err(_) => {
                let waited = begun.elapsed();
                if waited >= self.silence_max && !connection.has_heard_since(begun) {
                    // The node hangs, or the network swallows what is sent: nothing else there will be answered.
                    connection.close();
                    return Heard::Lost(format!("no answer for {waited:?}"));
                }
                Heard::Silence(waited)
            }
        }
    }

    async fn connection(&self, route: &Route) -> Result<Connection, String> {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            match places.get(route) {
                Some(place) => place.clone(),
                None => places.entry(route.clone()).or_default().clone(),
            }
        };
        let mut place = place.lock().await;
        if let Some(connection) = place
            .connection
            .as_ref()
            .filter(|connection| connection.is_open())
        {
            return Ok(connection.clone());
        }
        if let Some((at, why)) = &place.failed
            && at.elapsed() < FAILURE_SHARED
        {
            return Err(why.clone());
        }
        let opened = timeout(self.connect_max, Connection::open(route)).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match opened {
            Ok(connection) => {
                place.failed = None;
                place.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                place.connection = None;
                place.failed = Some((Instant::now(), error.to_string()));
                Err(error.to_string())
            }
        }
    }
}

/// What a connection says first: how its node is to treat commands for other nodes.
fn mode_command(mode: Mode) -> &'static [&'static [u8]] {
    match mode {
        Mode::Direct => &[b"QUORATE", b"MODE", b"cluster"],
        Mode::Proxy => &[b"QUORATE", b"MODE", b"proxy"],
    }
}
