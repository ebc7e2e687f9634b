//! Inline requests: words on a line, for people at a terminal.

/// The quotes of a line do not match.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Words, joined in one buffer, and the start and length of each.
pub(super) type Words = (Vec<u8>, Vec<(u32, u32)>);

/// Splits a line into words as Redis does: blanks separate, double quotes take escapes (`\n`, `\x41`), single
/// quotes only `\'`.
pub(super) fn split(line: &[u8]) -> Result<Words, Unbalanced> {
    let mut words = Vec::with_capacity(line.len());
    let mut places = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_blank(*byte)) {
            at += 1;
        }
        if at >= line.len() {
            return Ok((words, places));
        }
        let start = words.len();
        at = word(line, at, &mut words)?;
        // A line is at most 64 KiB long.
        places.push((start as u32, (words.len() - start) as u32));
    }
}

/// Reads one word from `at` on; returns the position behind it.
fn word(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => return closed(line, double_quoted(line, at + 1, words)?),
            b'\'' => return closed(line, single_quoted(line, at + 1, words)?),
            b' ' | b'\n' | b'\r' | b'\t' | 0 => return Ok(at + 1),
            _ => words.push(byte),
        }
        at += 1;
    }
    Ok(at)
}

/// A closing quote ends the word: a blank or the end of the line must follow.
fn closed(line: &[u8], at: usize) -> Result<usize, Unbalanced> {
    match line.get(at) {
        Some(byte) if !is_blank(*byte) => Err(Unbalanced),
        _ => Ok(at),
    }
}

fn double_quoted(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match *line.get(at).ok_or(Unbalanced)? {
            b'"' => return Ok(at + 1),
            b'\\' => {
                let escaped = *line.get(at + 1).ok_or(Unbalanced)?;
                let hex = (escaped == b'x')
                    .then(|| Some(hex_digit(*line.get(at + 2)?)? << 4 | hex_digit(*line.get(at + 3)?)?))
                    .flatten();
                if let Some(byte) = hex {
                    words.push(byte);
                    at += 4;
                } else {
                    words.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                    at += 2;
                }
            }
            byte => {
                words.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match *line.get(at).ok_or(Unbalanced)? {
            b'\'' => return Ok(at + 1),
            b'\\' if line.get(at + 1) == Some(&b'\'') => {
                words.push(b'\'');
                at += 2;
            }
            byte => {
                words.push(byte);
                at += 1;
            }
        }
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// C's `isspace`, and the zero byte, which ends a C string.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let (text, places) = split(line.as_bytes()).ok()?;
        let word = |&(start, length): &(u32, u32)| {
            String::from_utf8_lossy(&text[start as usize..(start + length) as usize]).into_owned()
        };
        Some(places.iter().map(word).collect())
    }

    #[test]
    fn words_split_as_in_redis() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  \t ", &[]),
            ("PING", &["PING"]),
            (" SET  a\tb ", &["SET", "a", "b"]),
            (r#"ECHO "a b""#, &["ECHO", "a b"]),
            (r#"ECHO "\x41\n\"\q\xZZ""#, &["ECHO", "A\n\"qxZZ"]),
            (r"ECHO 'a\'b\n'", &["ECHO", r"a'b\n"]),
            ("PING ''", &["PING", ""]),
            (r#"a"b c""#, &["ab c"]),
        ];
        for (line, want) in cases {
            assert_eq!(
                words(line).as_deref(),
                Some(want.map_to_strings().as_slice()),
                "{line}"
            );
        }
        for line in [r#"PING "a"#, "PING 'a", r#""a"b"#, "'a'b", r#""a\"#] {
            assert_eq!(words(line), None, "{line}");
        }
    }

    trait Strings {
        fn map_to_strings(&self) -> Vec<String>;
    }
    impl Strings for &[&str] {
        fn map_to_strings(&self) -> Vec<String> {
            self.iter().map(ToString::to_string).collect()
        }
    }
}
