//! What time brings: deadlines, pings, dialing.

use super::Peers;
use crate::close::Close;
use crate::connection::Phase;
use crate::{PeerCodec, PeerEvent};

/// A handshake that takes longer is given up, the connecting included.
const HANDSHAKE_US_MAX: u64 = 2_000_000;
/// After this long without sending, a ping is sent.
const IDLE_US_MAX: u64 = 500_000;
/// After this long without hearing anything, pings included, the peer is taken for gone.
const SILENCE_US_MAX: u64 = 3_000_000;
/// A longer gap between two calls is a pause of ours (the process was stopped, or stood in a long turn), during
/// which nobody could be heard; it does not count as the peers' silence.
const PAUSE_US_MIN: u64 = 500_000;

const _: () = assert!(
    IDLE_US_MAX * 3 < SILENCE_US_MAX,
    "a lost ping or two must not break a connection"
);

impl<M: PeerCodec> Peers<M> {
    /// Pings, drops and dials. To be called every 10 to 50 ms.
    pub fn on_timer(&mut self, now_us: u64, out: &mut Vec<PeerEvent<M>>) {
        self.now_us = now_us;
        let paused = self
            .timer_us
            .is_some_and(|last| now_us.saturating_sub(last) >= PAUSE_US_MIN);
        self.timer_us = Some(now_us);
        let mut broken = vec![];
        for connection in self.connections.values_mut() {
            if paused {
                connection.heard_us = now_us;
                connection.opened_us = now_us;
            }
            let up = matches!(connection.phase, Phase::Up { .. });
            if !up && now_us.saturating_sub(connection.opened_us) >= HANDSHAKE_US_MAX {
                broken.push((connection.token.0, Close::Deadline));
            } else if up && now_us.saturating_sub(connection.heard_us) >= SILENCE_US_MAX {
                broken.push((connection.token.0, Close::Silent));
            } else if up && now_us.saturating_sub(connection.sent_us) >= IDLE_US_MAX {
                connection.ping();
            }
        }
        self.close_all(broken, out);
        if self.accept_again {
            self.accept();
        }
        self.dial_due();
        self.flush(out);
    }
}
