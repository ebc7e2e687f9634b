//! The incremental request parser.

use bytes::{Buf, Bytes, BytesMut};

use super::inline;

/// What a client may send before it is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest single argument in bytes (Redis: proto-max-bulk-len).
    pub bulk_bytes_max: usize,
    /// Longest request in bytes, headers included; below 4 GiB.
    pub frame_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bulk_bytes_max: 512 << 20,
            frame_bytes_max: 64 << 20,
        }
    }
}

impl Limits {
    /// Longest argument that both limits allow.
    #[must_use]
    pub fn argument_bytes_max(&self) -> usize {
        self.bulk_bytes_max.min(self.frame_bytes_max)
    }
}

/// Most arguments of one request.
const ARGUMENTS_MAX: i64 = 1024 * 1024;
/// Longest inline request, and longest header line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Argument tables up to this size are kept for the next request.
const RANGES_KEPT_MAX: usize = 1024;

/// Why the stream cannot be understood any further. The client is told and the connection closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// An array header with something else than a number in range.
    #[error("ERR Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// An array header that does not end.
    #[error("ERR Protocol error: too big mbulk count string")]
    MultibulkHeader,
    /// A bulk string header with something else than a number in range.
    #[error("ERR Protocol error: invalid bulk length")]
    BulkLength,
    /// A bulk string header that does not end.
    #[error("ERR Protocol error: too big bulk count string")]
    BulkHeader,
    /// An argument that is not a bulk string. Line ends are shown as blanks: an error is one line.
    #[error("ERR Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// An inline request that does not end.
    #[error("ERR Protocol error: too big inline request")]
    InlineLength,
    /// Quotes in an inline request that do not match.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    Quotes,
    /// Arguments that are allowed one by one but together exceed [`Limits::frame_bytes_max`].
    #[error("ERR Protocol error: too big request")]
    FrameLength,
}

impl ProtocolError {
    /// The error line as bytes; unlike [`ToString`] it gives an unexpected byte back as it came.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        match self {
            ProtocolError::ExpectedBulk(byte) => {
                let mut line = b"ERR Protocol error: expected '$', got '".to_vec();
                line.extend_from_slice(&[*byte, b'\'']);
                line
            }
            other => other.to_string().into_bytes(),
        }
    }
}

/// A request: its arguments, the command's name being the first. Never empty.
#[derive(Clone, Debug)]
pub struct Args {
    frame: Bytes,
    /// Start and length of each argument in `frame`.
    ranges: Vec<(u32, u32)>,
}

impl Args {
    /// How many arguments there are, the name included.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a request has at least its name")]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// An argument.
    ///
    /// # Panics
    /// If there is no such argument; commands check their arity first.
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        let (start, length) = self.ranges[index];
        &self.frame[start as usize..start as usize + length as usize]
    }

    /// An argument that shares the input's memory.
    ///
    /// # Panics
    /// If there is no such argument.
    #[must_use]
    pub fn bytes(&self, index: usize) -> Bytes {
        let (start, length) = self.ranges[index];
        self.frame.slice(start as usize..start as usize + length as usize)
    }

    /// The request that these arguments hold from `index` on.
    ///
    /// # Panics
    /// If there is no such argument.
    pub(crate) fn behind(&self, index: usize) -> Args {
        assert!(index < self.len(), "a request has at least its name");
        Args {
            frame: self.frame.clone(),
            ranges: self.ranges[index..].to_vec(),
        }
    }

    /// All arguments.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Cuts requests out of a growing buffer.
///
/// Between calls the buffer may only grow at its end: the parser remembers how far it has read.
#[derive(Debug, Default)]
pub struct Parser {
    /// Where the next header or argument begins.
    at: usize,
    /// Up to where the header at `at` was searched for its end.
    searched: usize,
    /// Arguments still to come, once the array header was read.
    missing: Option<u32>,
    /// The announced length of the argument at `at`, once its header was read.
    bulk: Option<usize>,
    /// The arguments read so far.
    ranges: Vec<(u32, u32)>,
}

