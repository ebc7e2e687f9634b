//! Requests and replies on the wire, seen from the client's side: RESP2, and RESP3's null. For programs that speak to
//! nodes by themselves, and for the replies of [`Client::command`](crate::Client::command).

/// A reply, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`, without the dash.
    Error(String),
    /// `:42`
    Int(i64),
    /// `$3`, any bytes.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
    /// `*2`
    Array(Vec<Reply>),
}

/// The bytes are not RESP. The connection cannot be used any more: where the next reply begins is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the bytes are not RESP")]
pub struct Malformed;

/// An array inside arrays this deep comes from no server; refused so that bad input cannot exhaust the stack.
const DEPTH_MAX: usize = 32;

/// Appends a command in the form in which servers take it: an array of bulk strings.
pub fn encode(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.push(b'*');
    decimal(out, args.len() as u64);
    for arg in args {
        out.extend_from_slice(b"\r\n$");
        decimal(out, arg.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
    }
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Reads the reply at the beginning of `buf`: the reply and its length in bytes, or `None` if it is not all
/// there yet.
///
/// # Errors
///
/// When the bytes are not RESP.
pub fn decode(buf: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    decode_at(buf, 0, 0)
}

fn decode_at(buf: &[u8], from: usize, depth: usize) -> Result<Option<(Reply, usize)>, Malformed> {
    let Some(&kind) = buf.get(from) else {
        return Ok(None);
    };
    if !b"+-:$*_".contains(&kind) || depth > DEPTH_MAX {
        return Err(Malformed);
    }
    let Some((head, after)) = line(buf, from + 1)? else {
        return Ok(None);
    };
    let text = || String::from_utf8_lossy(head).into_owned();
    let reply = match kind {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Int(integer(head)?),
        b'_' => Reply::Nil,
        b'$' => match length(head)? {
            None => Reply::Nil,
            Some(len) => {
                let Some(end) = after.checked_add(len).filter(|end| end + 2 <= buf.len()) else {
                    return Ok(None);
                };
                if &buf[end..end + 2] != b"\r\n" {
                    return Err(Malformed);
                }
                return Ok(Some((Reply::Bulk(buf[after..end].to_vec()), end + 2)));
            }
        },
        // `*`: the kinds were checked above.
        _ => match length(head)? {
            None => Reply::Nil,
            Some(len) => {
                // What the peer announces is not reserved unseen.
                let mut items = Vec::with_capacity(len.min(1024));
                let mut at = after;
                for _ in 0..len {
                    let Some((item, next)) = decode_at(buf, at, depth + 1)? else {
                        return Ok(None);
                    };
                    items.push(item);
                    at = next;
                }
                return Ok(Some((Reply::Array(items), at)));
            }
        },
    };
    Ok(Some((reply, after)))
}

/// The line that begins at `from`, without its end, and the position behind it.
fn line(buf: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    match buf[from..].iter().position(|&b| b == b'\r') {
        Some(len) => match buf.get(from + len + 1) {
            Some(b'\n') => Ok(Some((&buf[from..from + len], from + len + 2))),
            Some(_) => Err(Malformed),
            None => Ok(None),
        },
        None => Ok(None),
    }
}

fn integer(digits: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|d| d.parse().ok())
        .ok_or(Malformed)
}

/// A length; -1 is RESP2's null.
fn length(digits: &[u8]) -> Result<Option<usize>, Malformed> {
    match integer(digits)? {
        -1 => Ok(None),
        n => usize::try_from(n).map(Some).map_err(|_| Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        encode(&mut out, &[b"SET", b"k\r\n", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n");
    }

    #[test]
    fn every_kind_decodes_and_every_prefix_waits() {
        let cases: &[(&[u8], Reply)] = &[
            (b"+OK\r\n", Reply::Simple("OK".into())),
            (b"-ERR x\r\n", Reply::Error("ERR x".into())),
            (b":-42\r\n", Reply::Int(-42)),
            (b"$5\r\na\r\nbc\r\n", Reply::Bulk(b"a\r\nbc".to_vec())),
            (b"$0\r\n\r\n", Reply::Bulk(Vec::new())),
            (b"$-1\r\n", Reply::Nil),
            (b"*-1\r\n", Reply::Nil),
            (b"_\r\n", Reply::Nil),
            (
                b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n",
                Reply::Array(vec![
                    Reply::Int(1),
                    Reply::Array(vec![Reply::Bulk(b"x".to_vec())]),
                ]),
            ),
        ];
        for (bytes, want) in cases {
            assert_eq!(decode(bytes), Ok(Some((want.clone(), bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(
                    decode(&bytes[..cut]),
                    Ok(None),
                    "{:?} cut at {cut}",
                    bytes.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        for bytes in [
            &b"?x\r\n"[..],
            b"$1x\r\nab\r\n",
            b"$-2\r\n",
            b"$1\r\nabc",
            b"+OK\rX",
            b":\r\n",
        ] {
            assert_eq!(decode(bytes), Err(Malformed), "{:?}", bytes.escape_ascii());
        }
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 2);
        assert_eq!(decode(&deep), Err(Malformed));
    }
}
