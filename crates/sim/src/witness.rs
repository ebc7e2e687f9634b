//! What the shards' logs tell about the clients' writes: which of them took effect, and when.
//!
//! A write of unknown outcome may have taken effect at any later moment or never, and a search for an order has to
//! try all of that. The simulator need not guess: it sees what is applied. A history in which each write took effect
//! between the moment at which its entry was first applied anywhere and the one at which everybody had to see it is one
//! of those that the search would have to find, so if the checker accepts it, the history is linearizable. If not, nothing
//! is concluded (whose write an entry was is told by content and answer only), and the history is judged by itself.
//!
//! Everybody had to see a write once a leader had applied it, since leaders answer; once it was answered, which a leader
//! that was deposed meanwhile does too; and once that holds of anything behind it in its shard's log.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use quorate_proto::{self as proto, Command as LogCommand, Epoch, ForwardBody, Op, SessionTotals};
use quorate_raft::{Entry, Index, Payload};
use quorate_storage::ShardId;
use quorate_storage::engine::{Engine, EngineError, ModelDisk, ModelEngine};
use quorate_store::SLOTS;
use quorate_store::kv::sessions::{self, Standing};
use quorate_store::kv::{self, Space, Txn};

use crate::linearizability::{Answer, Budget, Command, History, Operation, Outcome, Unit, Verdict, check_kv};
use crate::record::{Meaning, meaning, told};

/// Steps that the history as the logs tell it may take for a key. An order is found at once if there is one, and looking for
/// another in vain is left to the history itself.
const STEPS: u64 = 100_000;

/// Writes in the order in which they were first applied: a shard's in that of its log, and those of the child of a split
/// behind it.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    writes: Vec<Write>,
    /// Applied, but by no leader yet; by shard, places among the writes in the order of its log.
    unled: BTreeMap<ShardId, VecDeque<(Index, usize)>>,
}

#[derive(Debug)]
struct Write {
    applied_ns: u64,
    /// When a leader had applied it.
    led_ns: Option<u64>,
    shard: ShardId,
    /// None: the shard's members changed.
    command: Option<LogCommand>,
}

/// An operation whose entry was found: what it answered, and between which moments it took effect.
struct Found {
    operation: usize,
    answer: Answer,
    from: u64,
    until: u64,
}

impl Witness {
    /// An entry of a shard with keys was applied for the first time.
    pub(crate) fn applied(&mut self, at_ns: u64, shard: ShardId, entry: &Entry) {
        let command = match &entry.payload {
            Payload::ConfChange(_) => None,
            Payload::Normal(data) => match LogCommand::decode(data) {
                Ok(command) => Some(command),
                // A leader's first entry is empty.
                Err(_) => return,
            },
        };
        let place = (entry.index, self.writes.len());
        self.unled.entry(shard).or_default().push_back(place);
        self.writes.push(Write {
            applied_ns: at_ns,
            led_ns: None,
            shard,
            command,
        });
    }

    /// A leader has applied this much.
    pub(crate) fn led(&mut self, at_ns: u64, shard: ShardId, applied: Index) {
        let Some(unled) = self.unled.get_mut(&shard) else {
            return;
        };
        while let Some((_, at)) = unled.front().filter(|(index, _)| *index <= applied) {
            self.writes[*at].led_ns = Some(at_ns);
            unled.pop_front();
        }
    }

    /// The same history, in which each write has taken effect about when an entry like it was applied, with the answer
    /// that it then had; and the unknown ones without such an entry never. What no leader had applied in the end, and
    /// nothing that was answered came behind, nobody saw.
    fn settled(&self, history: &History) -> Result<History, EngineError> {
        let mut operations = history.operations().to_vec();
        for found in self.found(history)? {
            if found.until < u64::MAX {
                let operation = &mut operations[found.operation];
                operation.invoked = found.from;
                operation.outcome = Outcome::Done {
                    at: found.until,
                    answer: found.answer,
                };
            }
        }
        let mut settled = History::new(history.unit());
        for operation in operations {
            if operation.outcome != Outcome::Unknown {
                settled.push(operation);
            }
        }
        Ok(settled)
    }

