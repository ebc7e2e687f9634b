//! The handshake's messages: hello, accept, refuse.
//!
//! Their prefix and the fields of version 1 never change; later versions may append fields, and a reader
//! ignores what lies behind the ones it knows. Otherwise two versions could not even tell each other that
//! they do not understand each other.

use bytes::{Buf, BufMut, TryGetError};
use quorate_storage::{ClusterId, Identity, Incarnation, StoreId};

use crate::Channel;

/// The oldest protocol version that this build speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
/// The newest one.
pub const PROTOCOL_VERSION_MAX: u16 = 1;

const MAGIC: [u8; 4] = *b"QRTP";
/// Magic, kind, versions, length of the body, checksum of those and the body.
const PREFIX_BYTES: usize = 17;
/// Where the checksum lies.
const CRC_AT: usize = 13;
/// Room for two addresses and whatever later versions append.
const BODY_BYTES_MAX: usize = 8 << 10;
/// The longest address. Two of them and the fixed fields stay well below [`BODY_BYTES_MAX`].
pub(crate) const ADDRESS_BYTES_MAX: usize = 1024;

const KIND_HELLO: u8 = 1;
const KIND_ACCEPT: u8 = 2;
const KIND_REFUSE: u8 = 3;

const CHANNEL_RAFT: u8 = 1;
const CHANNEL_BULK: u8 = 2;

/// A message of the handshake, with the range of versions that its sender speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Greeting {
    pub(crate) versions: (u16, u16),
    pub(crate) body: GreetingBody,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum GreetingBody {
    /// Who I am; sent by both sides, the dialing one first.
    Hello(Hello),
    /// The dialing side found nothing wrong with the answer: frames follow.
    Accept,
    /// No, and why. The sender closes.
    Refuse(Refusal),
}

/// Who one side is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    pub(crate) identity: Identity,
    pub(crate) process: u64,
    /// Whom the dialing side means to reach; in the answer, whom it answers.
    pub(crate) target: StoreId,
    pub(crate) channel: Channel,
    pub(crate) client_address: String,
    pub(crate) http_address: String,
}

/// Why one side does not talk to the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: RefusalCode,
    /// The refusing side's, so that the refused one can tell whether it asked the right store.
    pub(crate) by: Identity,
    pub(crate) reason: String,
}

/// What a refusal is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefusalCode {
    /// No version in common.
    Version,
    /// The refused side is of another cluster.
    Cluster,
    /// The refused side comes under a known id with another incarnation (P7).
    Incarnation,
    /// The connection should not exist: to itself, to another store than meant, in the wrong direction.
    Misdirected,
    /// A code of a later version.
    Other(u8),
}

/// Why bytes are not a handshake.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error("not a Quorate peer: the connection does not begin with {MAGIC:?}")]
    Magic,
    #[error("handshake of {0} bytes, the most is {BODY_BYTES_MAX}")]
    TooLong(usize),
    #[error("checksum of the handshake is wrong")]
    Checksum,
    #[error("unknown kind of handshake message {0}")]
    Kind(u8),
    #[error("unknown channel {0}")]
    Channel(u8),
    #[error("handshake ends inside a field")]
    Truncated,
    #[error("handshake text is not UTF-8")]
    Text,
    #[error("handshake message out of order")]
    Order,
}

impl From<TryGetError> for GreetingError {
    fn from(_: TryGetError) -> Self {
        GreetingError::Truncated
    }
}

impl Greeting {
    /// One of this build.
    pub(crate) fn new(body: GreetingBody) -> Greeting {
        Greeting {
            versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX),
            body,
        }
    }

    /// Appends its bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = vec![];
        let kind = match &self.body {
            GreetingBody::Hello(hello) => {
                hello.encode(&mut body);
                KIND_HELLO
            }
            GreetingBody::Accept => KIND_ACCEPT,
            GreetingBody::Refuse(refusal) => {
                refusal.encode(&mut body);
                KIND_REFUSE
            }
        };
        let at = out.len();
        out.put_slice(&MAGIC);
        out.put_u8(kind);
        out.put_u16_le(self.versions.0);
        out.put_u16_le(self.versions.1);
        out.put_u32_le(body.len() as u32);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out[at..]), &body);
        out.put_u32_le(crc);
        out.put_slice(&body);
    }

    /// Reads one from the beginning of `data`, with the number of bytes it took; `None`: not all of it is here.
    pub(crate) fn parse(data: &[u8]) -> Result<Option<(Greeting, usize)>, GreetingError> {
        // Compared as it comes in: a stranger is not waited for.
        let seen = data.len().min(MAGIC.len());
        if data[..seen] != MAGIC[..seen] {
            return Err(GreetingError::Magic);
        }
        if data.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let mut prefix = &data[MAGIC.len()..PREFIX_BYTES];
        let kind = prefix.try_get_u8()?;
        let versions = (prefix.try_get_u16_le()?, prefix.try_get_u16_le()?);
        let length = prefix.try_get_u32_le()? as usize;
        let crc = prefix.try_get_u32_le()?;
        if length > BODY_BYTES_MAX {
            return Err(GreetingError::TooLong(length));
        }
        let Some(mut body) = data.get(PREFIX_BYTES..PREFIX_BYTES + length) else {
            return Ok(None);
        };
        if crc32c::crc32c_append(crc32c::crc32c(&data[..CRC_AT]), body) != crc {
            return Err(GreetingError::Checksum);
        }
        let body = match kind {
            KIND_HELLO => GreetingBody::Hello(Hello::parse(&mut body)?),
            KIND_ACCEPT => GreetingBody::Accept,
            KIND_REFUSE => GreetingBody::Refuse(Refusal::parse(&mut body)?),
            kind => return Err(GreetingError::Kind(kind)),
        };
        Ok(Some((Greeting { versions, body }, PREFIX_BYTES + length)))
    }
}

