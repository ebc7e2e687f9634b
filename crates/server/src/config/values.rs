//! The small types that configuration values are read into, from text and from TOML alike.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use bytes::Bytes;
use quorate_proto::{LABEL_BYTES_MAX, LABELS_MAX, Labels, Roles, are_labels};
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// `host:port`. The host is a name or an address and is resolved when it is used, not when it is read, because
/// what a name means may change while the node runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    /// A name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl HostPort {
    /// The addresses that the name stands for now. Asks the system's resolver, which may block.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        Self {
            host: addr.ip().to_string(),
            port: addr.port(),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("`{text}` is not HOST:PORT, such as 127.0.0.1:7001 or [::1]:7001");
        let (host, port) = text.rsplit_once(':').ok_or_else(shape)?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(shape)?,
            // An IPv6 address without brackets: where it ends and the port begins is a guess.
            None if host.contains(':') => return Err(shape()),
            None => host,
        };
        if bare.is_empty() || bare.contains(|c: char| c.is_whitespace() || c == ',') {
            return Err(shape());
        }
        match port.parse::<u16>() {
            Ok(0) | Err(_) => Err(format!("`{port}` in `{text}` is not a port: 1 to 65535")),
            Ok(port) => Ok(Self {
                host: bare.to_owned(),
                port,
            }),
        }
    }
}

/// A number of bytes: `4096`, `64KiB`, `16MiB`, `1GiB` (`K`, `M`, `G` mean the same).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if n != 0 && n.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", n >> shift);
            }
        }
        write!(f, "{n}")
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            _ => {
                return Err(format!(
                    "`{text}` is not a size: a number of bytes, or 64KiB, 16MiB, 1GiB"
                ));
            }
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(1 << shift))
            .map(ByteSize)
            .ok_or_else(|| format!("`{text}` is not a size: a number of bytes, or 64KiB, 16MiB, 1GiB"))
    }
}

/// A member of the first cluster: the store's id and where its peers reach it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Counted from 1.
    pub store: u64,
    /// Its `--peer` address as the others see it.
    pub peer: HostPort,
}

/// `1=host:port,2=host:port,3=host:port`, sorted by id; ids are distinct and not 0, addresses distinct.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members(pub Vec<Member>);

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, member) in self.0.iter().enumerate() {
            write!(
                f,
                "{}{}={}",
                if i == 0 { "" } else { "," },
                member.store,
                member.peer
            )?;
        }
        Ok(())
    }
}

/// `host:port,host:port`, at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPorts(pub Vec<HostPort>);

impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(HostPort::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for HostPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|part| part.trim().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// `name=value,name=value`, as [`are_labels`] wants them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelList(pub Labels);

impl FromStr for LabelList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut labels = Labels::new();
        for part in text.split(',').map(str::trim) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not NAME=VALUE, such as zone=a"))?;
            let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
            let label = Labels::from([(copy(name), copy(value))]);
            if !are_labels(&label) {
                return Err(format!(
                    "`{part}` is not a label: name and value have 1 to {LABEL_BYTES_MAX} letters, digits and - _ . / :"
                ));
            }
            if labels.contains_key(name.as_bytes()) {
                return Err(format!("label {name} is given twice"));
            }
            labels.extend(label);
        }
        if labels.len() > LABELS_MAX {
            return Err(format!(
                "{} labels; a store has at most {LABELS_MAX}",
                labels.len()
            ));
        }
        Ok(Self(labels))
    }
}

/// `controller`, `store` or `controller,store`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleList(pub Roles);

impl FromStr for RoleList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl FromStr for Members {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut members = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (id, peer) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not ID=HOST:PORT, such as 1=10.0.0.1:7101"))?;
            let store = id
                .trim()
                .parse::<u64>()
                .ok()
                .filter(|id| *id > 0)
                .ok_or_else(|| format!("`{id}` in `{part}` is not a store id: a whole number from 1"))?;
            members.push(Member {
                store,
                peer: peer.trim().parse()?,
            });
        }
        members.sort_by_key(|m| m.store);
        for (i, a) in members.iter().enumerate() {
            for b in &members[i + 1..] {
                if a.store == b.store {
                    return Err(format!("store {} is listed twice", a.store));
                }
                if a.peer == b.peer {
                    return Err(format!(
                        "stores {} and {} have the same address {}",
                        a.store, b.store, a.peer
                    ));
                }
            }
        }
        Ok(Self(members))
    }
}

macro_rules! deserialize_from_text {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

deserialize_from_text!(HostPort);
deserialize_from_text!(Members);
deserialize_from_text!(HostPorts);
deserialize_from_text!(LabelList);
deserialize_from_text!(RoleList);

impl<'de> Deserialize<'de> for ByteSize {
    /// Takes `"16MiB"` and plain numbers.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text such as \"16MiB\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<ByteSize, E> {
                u64::try_from(n)
                    .map(ByteSize)
                    .map_err(|_| E::custom("a size cannot be negative"))
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(n))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_reads_names_and_both_address_families() {
        for text in ["127.0.0.1:7001", "node-1.example:7001", "[::1]:7001"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "7001",
            ":7001",
            "host:",
            "host:0",
            "host:65536",
            "::1:7001",
            "[::1:7001",
            "a b:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_units_and_refuse_what_does_not_fit() {
        assert_eq!("64KiB".parse(), Ok(ByteSize(64 << 10)));
        assert_eq!("16 MiB".parse(), Ok(ByteSize(16 << 20)));
        assert_eq!("2g".parse(), Ok(ByteSize(2 << 30)));
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        assert_eq!(ByteSize(64 << 20).to_string(), "64MiB");
        for text in ["", "MiB", "-1", "1.5MiB", "16MB?", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_are_names_and_values() {
        let labels: LabelList = "zone=a, rack=r-1/2".parse().unwrap();
        let of = |name: &str| labels.0[name.as_bytes()].clone();
        assert_eq!((of("zone"), of("rack")), ("a".into(), "r-1/2".into()));
        let many: Vec<String> = (0..17).map(|i| format!("l{i}=x")).collect();
        for (text, why) in [
            ("", "not NAME=VALUE"),
            ("zone", "not NAME=VALUE"),
            ("zone=", "not a label"),
            ("=a", "not a label"),
            ("zone=a b", "not a label"),
            ("zone=a=b", "not a label"),
            (&format!("zone={}", "x".repeat(65)), "1 to 64"),
            ("zone=a,zone=b", "given twice"),
            (&many.join(","), "at most 16"),
        ] {
            let error = text.parse::<LabelList>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn members_are_sorted_and_distinct() {
        let members: Members = "2=b:2, 1=a:1".parse().unwrap();
        assert_eq!(members.to_string(), "1=a:1,2=b:2");
        for (text, why) in [
            ("1=a:1,1=b:2", "listed twice"),
            ("1=a:1,2=a:1", "same address"),
            ("0=a:1", "not a store id"),
            ("a:1", "not ID=HOST:PORT"),
            ("1=a", "not HOST:PORT"),
        ] {
            let error = text.parse::<Members>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