    /// The operations that have an entry like them.
    fn found(&self, history: &History) -> Result<Vec<Found>, EngineError> {
        let operations = history.operations();
        let mut open: HashMap<(Bytes, Command), Vec<usize>> = HashMap::new();
        for (at, operation) in operations.iter().enumerate() {
            if !operation.command.is_read() && !matches!(operation.outcome, Outcome::NotApplied { .. }) {
                let like = (operation.key.clone(), operation.command.clone());
                open.entry(like).or_default().push(at);
            }
        }
        let in_unit = |at_ns: u64| match history.unit() {
            Unit::Nanoseconds => at_ns,
            Unit::Microseconds | Unit::Events => at_ns / 1000,
        };
        let mut state = State::new()?;
        let mut by_write = Vec::with_capacity(self.writes.len());
        for write in &self.writes {
            let Some(command) = &write.command else {
                state.members_changed(write.shard);
                by_write.push(None);
                continue;
            };
            let body = ForwardBody::Write(command.op.clone());
            let found = match (state.apply(write.shard, command)?, meaning(&body)) {
                (Some(answer), Meaning::Command(key, command)) => {
                    let (answer, from) = (told(&body, &answer), in_unit(write.applied_ns));
                    let candidates = open.get_mut(&(key, command));
                    let operation = candidates.and_then(|among| take(among, operations, from, &answer));
                    operation.map(|operation| Found {
                        operation,
                        answer,
                        from,
                        until: u64::MAX,
                    })
                }
                _ => None,
            };
            by_write.push(found);
        }
        // By when what comes next in a shard's log had to be seen.
        let mut seen: BTreeMap<ShardId, u64> = BTreeMap::new();
        for (write, found) in self.writes.iter().zip(&mut by_write).rev() {
            let led = write.led_ns.map_or(u64::MAX, in_unit);
            let answered = found
                .as_ref()
                .and_then(|found| operations[found.operation].ended())
                .unwrap_or(u64::MAX);
            let child = match write.command.as_ref().map(|command| &command.op) {
                Some(Op::Split(split)) => seen.get(&split.child).copied().unwrap_or(u64::MAX),
                _ => u64::MAX,
            };
            let until = seen.entry(write.shard).or_insert(u64::MAX);
            *until = led.min(answered).min(child).min(*until);
            if let Some(found) = found {
                found.until = *until;
            }
        }
        Ok(by_write.into_iter().flatten().collect())
    }

    /// Judges a history: first as the log tells it, which is soon done, and if that is not accepted, by itself.
    pub(crate) fn judge(&self, history: &History, budget: &Budget) -> Verdict {
        let brief = Budget {
            steps: budget.steps.min(STEPS),
            ..*budget
        };
        let as_told = self.settled(history).map(|settled| check_kv(&settled, &brief));
        if as_told.is_ok_and(|verdict| verdict == Verdict::Linearizable) {
            return Verdict::Linearizable;
        }
        check_kv(history, budget)
    }
}

/// What the writes amount to. Keys of several shards differ, so one space holds them all; sessions do not, and each
/// shard has a table of its own.
struct State {
    content: ModelEngine,
    shards: BTreeMap<ShardId, Shard>,
    last_space: Space,
}

const KEYS: Space = Space(1);

struct Shard {
    sessions: Space,
    totals: SessionTotals,
    /// The shard's time (T1).
    stamp_ms: u64,
    /// First slot, and the slot behind the last, as far as splits tell.
    slots: (u16, u16),
    epoch: Epoch,
}

impl State {
    fn new() -> Result<Self, EngineError> {
        Ok(Self {
            content: ModelEngine::open(&ModelDisk::new())?,
            shards: BTreeMap::new(),
            last_space: KEYS,
        })
    }

    fn new_space(&mut self) -> Space {
        self.last_space.0 += 1;
        self.last_space
    }

    /// A shard of the beginning, as it begins.
    fn first(&mut self) -> Shard {
        Shard {
            sessions: self.new_space(),
            totals: SessionTotals::default(),
            stamp_ms: 0,
            slots: (0, SLOTS),
            epoch: Epoch {
                conf_ver: 1,
                version: 1,
            },
        }
    }

    /// Every change of who holds a shard counts, whatever it changes; a split of an earlier epoch is void.
    fn members_changed(&mut self, shard: ShardId) {
        let first = self.first();
        self.shards.entry(shard).or_insert(first).epoch.conf_ver += 1;
    }

    /// What a write answers; none if its session's table kept it from running (S4), its slot had another shard, or it
    /// was a split.
    fn apply(&mut self, id: ShardId, command: &LogCommand) -> Result<Option<proto::Answer>, EngineError> {
        let first = self.first();
        let shard = self.shards.entry(id).or_insert(first);
        shard.stamp_ms = shard.stamp_ms.max(command.stamp_ms);
        let op = &command.op;
        if let Op::Split(split) = op {
            self.split(id, split)?;
            return Ok(None);
        }
        let (start, end) = shard.slots;
        if kv::slot_of_op(op).is_some_and(|slot| !(start..end).contains(&slot)) {
            return Ok(None);
        }
        let (space, totals, stamp_ms) = (shard.sessions, &mut shard.totals, shard.stamp_ms);
        let mut txn = Txn::new(&self.content);
        let mut session = None;
        if let Some(identity) = &command.session {
            let found = sessions::standing(|key| txn.get(key), space, totals, stamp_ms, identity, op)?;
            let Standing::New(place) = found else {
                return Ok(None);
            };
            session = Some((identity, place));
        }
        let answer = match op {
            Op::ExpireSessions { clients } => {
                proto::Answer::Int(sessions::expire(&mut txn, space, totals, clients)?)
            }
            op => kv::apply(&mut txn, KEYS, stamp_ms, op)?,
        };
        if let Some((identity, place)) = session {
            sessions::record(&mut txn, space, totals, place, identity, op, &answer);
        }
        let batch = txn.into_batch();
        self.content.write(batch)?;
        Ok(Some(answer))
    }