impl Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        put_identity(out, self.identity);
        out.put_u64_le(self.process);
        out.put_u64_le(self.target.0);
        out.put_u8(match self.channel {
            Channel::Raft => CHANNEL_RAFT,
            Channel::Bulk => CHANNEL_BULK,
        });
        put_text(out, &self.client_address);
        put_text(out, &self.http_address);
    }

    fn parse(body: &mut &[u8]) -> Result<Hello, GreetingError> {
        Ok(Hello {
            identity: get_identity(body)?,
            process: body.try_get_u64_le()?,
            target: StoreId(body.try_get_u64_le()?),
            channel: match body.try_get_u8()? {
                CHANNEL_RAFT => Channel::Raft,
                CHANNEL_BULK => Channel::Bulk,
                channel => return Err(GreetingError::Channel(channel)),
            },
            client_address: get_text(body)?,
            http_address: get_text(body)?,
        })
    }
}

impl Refusal {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(match self.code {
            RefusalCode::Version => 1,
            RefusalCode::Cluster => 2,
            RefusalCode::Incarnation => 3,
            RefusalCode::Misdirected => 4,
            RefusalCode::Other(code) => code,
        });
        put_identity(out, self.by);
        put_text(out, &self.reason);
    }

    fn parse(body: &mut &[u8]) -> Result<Refusal, GreetingError> {
        Ok(Refusal {
            code: match body.try_get_u8()? {
                1 => RefusalCode::Version,
                2 => RefusalCode::Cluster,
                3 => RefusalCode::Incarnation,
                4 => RefusalCode::Misdirected,
                code => RefusalCode::Other(code),
            },
            by: get_identity(body)?,
            reason: get_text(body)?,
        })
    }
}

fn put_identity(out: &mut Vec<u8>, identity: Identity) {
    out.put_u128_le(identity.cluster.0);
    out.put_u64_le(identity.store.0);
    out.put_u128_le(identity.incarnation.0);
}

fn get_identity(body: &mut &[u8]) -> Result<Identity, GreetingError> {
    Ok(Identity {
        cluster: ClusterId(body.try_get_u128_le()?),
        store: StoreId(body.try_get_u64_le()?),
        incarnation: Incarnation(body.try_get_u128_le()?),
    })
}

/// Texts are ours and short: addresses are bounded at bind, reasons are written in `admission`.
fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= ADDRESS_BYTES_MAX, "text of {} bytes", text.len());
    out.put_u16_le(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn get_text(body: &mut &[u8]) -> Result<String, GreetingError> {
    let length = usize::from(body.try_get_u16_le()?);
    let Some((text, rest)) = body.split_at_checked(length) else {
        return Err(TryGetError {
            requested: length,
            available: body.len(),
        }
        .into());
    };
    *body = rest;
    std::str::from_utf8(text)
        .map(str::to_owned)
        .map_err(|_| GreetingError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Greeting> {
        let identity = Identity {
            cluster: ClusterId(1 << 100),
            store: StoreId(2),
            incarnation: Incarnation(3 << 90),
        };
        let hello = Hello {
            identity,
            process: 4,
            target: StoreId(5),
            channel: Channel::Bulk,
            client_address: "host:6".into(),
            http_address: String::new(),
        };
        let refusal = Refusal {
            code: RefusalCode::Incarnation,
            by: identity,
            reason: "because".into(),
        };
        [
            GreetingBody::Hello(hello),
            GreetingBody::Accept,
            GreetingBody::Refuse(refusal),
        ]
        .map(Greeting::new)
        .into()
    }

    #[test]
    fn round_trips_and_truncations() {
        for greeting in samples() {
            let mut bytes = vec![];
            greeting.encode(&mut bytes);
            assert_eq!(Greeting::parse(&bytes), Ok(Some((greeting, bytes.len()))));
            for end in 0..bytes.len() {
                assert_eq!(Greeting::parse(&bytes[..end]), Ok(None), "{end}");
            }
        }
    }

    #[test]
    fn altered_bytes_are_refused() {
        for greeting in samples() {
            let mut bytes = vec![];
            greeting.encode(&mut bytes);
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 0x10;
                // A longer length waits for bytes that the checksum then refuses, or the deadline.
                let parsed = Greeting::parse(&altered);
                assert!(matches!(parsed, Err(_) | Ok(None)), "byte {at}: {parsed:?}");
            }
        }
    }

    #[test]
    fn fields_appended_by_a_later_version_are_ignored() {
        let greeting = &samples()[0];
        let mut bytes = vec![];
        greeting.encode(&mut bytes);
        bytes.extend_from_slice(b"later");
        let length = (bytes.len() - PREFIX_BYTES) as u32;
        bytes[9..13].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[PREFIX_BYTES..]);
        bytes[CRC_AT..PREFIX_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Greeting::parse(&bytes), Ok(Some((greeting.clone(), bytes.len()))));
    }
}
