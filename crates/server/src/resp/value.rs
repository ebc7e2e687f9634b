//! Replies as trees.

use bytes::Bytes;

use super::write::Writer;

/// A reply that is built before it is written. Commands on keys write theirs directly.
#[derive(Clone, PartialEq, Debug)]
pub enum RespValue {
    /// `+OK`.
    Ok,
    /// A status of one line.
    Simple(String),
    /// An error of one line, its code being the first word.
    Error(String),
    /// A number.
    Int(i64),
    /// A string.
    Bulk(Bytes),
    /// No value.
    Null,
    /// Truth.
    Bool(bool),
    /// A floating-point number.
    Double(f64),
    /// Text meant for people.
    Verbatim(String),
    /// An ordered list.
    Array(Vec<RespValue>),
    /// Pairs; an array of twice the length in RESP2.
    Map(Vec<(RespValue, RespValue)>),
    /// An array in RESP2.
    Set(Vec<RespValue>),
}

impl RespValue {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        RespValue::Bulk(Bytes::from(text.into()))
    }

    /// Writes the tree.
    pub fn write(&self, writer: &mut Writer<'_>) {
        match self {
            RespValue::Ok => writer.ok(),
            RespValue::Simple(text) => writer.simple(text),
            RespValue::Error(text) => writer.error(text.as_bytes()),
            RespValue::Int(number) => writer.int(*number),
            RespValue::Bulk(bytes) => writer.bulk(bytes),
            RespValue::Null => writer.null(),
            RespValue::Bool(value) => writer.bool(*value),
            RespValue::Double(number) => writer.double(*number),
            RespValue::Verbatim(text) => writer.verbatim(text),
            RespValue::Array(items) => {
                writer.array(items.len());
                items.iter().for_each(|item| item.write(writer));
            }
            RespValue::Map(pairs) => {
                writer.map(pairs.len());
                for (key, value) in pairs {
                    key.write(writer);
                    value.write(writer);
                }
            }
            RespValue::Set(items) => {
                writer.set(items.len());
                items.iter().for_each(|item| item.write(writer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::resp::Protocol;

    #[test]
    fn trees_are_written_depth_first() {
        let tree = RespValue::Map(vec![
            (
                RespValue::text("a"),
                RespValue::Array(vec![RespValue::Int(1), RespValue::Null]),
            ),
            (RespValue::Simple("b".into()), RespValue::Set(vec![RespValue::Ok])),
        ]);
        for (protocol, want) in [
            (
                Protocol::Resp2,
                "*4\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n+b\r\n*1\r\n+OK\r\n",
            ),
            (
                Protocol::Resp3,
                "%2\r\n$1\r\na\r\n*2\r\n:1\r\n_\r\n+b\r\n~1\r\n+OK\r\n",
            ),
        ] {
            let mut out = BytesMut::new();
            tree.write(&mut Writer::new(&mut out, protocol));
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
    }
}
