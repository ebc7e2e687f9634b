//! Floating-point numbers as Redis stores them: decimal text without an exponent.
//!
//! Redis adds in 80-bit floats, which Rust does not have and not every machine does, and prints 17 decimals; so
//! 0.1 + 0.2 is 0.3 there, though 7000.1 + 0.2 may end in noise. In 64 bits the first would be 0.30000000000000004
//! already. So sums whose terms are short enough are made exactly, in units of 10^-17, and only the rest in 64
//! bits. Both are the same on every machine.

use quorate_proto::CommandError;

/// Redis prints this many decimals and drops the zeros at the end.
const DECIMALS: usize = 17;
const UNITS_IN_ONE: i128 = 10i128.pow(DECIMALS as u32);
/// So many digits before the point leave room in 127 bits for the sum.
const INTEGER_DIGITS_MAX: usize = 20;
/// Redis's buffer for a number's text.
const TEXT_BYTES_MAX: usize = 5 * 1024;

/// The text of `stored + delta`.
pub(super) fn add(stored: &[u8], delta: f64) -> Result<String, CommandError> {
    let (text, value) = parse(stored).ok_or(CommandError::NotAFloat)?;
    let sum = value + delta;
    if !sum.is_finite() {
        return Err(CommandError::NotFinite);
    }
    let exact = exact_units(text, value).zip(units_of(&delta.to_string()));
    Ok(
        match exact.and_then(|(stored, delta)| stored.checked_add(delta)) {
            Some(units) => text_of_units(units),
            None => text_of(sum),
        },
    )
}

/// What C's `strtold` takes of decimal numbers, and nothing before or behind it. Infinity is a number here; its sums
/// are not finite. Unlike in Redis, numbers beyond 64-bit floats and hexadecimal ones are refused.
fn parse(stored: &[u8]) -> Option<(&str, f64)> {
    if stored.len() >= TEXT_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(stored).ok()?;
    let value: f64 = text.parse().ok()?;
    let infinite_by_name = text.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'n'));
    let refused = value.is_nan() || (value.is_infinite() && !infinite_by_name);
    (!refused).then_some((text, value))
}

/// The number in units of 10^-17, from its text or, if that has an exponent, from its value.
fn exact_units(text: &str, value: f64) -> Option<i128> {
    units_of(text).or_else(|| units_of(&value.to_string()))
}

/// `[+-]digits[.digits]` in units of 10^-17; `None` for other forms and for numbers that are too long.
fn units_of(text: &str) -> Option<i128> {
    let (negative, text) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (integer, decimals) = text.split_once('.').unwrap_or((text, ""));
    let (integer, decimals) = (integer.trim_start_matches('0'), decimals.trim_end_matches('0'));
    if integer.len() > INTEGER_DIGITS_MAX || decimals.len() > DECIMALS {
        return None;
    }
    let mut units = 0i128;
    for byte in integer.bytes().chain(decimals.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        units = units * 10 + i128::from(byte - b'0');
    }
    units *= 10i128.pow((DECIMALS - decimals.len()) as u32);
    Some(if negative { -units } else { units })
}

fn text_of_units(units: i128) -> String {
    let magnitude = units.unsigned_abs();
    let (integer, decimals) = (magnitude / UNITS_IN_ONE as u128, magnitude % UNITS_IN_ONE as u128);
    let sign = if units < 0 { "-" } else { "" };
    without_trailing_zeros(format!("{sign}{integer}.{decimals:0DECIMALS$}"))
}

/// The shortest text that reads as the same number, cut at 17 decimals. Rust's `Display` never uses an exponent.
fn text_of(value: f64) -> String {
    let shortest = value.to_string();
    let decimals = shortest.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if decimals <= DECIMALS {
        shortest
    } else {
        without_trailing_zeros(format!("{value:.DECIMALS$}"))
    }
}

fn without_trailing_zeros(mut text: String) -> String {
    let end = text.trim_end_matches('0').trim_end_matches('.').len();
    text.truncate(end);
    if text == "-0" { "0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_read_as_redis_prints_them() {
        let table = [
            ("3.0e3", 200.0, "3200"),
            ("10.50", 0.1, "10.6"),
            ("5.0e3", 2e2, "5200"),
            ("0", 0.1, "0.1"),
            ("0.1", 0.2, "0.3"),
            ("1", -1.1, "-0.1"),
            ("1.5", -1.5, "0"),
            ("-1", 1.0, "0"),
            ("-0", 0.0, "0"),
            ("-0.0", -0.0, "0"),
            ("+1", 1.0, "2"),
            (".5", 1.0, "1.5"),
            ("5.", 1.0, "6"),
            ("007", 1.0, "8"),
            ("100", 200.0, "300"),
            ("9007199254740993", 1.0, "9007199254740994"),
            ("17179869184", 1.0, "17179869185"),
            ("1e30", 0.0, "1000000000000000000000000000000"),
            ("1e-17", 0.0, "0.00000000000000001"),
            ("1e-300", 0.0, "0"),
            ("-1e-300", 0.0, "0"),
            ("1e-400", 1.0, "1"),
            ("3", 1e-5, "3.00001"),
        ];
        for (stored, delta, sum) in table {
            assert_eq!(
                add(stored.as_bytes(), delta).as_deref(),
                Ok(sum),
                "{stored} + {delta}"
            );
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        let refused = [
            "", " 1", "1 ", "1a", "a", ".", "+", "1e", "1e+", "1.2.3", "nan", "-nan", "1e400", "-1e400",
            "1,5", "0x10", "1_000",
        ];
        for stored in refused {
            assert_eq!(
                add(stored.as_bytes(), 1.0),
                Err(CommandError::NotAFloat),
                "{stored:?}"
            );
        }
        assert_eq!(add(&[0xff], 1.0), Err(CommandError::NotAFloat));
        assert_eq!(add(&[b'1'; TEXT_BYTES_MAX], 1.0), Err(CommandError::NotAFloat));
    }

    #[test]
    fn sums_that_are_not_finite_are_refused() {
        for (stored, delta) in [
            ("inf", 1.0),
            ("-Infinity", 1.0),
            ("1.7e308", 1.7e308),
            ("1", f64::INFINITY),
        ] {
            assert_eq!(
                add(stored.as_bytes(), delta),
                Err(CommandError::NotFinite),
                "{stored} + {delta}"
            );
        }
    }

    #[test]
    fn the_longest_exact_numbers_fit() {
        let longest = format!("{}.{}", "9".repeat(INTEGER_DIGITS_MAX), "9".repeat(DECIMALS));
        assert_eq!(add(longest.as_bytes(), 0.0).as_deref(), Ok(longest.as_str()));
        assert_eq!(
            add(format!("-{longest}").as_bytes(), -1.0).map(|sum| sum.len()),
            Ok(40)
        );
    }
}
