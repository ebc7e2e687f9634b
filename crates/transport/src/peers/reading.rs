//! Input of one connection: readiness in, messages out.

use mio::event::Event;

use super::Peers;
use crate::close::Close;
use crate::connection::{Connection, Phase};
use crate::frame::FrameError;
use crate::inbox::ReadEnd;
use crate::{PeerCodec, PeerEvent};

impl<M: PeerCodec> Peers<M> {
    /// Works on what a connection's event reports.
    pub(super) fn work(
        &mut self,
        connection: &mut Connection,
        event: &Event,
        out: &mut Vec<PeerEvent<M>>,
    ) -> Result<(), Close> {
        if event.is_writable() || event.is_error() {
            if matches!(connection.phase, Phase::Connecting) && connection.connected()? {
                connection.set_nodelay()?;
                self.begin_handshake(connection);
            }
            connection.unblock();
            connection.write(self.now_us, &mut self.stats)?;
        }
        if matches!(connection.phase, Phase::Connecting) {
            return Ok(());
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read_all(connection, event.is_read_closed() || event.is_error(), out)?;
        }
        Ok(())
    }

    /// Reads until the socket has no more. `ending`: the end of the input, or an error, lies behind the data.
    fn read_all(
        &mut self,
        connection: &mut Connection,
        ending: bool,
        out: &mut Vec<PeerEvent<M>>,
    ) -> Result<(), Close> {
        let mut total = 0;
        loop {
            let end = connection.read(self.config.frame_bytes_max, &mut self.stats)?;
            match end {
                ReadEnd::WouldBlock => return Ok(()),
                ReadEnd::Eof => return Err(Close::Eof),
                ReadEnd::Full(n) | ReadEnd::Short(n) => total += n,
            }
            connection.heard_us = self.now_us;
            self.consume(connection, out)?;
            // A short read emptied the socket, and whatever comes after it is reported anew: no second call to
            // be told that there is nothing. Unless the end was reported already, which happens only once.
            if matches!(end, ReadEnd::Short(_)) && !ending {
                return Ok(());
            }
            if total >= self.read_bytes_max {
                connection.report_again(&self.registry)?;
                return Ok(());
            }
        }
    }

    fn consume(&mut self, connection: &mut Connection, out: &mut Vec<PeerEvent<M>>) -> Result<(), Close> {
        loop {
            match connection.phase {
                Phase::Connecting | Phase::Ended => {
                    connection.inbox.clear();
                    return Ok(());
                }
                Phase::AwaitHello | Phase::AwaitAccept(_) => {
                    let Some(greeting) = connection.take_greeting()? else {
                        return Ok(());
                    };
                    self.on_greeting(connection, greeting, out)?;
                    connection.write(self.now_us, &mut self.stats)?;
                    if matches!(connection.phase, Phase::Ended) {
                        connection.end_output();
                    }
                }
                Phase::Up { store, .. } => {
                    let Some(frame) = connection.inbox.take_frame(self.config.frame_bytes_max)? else {
                        return Ok(());
                    };
                    self.stats.frames_in += 1;
                    for message in M::decode_all(frame) {
                        let message = message.map_err(FrameError::from)?;
                        self.stats.messages_in += 1;
                        out.push(PeerEvent::Message { from: store, message });
                    }
                }
            }
        }
    }
}
