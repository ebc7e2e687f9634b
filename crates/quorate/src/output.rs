//! What commands print, and how they end when nobody takes it.
//!
//! A command stands in pipes: `quorate ctl shards | head -1` closes the pipe after a line. The standard library's
//! `println!` panics then, because Rust ignores SIGPIPE; to let the signal have its default action for the whole process
//! would end it for a connection that breaks as well. So this crate has a `print!`, a `println!` and an `eprintln!` of
//! its own, under the usual names, so that none is forgotten: a reader who has seen enough ends the command without a
//! word, by SIGPIPE, as it ends others.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write as _};
use std::process::exit;

use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

use crate::cli::FAILED;

macro_rules! print {
    ($($arg:tt)*) => { $crate::output::print(format_args!($($arg)*)) };
}

macro_rules! println {
    ($($arg:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($arg)*))) };
}

macro_rules! eprintln {
    ($($arg:tt)*) => { $crate::output::complain(format_args!("{}\n", format_args!($($arg)*))) };
}

/// To standard output.
pub(crate) fn print(text: Arguments<'_>) {
    if let Err(error) = io::stdout().write_fmt(text) {
        not_taken(&error);
    }
}

/// To standard error. Where that cannot be written, nobody can be told.
pub(crate) fn complain(text: Arguments<'_>) {
    if let Err(error) = io::stderr().write_fmt(text)
        && error.kind() == ErrorKind::BrokenPipe
    {
        not_taken(&error);
    }
}

/// Standard output takes nothing more: ends the process, by SIGPIPE if its reader has gone.
pub(crate) fn not_taken(error: &io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        // It comes back only for a signal that it does not know.
        let _ = emulate_default_handler(SIGPIPE);
    }
    complain(format_args!(
        "quorate: cannot write to standard output: {error}\n"
    ));
    exit(i32::from(FAILED))
}
