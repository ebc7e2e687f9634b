//! `QUORATE` commands that are about this node and not about keys.

use quorate_raft::Role;
use quorate_storage::ShardId;
use quorate_storage::engine::Engine;
use quorate_store::{ReplicaStatus, Store, StoreError, Times};

use crate::client::NodeCommand;
use crate::resp::RespValue;

/// Answers a command.
///
/// # Errors
///
/// The state engine failed; the node must stop. What is wrong with the command is an answer.
pub(crate) fn run<E: Engine>(
    store: &Store<E>,
    times: Times,
    command: &NodeCommand,
) -> Result<RespValue, StoreError> {
    // The first is QUORATE itself.
    let args: Vec<&[u8]> = command.args.iter().skip(1).map(|arg| arg.as_ref()).collect();
    let (name, rest) = args
        .split_first()
        .map_or((&b""[..], &[][..]), |(name, rest)| (*name, rest));
    match (name.to_ascii_lowercase().as_slice(), rest) {
        (b"digest", [shard]) => digest(store, shard),
        (b"status", []) => Ok(RespValue::Array(store.status(times).iter().map(row).collect())),
        (b"digest" | b"status", _) => Ok(RespValue::Error(format!(
            "ERR wrong number of arguments for 'quorate|{}' command",
            String::from_utf8_lossy(name).to_ascii_lowercase()
        ))),
        _ => Ok(RespValue::Error(format!(
            "ERR unknown subcommand '{}'. Try QUORATE DIGEST <shard>, QUORATE MODE [proxy|cluster], QUORATE REPLICA \
             ADD|REMOVE|MOVE|ABORT, QUORATE MAP, QUORATE REGISTRY, QUORATE SHARDS, QUORATE STATUS, QUORATE STORES or QUORATE \
             TRANSFER <shard> <store>.",
            // One line, whatever was sent.
            String::from_utf8_lossy(name)
                .chars()
                .filter(|c| !c.is_control())
                .take(128)
                .collect::<String>()
        ))),
    }
}

/// QUORATE DIGEST shard: applied index, applied term, digest of the content. Reads the whole shard.
fn digest<E: Engine>(store: &Store<E>, shard: &[u8]) -> Result<RespValue, StoreError> {
    let Some(shard) = std::str::from_utf8(shard)
        .ok()
        .and_then(|text| text.parse().ok())
        .map(ShardId)
    else {
        return Ok(RespValue::Error("ERR the shard is not a number".into()));
    };
    Ok(match store.digest(shard)? {
        Some((applied, digest)) => RespValue::Array(vec![
            number(applied.index.0),
            number(applied.term.0),
            RespValue::text(format!("{digest:016x}")),
        ]),
        None => RespValue::Error(format!("ERR shard {shard} has no replica on this store")),
    })
}

/// QUORATE STATUS: one map for each replica of this store.
fn row(status: &ReplicaStatus) -> RespValue {
    let role = match status.role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::PreCandidate => "pre-candidate",
    };
    let fields = [
        ("shard", number(status.shard.0)),
        ("replica", number(status.replica.0)),
        ("role", RespValue::text(role)),
        ("term", number(status.term.0)),
        (
            "leader",
            status.leader.map_or(RespValue::Null, |leader| number(leader.0)),
        ),
        ("commit", number(status.commit.0)),
        ("applied", number(status.applied.0)),
        ("last", number(status.last.0)),
        ("log-base", number(status.log_base.0)),
        ("log-bytes", number(status.log_bytes)),
        ("lease", RespValue::Bool(status.lease)),
        (
            "rebuild",
            status
                .rebuild
                .as_ref()
                .map_or(RespValue::Null, |rebuild| RespValue::text(rebuild.to_string())),
        ),
    ];
    RespValue::Map(
        fields
            .into_iter()
            .map(|(name, value)| (RespValue::text(name), value))
            .collect(),
    )
}

