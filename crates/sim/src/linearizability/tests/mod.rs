//! The checker judged: by histories with known verdicts, by a brute-force checker, by a simulated object.

mod brute;
mod explaining;
mod files;
mod random;
