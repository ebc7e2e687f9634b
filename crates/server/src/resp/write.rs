//! Encoding of replies.

use bytes::{BufMut, BytesMut};

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// Every connection begins with it.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// Appends replies to a buffer. Types that RESP2 lacks are written as Redis writes them there: a map as an
/// array of twice the length, null as the null bulk string, and so on.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
    protocol: Protocol,
}

impl<'a> Writer<'a> {
    /// A writer at the end of `out`.
    pub fn new(out: &'a mut BytesMut, protocol: Protocol) -> Self {
        Writer { out, protocol }
    }

    /// What is spoken.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.put_slice(b"+OK\r\n");
    }

    /// A status; `text` holds no line ends.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a status is one line: {text:?}");
        self.line(b'+', text.as_bytes());
    }

    /// An error, its code being the first word. Line ends become blanks, because an error is one line.
    pub fn error(&mut self, text: &[u8]) {
        self.out.put_u8(b'-');
        self.out.extend(text.iter().map(|byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                *byte
            }
        }));
        self.out.put_slice(b"\r\n");
    }

    /// A number.
    pub fn int(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// A string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 32);
        self.header(b'$', bytes.len() as i64);
        self.out.put_slice(bytes);
        self.out.put_slice(b"\r\n");
    }

    /// A number as a string.
    pub fn bulk_int(&mut self, number: u64) {
        self.bulk(number.to_string().as_bytes());
    }

    /// No value.
    pub fn null(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No value where an array was due.
    pub fn null_array(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The head of an array of `length` replies.
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length as i64);
    }

    /// The head of a map of `length` pairs.
    pub fn map(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', 2 * length as i64),
            Protocol::Resp3 => self.header(b'%', length as i64),
        }
    }

    /// The head of a set of `length` replies.
    pub fn set(&mut self, length: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', length as i64),
            Protocol::Resp3 => self.header(b'~', length as i64),
        }
    }

    /// Truth.
    pub fn bool(&mut self, value: bool) {
        match self.protocol {
            Protocol::Resp2 => self.int(i64::from(value)),
            Protocol::Resp3 => self.out.put_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }

    /// A floating-point number.
    pub fn double(&mut self, number: f64) {
        let text = number.to_string().to_ascii_lowercase();
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// Text meant for people.
    pub fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.out.put_slice(b"txt:");
                self.out.put_slice(text.as_bytes());
                self.out.put_slice(b"\r\n");
            }
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.put_u8(kind);
        self.out.put_slice(text);
        self.out.put_slice(b"\r\n");
    }

    /// `kind`, a number and the line's end; the standard library's formatting costs several times as much.
    fn header(&mut self, kind: u8, number: i64) {
        let mut text = [0u8; 24];
        let mut at = text.len() - 2;
        text[at..].copy_from_slice(b"\r\n");
        let mut rest = number.unsigned_abs();
        loop {
            at -= 1;
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            text[at] = b'-';
        }
        at -= 1;
        text[at] = kind;
        self.out.put_slice(&text[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl Fn(&mut Writer<'_>)) -> String {
        let mut out = BytesMut::new();
        write(&mut Writer::new(&mut out, protocol));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_type_is_written_in_both_protocols() {
        type Case = (fn(&mut Writer<'_>), &'static str, &'static str);
        let cases: &[Case] = &[
            (|w| w.ok(), "+OK\r\n", "+OK\r\n"),
            (|w| w.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (|w| w.error(b"ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (
                |w| w.int(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (
                |w| w.int(i64::MAX),
                ":9223372036854775807\r\n",
                ":9223372036854775807\r\n",
            ),
            (|w| w.int(0), ":0\r\n", ":0\r\n"),
            (|w| w.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|w| w.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|w| w.bulk_int(7), "$1\r\n7\r\n", "$1\r\n7\r\n"),
            (|w| w.null(), "$-1\r\n", "_\r\n"),
            (|w| w.null_array(), "*-1\r\n", "_\r\n"),
            (|w| w.array(10), "*10\r\n", "*10\r\n"),
            (|w| w.map(10), "*20\r\n", "%10\r\n"),
            (|w| w.set(1), "*1\r\n", "~1\r\n"),
            (|w| w.bool(true), ":1\r\n", "#t\r\n"),
            (|w| w.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|w| w.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|w| w.verbatim("a\n"), "$2\r\na\n\r\n", "=6\r\ntxt:a\n\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, write), *resp2);
            assert_eq!(written(Protocol::Resp3, write), *resp3);
        }
    }
}