impl Parser {
    /// The next request, or `None` if the buffer does not hold all of it yet. After an error the parser is
    /// of no further use.
    pub fn next(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Option<Args>, ProtocolError> {
        loop {
            if self.missing.is_none() {
                match input.first() {
                    None => return Ok(None),
                    Some(b'*') => match self.header(input, ProtocolError::MultibulkHeader)? {
                        None => return Ok(None),
                        Some(count) => {
                            let count = count.filter(|count| *count <= ARGUMENTS_MAX);
                            let count = count.ok_or(ProtocolError::MultibulkLength)?;
                            if count <= 0 {
                                input.advance(self.at);
                                self.at = 0;
                                self.searched = 0;
                                continue;
                            }
                            self.missing = Some(count as u32);
                        }
                    },
                    Some(_) => match self.inline(input)? {
                        None => return Ok(None),
                        Some(args) if args.ranges.is_empty() => continue,
                        Some(args) => return Ok(Some(args)),
                    },
                }
            }
            if !self.arguments(input, limits)? {
                return Ok(None);
            }
            let frame = input.split_to(self.at).freeze();
            let ranges = std::mem::take(&mut self.ranges);
            self.at = 0;
            self.searched = 0;
            self.missing = None;
            return Ok(Some(Args { frame, ranges }));
        }
    }

    /// Takes the argument table of a request that was dealt with, to use its memory again.
    pub fn recycle(&mut self, args: Args) {
        let mut ranges = args.ranges;
        if self.ranges.capacity() == 0 && ranges.capacity() <= RANGES_KEPT_MAX {
            ranges.clear();
            self.ranges = ranges;
        }
    }

    /// Reads arguments until the last (true) or the end of what has arrived (false).
    fn arguments(&mut self, input: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        while let Some(missing) = self.missing.filter(|missing| *missing > 0) {
            let length = match self.bulk {
                Some(length) => length,
                None => {
                    let start = self.at;
                    let Some(length) = self.header_of_bulk(input)? else {
                        return Ok(false);
                    };
                    debug_assert!(start < self.at);
                    let length = length.and_then(|length| usize::try_from(length).ok());
                    let length = length.filter(|length| *length <= limits.argument_bytes_max());
                    let length = length.ok_or(ProtocolError::BulkLength)?;
                    if self.at + length > limits.frame_bytes_max + LINE_BYTES_MAX {
                        return Err(ProtocolError::FrameLength);
                    }
                    self.bulk = Some(length);
                    length
                }
            };
            // The two bytes behind an argument are skipped unread, as Redis does.
            let end = self.at + length + 2;
            if input.len() < end {
                return Ok(false);
            }
            self.ranges.push((self.at as u32, length as u32));
            self.at = end;
            self.searched = end;
            self.bulk = None;
            self.missing = Some(missing - 1);
        }
        Ok(true)
    }

    fn header_of_bulk(&mut self, input: &[u8]) -> Result<Option<Option<i64>>, ProtocolError> {
        let first = input.get(self.at).copied();
        match self.header(input, ProtocolError::BulkHeader)? {
            None => Ok(None),
            Some(length) => match first {
                Some(b'$') => Ok(Some(length)),
                other => {
                    let byte = other.unwrap_or_default();
                    Err(ProtocolError::ExpectedBulk(if matches!(byte, b'\r' | b'\n') {
                        b' '
                    } else {
                        byte
                    }))
                }
            },
        }
    }

    /// Reads the header line at `at` and steps behind it. Outer `None`: not all of it has arrived. Inner
    /// `None`: not a number.
    fn header(
        &mut self,
        input: &[u8],
        too_long: ProtocolError,
    ) -> Result<Option<Option<i64>>, ProtocolError> {
        let from = self.searched.max(self.at);
        let found = input[from..]
            .iter()
            .position(|byte| *byte == b'\r')
            .map(|offset| from + offset);
        let Some(end) = found else {
            self.searched = input.len();
            if input.len() - self.at > LINE_BYTES_MAX {
                return Err(too_long);
            }
            return Ok(None);
        };
        if end - self.at > LINE_BYTES_MAX {
            return Err(too_long);
        }
        // What follows the carriage return is skipped unread, as Redis does, but must be there.
        if end + 1 >= input.len() {
            self.searched = end;
            return Ok(None);
        }
        let number = input.get(self.at + 1..end).and_then(parse_i64);
        self.at = end + 2;
        self.searched = self.at;
        Ok(Some(number))
    }

    /// Reads an inline request.
    fn inline(&mut self, input: &mut BytesMut) -> Result<Option<Args>, ProtocolError> {
        let found = input[self.searched..].iter().position(|byte| *byte == b'\n');
        let length = found.map_or(input.len(), |offset| self.searched + offset);
        if length > LINE_BYTES_MAX {
            return Err(ProtocolError::InlineLength);
        }
        if found.is_none() {
            self.searched = input.len();
            return Ok(None);
        }
        self.searched = 0;
        let mut line = input.split_to(length + 1);
        line.truncate(length);
        let (words, ranges) = inline::split(&line).map_err(|_| ProtocolError::Quotes)?;
        Ok(Some(Args {
            frame: words.into(),
            ranges,
        }))
    }
}

/// A number as Redis reads one: decimal, no blanks, no plus sign, no leading zero, no minus zero.
#[must_use]
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits fit 64 bits.
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bulk_bytes_max: 1 << 20,
        frame_bytes_max: 2 << 20,
    };

    fn all(input: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        pieces(&[input])
    }

    fn pieces(pieces: &[&[u8]]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let mut parser = Parser::default();
        let mut input = BytesMut::new();
        let mut requests = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match parser.next(&mut input, &LIMITS) {
                    Ok(None) => break,
                    Ok(Some(args)) => {
                        requests.push(args.iter().map(<[u8]>::to_vec).collect());
                        parser.recycle(args);
                    }
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    fn strings(requests: &[Vec<Vec<u8>>]) -> Vec<Vec<String>> {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        requests
            .iter()
            .map(|request| request.iter().map(text).collect())
            .collect()
    }

    #[test]
    fn requests_are_the_same_however_they_are_cut() {
        let stream: &[u8] =
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nx\r\ny\n\r\nPING 'a b'\r\n\r\n*0\r\n*-1\r\n\
            *1\r\n$4\r\nPING\r\n  GET a\n*2\r\n$0\r\n\r\n$3\r\n***\r\n";
        let (whole, error) = all(stream);
        assert_eq!(error, None);
        assert_eq!(
            strings(&whole),
            [
                vec!["SET", "a", "x\r\ny\n"],
                vec!["PING", "a b"],
                vec!["PING"],
                vec!["GET", "a"],
                vec!["", "***"]
            ]
        );
        for cut in 0..=stream.len() {
            assert_eq!(
                pieces(&[&stream[..cut], &stream[cut..]]),
                (whole.clone(), None),
                "cut at {cut}"
            );
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(pieces(&bytes), (whole, None));
    }

    #[test]
    fn errors_have_the_texts_of_redis() {
        let long = |head: &str| [head.as_bytes(), &[b'1'; 70_000]].concat();
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (b"*abc\r\n".to_vec(), "invalid multibulk length"),
            (b"*1048577\r\n".to_vec(), "invalid multibulk length"),
            (b"*99999999999999999999\r\n".to_vec(), "invalid multibulk length"),
            (b"*+1\r\n".to_vec(), "invalid multibulk length"),
            (b"* 1\r\n".to_vec(), "invalid multibulk length"),
            (b"*01\r\n".to_vec(), "invalid multibulk length"),
            (b"*-0\r\n".to_vec(), "invalid multibulk length"),
            (b"*\r\n".to_vec(), "invalid multibulk length"),
            (b"*1\n$4\nPING\r\n".to_vec(), "invalid multibulk length"),
            (b"*1\r\nfoo\r\n".to_vec(), "expected '$', got 'f'"),
            (b"*1\r\n\r\n".to_vec(), "expected '$', got ' '"),
            (b"*1\r\n\x01\x02\r\n".to_vec(), "expected '$', got '\u{1}'"),
            (b"*1\r\n$abc\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$04\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$1048577\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$9223372036854775808\r\n".to_vec(), "invalid bulk length"),
            (long("*"), "too big mbulk count string"),
            (long("*1\r\n$"), "too big bulk count string"),
            (long("*1\r\n"), "too big bulk count string"),
            (long(""), "too big inline request"),
            (b"PING 'a\r\n".to_vec(), "unbalanced quotes in request"),
            (b"\"a\"b\r\n".to_vec(), "unbalanced quotes in request"),
        ];
        for (input, text) in cases {
            let shown = String::from_utf8_lossy(&input[..input.len().min(30)]).into_owned();
            let want = format!("ERR Protocol error: {text}");
            let (requests, error) = all(&input);
            assert_eq!(
                (requests.len(), error.map(|error| error.to_string())),
                (0, Some(want.clone())),
                "{shown}"
            );
            assert_eq!(
                error.map(|error| error.to_line()),
                Some(want.into_bytes()),
                "{shown}"
            );
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(pieces(&bytes).1, error, "{shown} byte by byte");
        }
    }

    #[test]
    fn a_frame_of_many_allowed_arguments_is_bounded() {
        let mut stream = b"*1000\r\n".to_vec();
        for _ in 0..3 {
            stream.extend_from_slice(b"$1000000\r\n");
            stream.resize(stream.len() + 1_000_000, b'x');
            stream.extend_from_slice(b"\r\n");
        }
        assert_eq!(all(&stream).1, Some(ProtocolError::FrameLength));
    }

    #[test]
    fn announced_lengths_reserve_nothing() {
        let mut parser = Parser::default();
        let limits = Limits {
            bulk_bytes_max: 512 << 20,
            frame_bytes_max: 1 << 30,
        };
        let mut input = BytesMut::from(&b"*1048576\r\n$536870912\r\nx"[..]);
        assert!(matches!(parser.next(&mut input, &limits), Ok(None)));
        assert!(parser.ranges.capacity() < 16 && input.capacity() < 1024);
    }

    #[test]
    fn a_large_value_in_small_pieces_is_walked_once() {
        // Quadratic work would be 2^40 steps here.
        let value = vec![b'\r'; 1 << 20];
        let mut stream = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n", value.len()).into_bytes();
        stream.extend_from_slice(&value);
        stream.extend_from_slice(b"\r\n");
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let (requests, error) = pieces(&bytes);
        assert_eq!((requests.len(), error), (1, None));
        assert_eq!(requests[0][2], value);
    }

    #[test]
    fn arguments_share_the_input() {
        let mut input = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"[..]);
        let place = input.as_ptr() as usize;
        let args = Parser::default().next(&mut input, &LIMITS).unwrap().unwrap();
        assert_eq!(args.bytes(1).as_ptr() as usize, place + 17);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        // Bytes that mean something, so that the noise gets past the first header.
        let alphabet = b"**$$\r\r\n\n0123456789-'\"\\x aPING\x00\xff";
        for _ in 0..20_000 {
            let length = random() % 60;
            let stream: Vec<u8> = (0..length)
                .map(|_| alphabet[(random() % alphabet.len() as u64) as usize])
                .collect();
            let whole = all(&stream);
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(pieces(&bytes), whole, "{stream:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_redis_reads_them() {
        let good = [
            ("0", 0),
            ("-1", -1),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, number) in good {
            assert_eq!(parse_i64(text.as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }
}
