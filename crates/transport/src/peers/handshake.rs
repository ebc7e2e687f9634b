//! Handshakes: hello, hello, accept (or refuse at any point).
//!
//! ```text
//! dialing side            accepting side
//!     | -- hello ------------> |  checks it
//!     | <------------ hello -- |
//!     |  checks it             |
//!     |  up                    |
//!     | -- accept -----------> |  up
//! ```
//!
//! A hello without an incarnation is an inquiry, which ends with the answer.

use quorate_storage::StoreId;

use super::Peers;
use crate::close::Close;
use crate::connection::{Connection, Phase};
use crate::greeting::{Greeting, GreetingBody, GreetingError, Hello, Refusal};
use crate::inquiry::UNBORN;
use crate::{Channel, PeerCodec, PeerEvent, admission};

impl<M: PeerCodec> Peers<M> {
    /// The dialing side speaks first.
    pub(super) fn begin_handshake(&self, connection: &mut Connection) {
        if let Some((target, channel)) = connection.dialed {
            connection.phase = Phase::AwaitHello;
            connection.greet(GreetingBody::Hello(self.hello(target, channel)));
        }
    }

    pub(super) fn on_greeting(
        &mut self,
        connection: &mut Connection,
        greeting: Greeting,
        out: &mut Vec<PeerEvent<M>>,
    ) -> Result<(), Close> {
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitHello);
        match (phase, greeting.body) {
            (Phase::AwaitHello, GreetingBody::Hello(hello)) => {
                if let Err(refusal) = self.check(connection, greeting.versions, &hello) {
                    refuse(connection, hello.identity.store, refusal, out);
                } else if connection.dialed.is_some() {
                    connection.greet(GreetingBody::Accept);
                    self.establish(connection, hello, out);
                } else {
                    connection.greet(GreetingBody::Hello(
                        self.hello(hello.identity.store, hello.channel),
                    ));
                    // An inquiry is answered by that; the asking side closes.
                    connection.phase = if hello.identity.incarnation == UNBORN {
                        Phase::Ended
                    } else {
                        Phase::AwaitAccept(Box::new(hello))
                    };
                }
                Ok(())
            }
            (Phase::AwaitAccept(hello), GreetingBody::Accept) => {
                // Checked again: another connection may have bound the id to another incarnation meanwhile.
                match self.check(connection, greeting.versions, &hello) {
                    Err(refusal) => refuse(connection, hello.identity.store, refusal, out),
                    Ok(()) => self.establish(connection, *hello, out),
                }
                Ok(())
            }
            (_, GreetingBody::Refuse(refusal)) => {
                let fatal = admission::fatal(
                    &self.bindings,
                    connection.dialed.map(|(store, _)| store),
                    &refusal,
                );
                let by = refusal.by.store;
                tracing::warn!(store = %by, reason = refusal.reason, fatal, "refused by a peer");
                out.push(PeerEvent::Refused {
                    store: Some(by),
                    reason: refusal.reason,
                    fatal,
                });
                Err(Close::Refused)
            }
            (_, GreetingBody::Hello(_) | GreetingBody::Accept) => Err(GreetingError::Order.into()),
        }
    }

    fn check(&self, connection: &Connection, versions: (u16, u16), hello: &Hello) -> Result<(), Refusal> {
        admission::check(
            self.config.identity,
            &self.bindings,
            connection.dialed,
            versions,
            hello,
        )
    }

    fn hello(&self, target: StoreId, channel: Channel) -> Hello {
        Hello {
            identity: self.config.identity,
            process: self.config.process,
            target,
            channel,
            client_address: self.config.client_address.clone(),
            http_address: self.config.http_address.clone(),
        }
    }

    /// Both sides said yes.
    fn establish(&mut self, connection: &mut Connection, hello: Hello, out: &mut Vec<PeerEvent<M>>) {
        let Hello {
            identity,
            process,
            channel,
            client_address,
            http_address,
            ..
        } = hello;
        let (store, incarnation) = (identity.store, identity.incarnation);
        if self.bindings.insert(store, incarnation).is_none() {
            out.push(PeerEvent::Bind { store, incarnation });
        }
        // The other side dials anew only when its end is gone, so what is here is a leftover.
        let link = &mut self.links.entry(store).or_default()[channel.position()];
        let old = link.up.take();
        if let Some(old) = old.and_then(|token| self.connections.remove(&token)) {
            self.close(*old, &Close::Replaced, out);
        }
        let link = &mut self.links.entry(store).or_default()[channel.position()];
        link.up = Some(connection.token.0);
        self.stats.reconnects += u64::from(std::mem::replace(&mut link.known, true));
        connection.phase = Phase::Up {
            store,
            channel,
            since_us: self.now_us,
        };
        tracing::info!(%store, ?channel, process, "peer connection ready");
        if channel == Channel::Raft {
            out.push(PeerEvent::Up {
                store,
                process,
                incarnation,
                client_address,
                http_address,
            });
        }
    }
}

fn refuse<M>(connection: &mut Connection, store: StoreId, refusal: Refusal, out: &mut Vec<PeerEvent<M>>) {
    tracing::warn!(%store, reason = refusal.reason, "refusing a peer");
    out.push(PeerEvent::Refused {
        store: Some(store),
        reason: refusal.reason.clone(),
        fatal: false,
    });
    connection.greet(GreetingBody::Refuse(refusal));
    connection.phase = Phase::Ended;
}
