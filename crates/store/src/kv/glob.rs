//! Redis's glob patterns (`stringmatchlen`).

/// Whether the text matches the pattern: `*`, `?`, `[abc]`, `[^a-z]`, and `\` before a character taken literally.
///
/// As in Redis, a class that is not closed ends with the pattern, `]` right behind `[` closes an empty class, and
/// a range may be given backwards. Unlike it, runs of `*` match the empty text.
///
/// Takes O(pattern * text) steps: when something behind a `*` fails, only the latest `*` can make a difference,
/// since the earlier ones have matched as little as they could.
#[must_use]
pub fn glob_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Behind the latest star, and where in the text its attempt began.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(pattern_at) == Some(&b'*') {
            pattern_at += 1;
            if pattern_at == pattern.len() {
                return true;
            }
            retry = Some((pattern_at, text_at));
            continue;
        }
        let step = match text.get(text_at) {
            None if pattern_at == pattern.len() => return true,
            // Whatever is left of the pattern wants a character; a longer match of the star leaves even fewer.
            None => return false,
            Some(byte) => match_one(&pattern[pattern_at..], *byte),
        };
        if let Some(width) = step {
            pattern_at += width;
            text_at += 1;
        } else if let Some((behind_star, began)) = retry {
            pattern_at = behind_star;
            text_at = began + 1;
            retry = Some((behind_star, text_at));
        } else {
            return false;
        }
    }
}

/// How many bytes of the pattern matched this one byte; `None` if it does not match. The pattern does not begin
/// with a star.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (matched, width) = match_class(class, byte);
            matched.then_some(1 + width)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the class takes the byte, and how many bytes long it is, with the closing bracket if there is one.
fn match_class(class: &[u8], byte: u8) -> (bool, usize) {
    let inverted = class.first() == Some(&b'^');
    let mut at = usize::from(inverted);
    let mut matched = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', literal, ..] => {
                matched |= *literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [first, b'-', last, ..] => {
                matched |= (*first.min(last)..=*first.max(last)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                matched |= *literal == byte;
                at += 1;
            }
        }
    }
    (matched != inverted, at)
}

#[cfg(test)]
mod tests {
    use super::glob_match;

    #[test]
    fn patterns_match_as_in_redis() {
        // Pattern, texts that match, texts that do not.
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &[""], &["a"]),
            ("*", &["", "a", "abc"], &[]),
            ("**", &["", "a", "abc"], &[]),
            ("foo", &["foo"], &["", "fo", "fooo", "Foo"]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h*llo", &["hllo", "heeeello"], &["hell", "ohello"]),
            ("*llo*", &["llo", "hello!", "llollo"], &["hell", ""]),
            ("a*b*c", &["abc", "aXbYc", "abbcc", "acbc"], &["acb", "ab"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]),
            ("h[^e]llo", &["hallo", "hbllo"], &["hello", "hllo"]),
            ("h[a-c]llo", &["hallo", "hcllo"], &["hdllo", "h-llo"]),
            ("h[c-a]llo", &["hallo", "hbllo"], &["hdllo"]),
            ("[^a-z]", &["A", "0", "^"], &["a", "z", "ab"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("a\\?b", &["a?b"], &["axb"]),
            ("[\\]]", &["]"], &["\\"]),
            ("[\\^a]", &["^", "a"], &["b"]),
            ("[a^]", &["^", "a"], &["b"]),
            ("[abc", &["a", "c"], &["d", "[abc"]),
            ("[", &[], &["[", ""]),
            ("[^", &["x", "["], &["", "xx"]),
            ("[]", &[], &["]", "[]"]),
            ("[^]", &["a", "]"], &["", "ab"]),
            // The bracket is the end of the range, so the class is not closed.
            ("[a-]", &["a", "]", "_"], &["-", "b"]),
            ("\\", &["\\"], &["", "a"]),
            ("a\\", &["a\\"], &["a"]),
            (
                "user:*:name",
                &["user:1:name", "user::name", "user:a:name:name"],
                &["user:1:names"],
            ),
            ("*a?", &["ab", "aab", "xay"], &["a", "ba"]),
            ("*?", &["a", "ab"], &[""]),
            ("?*", &["a", "ab"], &[""]),
        ];
        for (pattern, matching, others) in table {
            for text in *matching {
                assert!(
                    glob_match(pattern.as_bytes(), text.as_bytes()),
                    "{pattern:?} should match {text:?}"
                );
            }
            for text in *others {
                assert!(
                    !glob_match(pattern.as_bytes(), text.as_bytes()),
                    "{pattern:?} should not match {text:?}"
                );
            }
        }
    }

    #[test]
    fn bytes_need_not_be_text() {
        assert!(glob_match(b"[\x80-\xff]\x00?", b"\xc3\x00\n"));
        assert!(!glob_match(b"[\x80-\xff]\x00?", b"\x7f\x00\n"));
    }

    /// Exponential backtracking would not end in a lifetime here.
    #[test]
    fn pathological_patterns_end_soon() {
        let text = vec![b'a'; 10_000];
        let pattern = [b"a*".repeat(200), b"b".to_vec()].concat();
        assert!(!glob_match(&pattern, &text));
        let pattern = [b"*a".repeat(200), b"*b*".to_vec()].concat();
        assert!(!glob_match(&pattern, &text));
        let pattern = [b"*?[a-c]".repeat(100), b"*".to_vec()].concat();
        assert!(glob_match(&pattern, &text));
    }

    /// The plain recursive definition, for short patterns.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
            _ => match text {
                [] => false,
                [byte, text @ ..] => {
                    super::match_one(pattern, *byte).is_some_and(|width| reference(&pattern[width..], text))
                }
            },
        }
    }

    #[test]
    fn backtracking_to_the_latest_star_is_enough() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut pick = |of: &[u8], longest: u64| {
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state >> 8
            };
            let length = next() % (longest + 1);
            (0..length)
                .map(|_| of[next() as usize % of.len()])
                .collect::<Vec<u8>>()
        };
        for _ in 0..50_000 {
            let (pattern, text) = (pick(b"**?ab[]^-\\", 7), pick(b"aab]-", 8));
            assert_eq!(
                glob_match(&pattern, &text),
                reference(&pattern, &text),
                "{} on {}",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
    }
}
