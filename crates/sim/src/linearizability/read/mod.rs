//! Histories from files. The format is told by the first line:
//!
//! | it begins with | format |
//! | --- | --- |
//! | `{"` | Quorate's own, version 1: `docs/formats-history.md` |
//! | `{:` | porcupine's test data: a key-value map, an event a line |
//! | `INFO  jepsen.util` | Jepsen's log of one etcd register |

mod edn;
mod events;
mod jepsen;
mod json;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::budget::Budget;
use super::history::{History, ModelKind};
use super::model::not_for_a_register;
use super::{Verdict, check_kv, check_register};

/// Bytes of the longest line: a command and an answer of the largest size that a server takes by default, escaped.
const LINE_BYTES_MAX: u64 = 512 << 20;

/// A history from a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedHistory {
    /// What happened.
    pub history: History,
    /// What it is to be held against.
    pub model: ModelKind,
}

impl RecordedHistory {
    /// Holds it against another model than the one that its file names.
    ///
    /// # Errors
    ///
    /// When the model does not know one of its operations.
    pub fn judge_as(&mut self, model: ModelKind) -> Result<(), String> {
        if model == ModelKind::Register
            && let Some(why) = self.history.operations().iter().find_map(not_for_a_register)
        {
            return Err(why);
        }
        self.model = model;
        Ok(())
    }

    /// Judges it.
    #[must_use]
    pub fn check(&self, budget: &Budget) -> Verdict {
        match self.model {
            ModelKind::Kv => check_kv(&self.history, budget),
            ModelKind::Register => check_register(&self.history, budget),
        }
    }
}

/// Why a file is no history.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be read.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not what it must be.
    Malformed {
        /// In which file.
        path: PathBuf,
        /// Which, from 1.
        line: u64,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// It is larger than the memory that may be used.
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Bytes that it may have.
        bytes_max: usize,
    },
}

impl ReadError {
    /// What is wrong, without the file's name.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::Malformed { line, message, .. } => format!("line {line}: {message}"),
            Self::TooLarge { bytes_max, .. } => {
                format!("larger than {} MB, the memory that may be used", bytes_max >> 20)
            }
        }
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed { path, line, message } => write!(f, "{}:{line}: {message}", path.display()),
            Self::Io { path, .. } | Self::TooLarge { path, .. } => {
                write!(f, "{}: {}", path.display(), self.reason())
            }
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Malformed { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// Takes a file's lines one by one.
trait Reader {
    /// A line that is not blank, with its number from 1.
    fn line(&mut self, number: u64, line: &str) -> Result<(), String>;

    /// All lines were read.
    fn end(self: Box<Self>) -> Result<RecordedHistory, String>;
}

fn reader_for(first: &str) -> Result<Box<dyn Reader>, String> {
    if first.starts_with("{:") {
        Ok(Box::<edn::EdnReader>::default())
    } else if first.starts_with('{') {
        Ok(Box::<json::JsonReader>::default())
    } else if first.contains("jepsen.util") {
        Ok(Box::<jepsen::JepsenReader>::default())
    } else {
        Err(
            "no history in a known format: the first line should begin with {\"format\":\"quorate-history\", with \
             {:process, or with INFO  jepsen.util"
                .into(),
        )
    }
}

/// Reads a history of at most `bytes_max` bytes.
///
/// # Errors
///
/// With the file's name and the number of the line that is wrong.
pub fn read_history(path: &Path, bytes_max: usize) -> Result<RecordedHistory, ReadError> {
    let io = |source| ReadError::Io {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    parse(path, BufReader::with_capacity(1 << 16, file), bytes_max)
}

pub(super) fn parse(
    path: &Path,
    mut input: impl BufRead,
    bytes_max: usize,
) -> Result<RecordedHistory, ReadError> {
    let mut reader: Option<Box<dyn Reader>> = None;
    let mut buffer = Vec::new();
    let mut bytes = 0;
    let mut number = 0;
    let malformed = |line, message| ReadError::Malformed {
        path: path.into(),
        line,
        message,
    };
    loop {
        buffer.clear();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut buffer)
            .map_err(|source| ReadError::Io {
                path: path.into(),
                source,
            })?;
        if read == 0 {
            break;
        }
        number += 1;
        bytes += read;
        if bytes > bytes_max {
            return Err(ReadError::TooLarge {
                path: path.into(),
                bytes_max,
            });
        }
        let text = std::str::from_utf8(&buffer).map_err(|_| {
            malformed(
                number,
                "not UTF-8; bytes that are not text are written as {\"hex\":…}".into(),
            )
        })?;
        let line = text.trim();
        if line.is_empty() {
            continue;
        }
        let reader = match &mut reader {
            Some(reader) => reader,
            None => reader.insert(reader_for(line).map_err(|message| malformed(number, message))?),
        };
        reader
            .line(number, line)
            .map_err(|message| malformed(number, message))?;
    }
    let reader = reader.ok_or_else(|| malformed(1, "the file is empty".into()))?;
    reader.end().map_err(|message| malformed(number, message))
}