    /// A shard is split, and its session table with it.
    fn split(&mut self, shard: ShardId, split: &proto::Split) -> Result<(), EngineError> {
        let to = self.new_space();
        let Some(parent) = self.shards.get_mut(&shard) else {
            return Ok(());
        };
        let (start, end) = parent.slots;
        if parent.epoch != split.epoch || split.slot <= start || split.slot >= end {
            return Ok(());
        }
        parent.slots = (start, split.slot);
        parent.epoch.version += 1;
        let tables = (parent.sessions, to);
        let mut txn = Txn::new(&self.content);
        let totals = sessions::divide(&mut txn, &self.content, tables, &mut parent.totals, split.slot)?;
        let child = Shard {
            sessions: to,
            totals,
            slots: (split.slot, end),
            ..*parent
        };
        let batch = txn.into_batch();
        self.content.write(batch)?;
        self.shards.insert(split.child, child);
        Ok(())
    }
}

/// Takes out the operation that may have taken effect from this moment on with this answer: the one that had to be over
/// first, and of those of unknown outcome the oldest.
fn take(among: &mut Vec<usize>, operations: &[Operation], from: u64, answer: &Answer) -> Option<usize> {
    let until = |operation: &Operation| operation.ended().unwrap_or(u64::MAX);
    let may_be = |operation: &Operation| {
        let answered = operation.answer().is_none_or(|told| told == answer);
        answered && operation.invoked <= from && from <= until(operation)
    };
    let place = (0..among.len())
        .filter(|place| may_be(&operations[among[*place]]))
        .min_by_key(|place| until(&operations[among[*place]]))?;
    Some(among.remove(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::{Session, SessionWrite};
    use quorate_raft::{Index, Term};

    fn append(index: u64, value: &'static str, session: Option<SessionWrite>) -> Entry {
        let mut data = Vec::new();
        let op = Op::Append {
            key: "k".into(),
            value: value.into(),
        };
        LogCommand {
            stamp_ms: 0,
            session,
            op,
        }
        .encode(&mut data);
        Entry {
            index: Index(index),
            term: Term(1),
            payload: Payload::Normal(data.into()),
        }
    }

    const SHARD: ShardId = ShardId(1);
    const BUDGET: Budget = Budget {
        steps: 1_000_000,
        bytes: 1 << 20,
        time: None,
    };

    /// Appends of unknown outcome, then a read.
    fn history(unknown: u64, read: Option<&'static str>) -> History {
        let mut history = History::new(Unit::Nanoseconds);
        for client in 0..unknown {
            history.invoke(client, "k", Command::append("x"), client);
        }
        let id = history.invoke(unknown, "k", Command::Get, 1000);
        history.done(id, 2000, Answer::Value(read.map(Bytes::from)));
        history
    }

    #[test]
    fn what_was_applied_has_a_moment_and_the_rest_never_was() {
        let mut witness = Witness::default();
        for (at, index, value) in [(500, 1, "x"), (600, 2, "another's"), (700, 3, "x")] {
            witness.applied(at - 50, SHARD, &append(index, value, None));
            witness.led(at, SHARD, Index(index));
        }
        witness.applied(800, SHARD, &append(4, "x", None));
        let settled = witness.settled(&history(40, Some("xx"))).expect("in memory");
        let moments: Vec<_> = settled
            .operations()
            .iter()
            .map(|operation| (operation.invoked, operation.ended()))
            .collect();
        assert_eq!(moments, [(450, Some(500)), (650, Some(700)), (1000, Some(2000))]);
        assert_eq!(
            witness.judge(&history(40, Some("xx")), &BUDGET),
            Verdict::Linearizable
        );
    }

    #[test]
    fn a_history_that_the_log_does_not_explain_is_judged_by_itself() {
        let nothing = Witness::default();
        assert_eq!(
            nothing.judge(&history(2, Some("x")), &BUDGET),
            Verdict::Linearizable
        );
        let impossible = nothing.judge(&history(1, Some("xx")), &BUDGET);
        assert!(matches!(impossible, Verdict::NotLinearizable(_)), "{impossible}");
        // Stale: what was acknowledged is not in what a later read shows, even if it was not applied before that.
        for applied in [5, 5000] {
            let mut witness = Witness::default();
            witness.applied(applied, SHARD, &append(1, "y", None));
            witness.led(applied, SHARD, Index(1));
            let mut stale = history(0, None);
            let id = stale.invoke(9, "k", Command::append("y"), 1);
            stale.done(id, 10, Answer::Int(1));
            let found = witness.judge(&stale, &BUDGET);
            assert!(matches!(found, Verdict::NotLinearizable(_)), "{found}");
        }
    }

    #[test]
    fn a_repeat_under_one_identity_took_effect_once() {
        let mut witness = Witness::default();
        let session = Session {
            client: sessions::session_id(1, 0),
            seq: 1,
            lowest: 1,
            position: 0,
        };
        let identity = SessionWrite {
            session,
            fingerprint: 0,
        };
        for index in 1..=2 {
            witness.applied(500, SHARD, &append(index, "x", Some(identity)));
        }
        witness.led(500, SHARD, Index(2));
        let settled = witness.settled(&history(2, Some("x"))).expect("in memory");
        assert_eq!(settled.operations().len(), 2);
    }
}
