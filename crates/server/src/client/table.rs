//! What a command is, with what COMMAND tells of it, and how it is found. `command_list` has them all.
//!
//! Arity, flags, categories and key positions are those of Redis 7.0, because cluster clients compute from
//! them where a command goes.

use super::command_list::COMMANDS;
use super::failure::{self, Failure, Text};
use super::{ClientContext, ClientSession, Handled, Handler};
use crate::resp::Args;

/// A command.
pub(super) struct CommandSpec {
    /// In lower case; of a subcommand `container|subcommand`.
    pub(super) name: &'static str,
    /// Number of arguments, the name included; negative: at least.
    pub(super) arity: i32,
    pub(super) run: Handler,
    /// Separated by blanks, like the next two.
    pub(super) flags: &'static str,
    pub(super) acl: &'static str,
    pub(super) tips: &'static str,
    /// First key, last key (negative: from the end) and step; zeros without keys.
    pub(super) keys: (i32, i32, i32),
    pub(super) key_flags: &'static str,
    pub(super) key_notes: &'static str,
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) subcommands: &'static [CommandSpec],
    /// It concerns all keys, so that it must have the connection to itself.
    pub(super) alone: bool,
}

impl CommandSpec {
    pub(super) const fn new(name: &'static str, arity: i32, run: Handler) -> Self {
        CommandSpec {
            name,
            arity,
            run,
            flags: "",
            acl: "",
            tips: "",
            keys: (0, 0, 0),
            key_flags: "",
            key_notes: "",
            group: "",
            since: "",
            summary: "",
            subcommands: &[],
            alone: false,
        }
    }

    pub(super) const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(super) const fn flags(mut self, flags: &'static str) -> Self {
        self.flags = flags;
        self
    }

    pub(super) const fn acl(mut self, acl: &'static str) -> Self {
        self.acl = acl;
        self
    }

    pub(super) const fn tips(mut self, tips: &'static str) -> Self {
        self.tips = tips;
        self
    }

    pub(super) const fn keys(mut self, first: i32, last: i32, step: i32) -> Self {
        self.keys = (first, last, step);
        self
    }

    pub(super) const fn key_flags(mut self, key_flags: &'static str) -> Self {
        self.key_flags = key_flags;
        self
    }

    pub(super) const fn key_notes(mut self, key_notes: &'static str) -> Self {
        self.key_notes = key_notes;
        self
    }

    pub(super) const fn about(
        mut self,
        group: &'static str,
        since: &'static str,
        summary: &'static str,
    ) -> Self {
        self.group = group;
        self.since = since;
        self.summary = summary;
        self
    }

    pub(super) const fn subcommands(mut self, subcommands: &'static [CommandSpec]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// Whether a request of this many arguments is well-formed.
    pub(super) fn arity_fits(&self, arguments: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            arguments >= wanted
        } else {
            arguments == wanted
        }
    }
}

/// Longest name in the table.
const NAME_BYTES_MAX: usize = 32;

/// The command of this name; a subcommand's is `container|subcommand`.
pub(super) fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let spec = find_in(COMMANDS, "", parts.next()?)?;
    match parts.next() {
        None => Some(spec),
        Some(subcommand) => find_in(spec.subcommands, spec.name, subcommand),
    }
}

fn find_in(table: &'static [CommandSpec], container: &str, name: &[u8]) -> Option<&'static CommandSpec> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut lower = [0u8; NAME_BYTES_MAX];
    let lower = &mut lower[..name.len()];
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    // A subcommand's name in the table begins with its container's and a bar.
    let skip = if container.is_empty() {
        0
    } else {
        container.len() + 1
    };
    let at = table
        .binary_search_by(|spec| spec.name.as_bytes()[skip..].cmp(lower))
        .ok()?;
    Some(&table[at])
}

/// The command that a request asks for, if there is such a one and the number of arguments fits.
pub(super) fn resolve(args: &Args) -> Result<&'static CommandSpec, Text> {
    let Some(mut spec) = find_in(COMMANDS, "", args.get(0)) else {
        return Err(failure::unknown_command(args.get(0), args.iter().skip(1)));
    };
    if args.len() > 1 && !spec.subcommands.is_empty() {
        let subcommand = find_in(spec.subcommands, spec.name, args.get(1));
        spec = subcommand.ok_or_else(|| failure::unknown_subcommand(spec.name, args.get(1)))?;
    }
    if spec.arity_fits(args.len()) {
        Ok(spec)
    } else {
        Err(Failure::Arity(spec.name).to_string().into_bytes())
    }
}

/// Containers do nothing by themselves; a request that names no subcommand has too few arguments.
pub(super) fn container(_session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    Err(Failure::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_complete() {
        let sorted = |table: &[CommandSpec]| table.is_sorted_by(|a, b| a.name < b.name);
        assert!(sorted(COMMANDS));
        for spec in COMMANDS {
            assert!(sorted(spec.subcommands), "{}", spec.name);
            assert!(!spec.summary.is_empty() && !spec.acl.is_empty(), "{}", spec.name);
            for subcommand in spec.subcommands {
                assert!(
                    subcommand.name.starts_with(&format!("{}|", spec.name)),
                    "{}",
                    subcommand.name
                );
                assert!(std::ptr::eq(
                    find(subcommand.name.as_bytes()).unwrap(),
                    subcommand
                ));
            }
            assert!(std::ptr::eq(
                find(spec.name.to_uppercase().as_bytes()).unwrap(),
                spec
            ));
        }
        assert!(find(b"nope").is_none() && find(b"client|nope").is_none() && find(b"").is_none());
        assert!(find(&[b'a'; 1000]).is_none());
    }
}
