//! The groups of a new development cluster: its nodes have all joined the first one.

use std::time::Duration;

use crate::client::{Client, Reply};

use super::layout::Layout;

const TIMEOUT: Duration = Duration::from_secs(5);

/// How far the groups have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Forming {
    /// The config is to get them.
    Config,
    /// Shards are on their way to them.
    Moves,
    /// Every shard is where it is to be.
    Done,
}

impl Forming {
    /// Does the next step that can be done now; what cannot be done yet is tried again at the next call.
    pub(super) fn next(self, client_port: u16, layout: Layout) -> Self {
        match self {
            Self::Config if form(client_port, layout).is_some() => Self::Moves,
            Self::Moves if is_settled(client_port) => Self::Done,
            _ => self,
        }
    }
}

/// Stores of other groups than the first leave that one, and join as groups of their own. Both can be repeated.
fn form(client_port: u16, layout: Layout) -> Option<()> {
    let others: Vec<(u16, Vec<String>)> = (2..=layout.groups())
        .map(|group| (group, layout.members(group).map(|id| id.to_string()).collect()))
        .collect();
    if others.is_empty() {
        return Some(());
    }
    let mut client = connect(client_port)?;
    let mut leave: Vec<String> = ["GROUP", "1", "REMOVE"].map(str::to_owned).into();
    leave.extend(others.iter().flat_map(|(_, stores)| stores.iter().cloned()));
    let mut join = vec!["JOIN".to_owned()];
    join.extend(
        others
            .iter()
            .map(|(group, stores)| format!("{group}={}", stores.join(","))),
    );
    for words in [leave, join] {
        let mut command: Vec<&[u8]> = vec![b"QUORATE", b"PLACE"];
        command.extend(words.iter().map(String::as_bytes));
        match client.command(&command) {
            Ok(Reply::Int(_)) => {}
            // Nodes are still making each other's acquaintance.
            Ok(_) | Err(_) => return None,
        }
    }
    Some(())
}

/// Whether every shard is where it is to be, and has as many replicas as it is to have.
fn is_settled(client_port: u16) -> bool {
    let settled = || {
        let mut client = connect(client_port)?;
        let rows = |reply: Reply| quorate_server::json::rows(&reply);
        let moves = rows(client.command(&[b"QUORATE", b"MOVES"]).ok()?)?;
        let shards = rows(client.command(&[b"QUORATE", b"MAP"]).ok()?)?;
        let held = |row: &serde_json::Map<_, serde_json::Value>| row["stores"].as_array().map_or(0, Vec::len);
        let slots = shards
            .iter()
            .filter_map(|row| Some(row["last-slot"].as_u64()? + 1 - row["first-slot"].as_u64()?));
        let is_heard = slots.sum::<u64>() == 16384;
        let data = shards.iter().filter(|row| !row["first-slot"].is_null());
        let (least, most) = (data.clone().map(held).min()?, data.map(held).max()?);
        Some(moves.is_empty() && is_heard && least == most)
    };
    settled().unwrap_or(false)
}

fn connect(client_port: u16) -> Option<Client> {
    Client::connect(&format!("127.0.0.1:{client_port}"), TIMEOUT).ok()
}
