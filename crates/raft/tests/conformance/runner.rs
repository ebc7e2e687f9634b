//! Runs the transcripts of a directory and reports what differs.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use similar::TextDiff;

use crate::env::Env;
use crate::script::{self, Stanza};
use crate::{confchange, interaction, quorum};

/// What the files of a directory drive.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Interaction,
    ConfChange,
    Quorum,
}

impl Kind {
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Kind::Interaction => "interaction",
            Kind::ConfChange => "confchange",
            Kind::Quorum => "quorum",
        }
    }

    /// The state of one file, as the function that runs its stanzas.
    fn environment(self) -> Box<dyn FnMut(&Stanza) -> String> {
        match self {
            Kind::Interaction => {
                let mut env = Env::default();
                Box::new(move |stanza| interaction::run(&mut env, stanza))
            }
            Kind::ConfChange => {
                let mut state = confchange::State::new();
                Box::new(move |stanza| state.run(stanza))
            }
            Kind::Quorum => Box::new(quorum::run),
        }
    }
}

/// The outcome of a directory.
pub(crate) struct Suite {
    /// Each file's name without its extension, and why it failed.
    files: Vec<(String, Option<String>)>,
}

impl Suite {
    /// Runs every `.txt` file of the kind's directory under `root`, and prints how many passed.
    pub(crate) fn run(root: &Path, kind: Kind) -> Suite {
        let files: Vec<_> = transcripts(root, kind)
            .into_iter()
            .map(|path| {
                let name = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                (name, run_file(&path, kind).err())
            })
            .collect();
        let passed = files.iter().filter(|(_, failure)| failure.is_none()).count();
        say(&format!(
            "{}: {passed} of {} passed",
            root.join(kind.directory()).display(),
            files.len()
        ));
        Suite { files }
    }

    pub(crate) fn ran(&self, name: &str) -> bool {
        self.files.iter().any(|(file, _)| file == name)
    }

    /// Why a file failed.
    pub(crate) fn failure(&self, name: &str) -> Option<&str> {
        let found = self.files.iter().find(|(file, _)| file == name);
        found.and_then(|(_, failure)| failure.as_deref())
    }

    pub(crate) fn count(&self) -> usize {
        self.files.len()
    }

    pub(crate) fn assert_all_passed(&self) {
        let mut failed = Vec::new();
        for (name, failure) in &self.files {
            if let Some(failure) = failure {
                println!("{failure}");
                failed.push(name);
            }
        }
        assert!(
            failed.is_empty(),
            "{} of {} transcripts failed: {failed:?}",
            failed.len(),
            self.files.len()
        );
    }
}

/// Prints past the test harness, which keeps the output of tests that pass to itself.
pub(crate) fn say(line: &str) {
    // Nobody to tell is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn transcripts(root: &Path, kind: Kind) -> Vec<PathBuf> {
    let dir = root.join(kind.directory());
    let listing = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let paths = listing.map(|entry| entry.expect("directory is readable").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<(String, Vec<Stanza>), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let stanzas = script::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok((text, stanzas))
}

/// Stops at the first stanza whose output differs: what follows depends on it.
fn run_file(path: &Path, kind: Kind) -> Result<(), String> {
    let (_, stanzas) = read(path)?;
    let mut run = kind.environment();
    for stanza in &stanzas {
        let place = format!("{}:{}: {}", path.display(), stanza.line, stanza.command.name);
        let actual = catch_unwind(AssertUnwindSafe(|| with_newline(run(stanza))))
            .map_err(|panic| format!("{place}: panicked: {}", panic_text(panic.as_ref())))?;
        if actual != stanza.expected {
            let diff = TextDiff::from_lines(&stanza.expected, &actual);
            let diff = diff
                .unified_diff()
                .context_radius(5)
                .header("expected", "actual")
                .to_string();
            return Err(format!("{place}\n{diff}"));
        }
    }
    Ok(())
}

fn with_newline(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}

/// Replaces the outputs in the files by what the core says now.
pub(crate) fn rewrite(root: &Path, kind: Kind) {
    for path in transcripts(root, kind) {
        let (text, stanzas) = read(&path).unwrap_or_else(|error| panic!("{error}"));
        let lines: Vec<&str> = text.lines().collect();
        let mut run = kind.environment();
        let mut out = String::new();
        let mut copied = 0;
        for stanza in &stanzas {
            for line in &lines[copied..stanza.output_lines.start] {
                out.push_str(&format!("{line}\n"));
            }
            out.push_str(&with_newline(run(stanza)));
            copied = stanza.output_lines.end;
        }
        for line in &lines[copied..] {
            out.push_str(&format!("{line}\n"));
        }
        std::fs::write(&path, out).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}
