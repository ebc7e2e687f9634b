//! Numbers in arguments.

use quorate_proto::Expiry;

use super::failure::Failure;
use crate::resp::parse_i64;

/// An integer.
pub(super) fn integer(text: &[u8]) -> Result<i64, Failure> {
    parse_i64(text).ok_or(Failure::NotAnInteger)
}

/// A finite or infinite number; blanks around it and NaN are refused, as by Redis.
pub(super) fn float(text: &[u8]) -> Result<f64, Failure> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    number.filter(|number| !number.is_nan()).ok_or(Failure::NotAFloat)
}

/// The unit of a time and what it counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TimeUnit {
    pub(super) seconds: bool,
    /// Since the Unix epoch, not from now.
    pub(super) absolute: bool,
}

impl TimeUnit {
    pub(super) const EX: Self = TimeUnit {
        seconds: true,
        absolute: false,
    };
    pub(super) const PX: Self = TimeUnit {
        seconds: false,
        absolute: false,
    };
    pub(super) const EXAT: Self = TimeUnit {
        seconds: true,
        absolute: true,
    };
    pub(super) const PXAT: Self = TimeUnit {
        seconds: false,
        absolute: true,
    };

    /// The deadline that a number means; the error names the command. The wall clock is only asked whether
    /// the sum fits; the leader adds (T1).
    pub(super) fn expiry(self, number: i64, wall_ms: u64, command: &'static str) -> Result<Expiry, Failure> {
        let ms = if self.seconds {
            number.checked_mul(1000)
        } else {
            Some(number)
        };
        let ms = ms.ok_or(Failure::InvalidExpire(command))?;
        if self.absolute {
            return Ok(Expiry::At(ms));
        }
        match ms.checked_add_unsigned(wall_ms) {
            Some(_) => Ok(Expiry::In(ms)),
            None => Err(Failure::InvalidExpire(command)),
        }
    }

    /// As [`Self::expiry`], for commands that refuse times that are not positive.
    pub(super) fn positive_expiry(
        self,
        text: &[u8],
        wall_ms: u64,
        command: &'static str,
    ) -> Result<Expiry, Failure> {
        let number = integer(text)?;
        if number <= 0 {
            return Err(Failure::InvalidExpire(command));
        }
        self.expiry(number, wall_ms, command)
    }
}