/// Redis's numbers are signed; ours stay far below that.
fn number(value: u64) -> RespValue {
    RespValue::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_controller::Controller;
    use quorate_raft::HardState;
    use quorate_storage::engine::{ModelDisk, ModelEngine};
    use quorate_storage::log::{Recovered, RecoveredShard};
    use quorate_storage::{ClusterId, Identity, Incarnation, StoreId};
    use quorate_store::{Bootstrap, FIRST, RequestId, StoreOptions};

    use super::*;

    fn store() -> Store<ModelEngine> {
        let own = StoreId(1);
        let first = Bootstrap {
            cluster: ClusterId(1),
            stores: vec![own, StoreId(2)],
            shards: 2,
            replicas: 3,
        };
        let mut engine = ModelEngine::open(&ModelDisk::new()).unwrap();
        first.write(&mut engine, own, &mut Controller::default()).unwrap();
        let shards = first.descriptors(own).into_iter().map(|descriptor| {
            let hard_state = HardState {
                term: FIRST.1,
                vote: None,
                commit: FIRST.0,
            };
            (
                descriptor.shard,
                RecoveredShard {
                    hard_state,
                    base: FIRST,
                    ..RecoveredShard::default()
                },
            )
        });
        let recovered = Recovered {
            shards: shards.collect(),
            ..Recovered::default()
        };
        let identity = Identity {
            cluster: ClusterId(1),
            store: own,
            incarnation: Incarnation(1),
        };
        Store::open(
            identity,
            1,
            StoreOptions::default(),
            engine,
            recovered,
            Box::new(Controller::default()),
            Times::default(),
        )
        .unwrap()
    }

    fn ask(args: &str) -> RespValue {
        let args = args
            .split(' ')
            .map(|arg| Bytes::copy_from_slice(arg.as_bytes()))
            .collect();
        run(
            &store(),
            Times::default(),
            &NodeCommand {
                id: RequestId(0),
                args,
            },
        )
        .unwrap()
    }

    #[test]
    fn status_has_a_row_for_each_replica() {
        let RespValue::Array(rows) = ask("quorate Status") else {
            panic!("not a list")
        };
        assert_eq!(rows.len(), 3, "the controller's shard is among them");
        let RespValue::Map(fields) = &rows[2] else {
            panic!("not a row")
        };
        assert_eq!(fields[0], (RespValue::text("shard"), RespValue::Int(2)));
        assert_eq!(fields[2], (RespValue::text("role"), RespValue::text("follower")));
        assert_eq!(fields[4], (RespValue::text("leader"), RespValue::Null));
    }

    #[test]
    fn digests_of_shards_with_equal_content_are_equal() {
        let (one, two) = (ask("QUORATE DIGEST 1"), ask("QUORATE digest 2"));
        assert_eq!(one, two);
        let RespValue::Array(parts) = one else {
            panic!("not a list")
        };
        assert_eq!(parts[..2], [RespValue::Int(1), RespValue::Int(1)]);
        assert_ne!(
            ask("QUORATE DIGEST 0"),
            two,
            "the controller's shard holds the bootstrap record"
        );
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said_in_one_line() {
        for (args, why) in [
            ("QUORATE", "unknown subcommand ''"),
            ("QUORATE WHAT\r\n1", "unknown subcommand 'WHAT1'"),
            ("QUORATE DIGEST", "wrong number of arguments for 'quorate|digest'"),
            (
                "QUORATE STATUS now",
                "wrong number of arguments for 'quorate|status'",
            ),
            ("QUORATE DIGEST one", "not a number"),
            ("QUORATE DIGEST -1", "not a number"),
            ("QUORATE DIGEST 7", "shard 7 has no replica on this store"),
        ] {
            let RespValue::Error(text) = ask(args) else {
                panic!("{args} is answered")
            };
            assert!(
                text.starts_with("ERR ") && text.contains(why) && !text.contains('\n'),
                "{args}: {text}"
            );
        }
    }
}
