//! Input that nobody wrote: cut short, altered, random. Errors, never panics, never memory for what is not there.

mod common;
#[path = "common/forms.rs"]
mod forms;

use bytes::Bytes;
use common::Gen;
use forms::FORMS;
use quorate_proto::*;

#[test]
fn every_truncation_is_an_error() {
    let mut g = Gen(11);
    for form in FORMS {
        for _ in 0..200 {
            let bytes = Bytes::from((form.generate)(&mut g));
            for end in 0..bytes.len() {
                let result = (form.again)(&bytes.slice(..end));
                assert!(result.is_err(), "{}: {end} of {:02x?}", form.name, &bytes[..]);
            }
        }
    }
}

#[test]
fn a_byte_behind_the_end_is_an_error() {
    let mut g = Gen(12);
    for form in FORMS {
        let mut bytes = (form.generate)(&mut g);
        let length = bytes.len();
        bytes.push(0);
        let error = (form.again)(&bytes.into()).unwrap_err();
        assert_eq!(
            (error.problem, error.at),
            (DecodeProblem::Trailing(1), length),
            "{}",
            form.name
        );
    }
}

/// One form per value: whatever decodes encodes to the very same bytes.
#[test]
fn altered_bytes_are_refused_or_mean_themselves() {
    let mut g = Gen(13);
    let (mut refused, mut accepted) = (0, 0);
    for form in FORMS {
        for _ in 0..5_000 {
            let mut bytes = (form.generate)(&mut g);
            for _ in 0..=g.below(3) {
                let at = g.below(bytes.len() as u64) as usize;
                bytes[at] = g.next() as u8;
            }
            match (form.again)(&bytes.clone().into()) {
                Ok(again) => {
                    assert_eq!(again, bytes, "{}", form.name);
                    accepted += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        refused > 1_000 && accepted > 1_000,
        "the alterations test nothing: {refused} {accepted}"
    );
}

#[test]
fn random_bytes_do_not_panic() {
    let mut g = Gen(14);
    for _ in 0..50_000 {
        let length = g.below(80);
        let mut bytes: Vec<u8> = (0..length).map(|_| g.next() as u8).collect();
        // Half of them begin like something, so that they get past the first byte.
        if let (true, Some(first)) = (g.bool(), bytes.first_mut()) {
            *first = 1 + g.below(5) as u8;
        }
        let bytes = Bytes::from(bytes);
        for form in FORMS {
            if let Ok(again) = (form.again)(&bytes) {
                assert_eq!(again, bytes, "{}", form.name);
            }
        }
        decode_pairs(bytes).for_each(drop);
    }
}

#[test]
fn a_length_beyond_the_input_is_refused_before_anything_is_reserved() {
    // A configuration whose first list says 2^63 voters, in three bytes of input.
    let mut bytes = vec![META_VERSION];
    bytes.extend_from_slice(&[
        0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0, 0, 0,
    ]);
    let error = decode_conf_state(&bytes.into()).unwrap_err();
    assert_eq!(
        error.problem,
        DecodeProblem::Count {
            count: 1 << 63,
            left: 3
        }
    );
    assert_eq!(
        error.to_string(),
        "voters at byte 11: 9223372036854775808 elements cannot be in 3 bytes"
    );
}

#[test]
fn unknown_versions_are_named() {
    let mut bytes = encode_set_to_bytes(1, None, b"k", b"v").to_vec();
    for found in [0, COMMAND_VERSION + 1, 255] {
        bytes[0] = found;
        let error = Command::decode(&bytes.clone().into()).unwrap_err();
        assert_eq!(
            error.problem,
            DecodeProblem::UnknownVersion {
                found,
                newest: COMMAND_VERSION
            }
        );
        assert_eq!((error.what, error.at), ("command version", 0));
    }
}

#[test]
fn varints_have_one_form() {
    // An epoch of (0, 0) with the first zero written in two bytes; then one of 65 bits.
    for bytes in [
        &[META_VERSION, 0x80, 0x00, 0x00][..],
        &[META_VERSION, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2, 0],
    ] {
        let error = decode_epoch(&Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(
            (error.what, error.at, error.problem),
            ("epoch conf_ver", 1, DecodeProblem::Varint)
        );
    }
}
