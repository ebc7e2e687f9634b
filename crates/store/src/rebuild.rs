//! Rebuilding a quarantined replica from its peers, under its own id (P3, docs/adr/0004).
//!
//! Damage below a synced offset of the log may have taken entries that the replica acknowledged and votes that it gave;
//! an engine that lost what it had made durable leaves a gap that the log does not fill. Until it cannot do harm any
//! more it neither votes nor campaigns nor acknowledges:
//!
//! 1. It asks every other voter for its term. Let `lost_term` be the highest one, its own included: it is at
//!    least every term in which a vote or an acknowledgement of the replica may have counted, or may yet count.
//! 2. It makes `lost_term` durable in the engine, then starts its log over behind what the engine has applied,
//!    in term `lost_term + 1` and without a vote. No leader of an older term can count it any more.
//! 3. It follows, and acknowledges, leaders of newer terms; they were elected without it and hold all that was
//!    ever committed. Once it has applied an entry of a term above `lost_term`, and its engine has made that
//!    durable, its log holds that too: the mark goes, and it is a voter like any other.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use quorate_proto::{PeerMessage, TermAnswer, TermQuery};
use quorate_raft::{Entry, HardState, Index, Payload, ReplicaId, Term, mutant};
use quorate_storage::engine::{BatchSeq, Engine, EngineError, View, WriteBatch};
use quorate_storage::log::{LogBatch, LogOp};
use quorate_storage::{ShardId, StoreId};

use crate::descriptor;
use crate::error::StoreError;
use crate::io::LogToken;
use crate::replica::Replica;
use crate::store::Store;

/// Ticks between two questions to those who have not answered.
const ASK_TICKS: u64 = 3;
const MARK_PREFIX: u8 = b'q';
const MARK_FORMAT: u8 = 1;

/// How far a quarantined replica has come.
#[derive(Debug)]
pub(crate) enum Rebuild {
    /// It asks the other voters; what each has answered.
    Asking(BTreeMap<ReplicaId, Told>),
    /// The mark is written to the engine with this batch and becomes durable.
    Marking { batch: BatchSeq, lost_term: Term },
    /// The log is being started over; the write is not given to the log, or not known to be durable.
    Restarting {
        token: Option<LogToken>,
        lost_term: Term,
    },
    /// It follows, and does not vote. `caught_up`: the engine's newest batch when an entry of a later term had
    /// been applied.
    Following {
        lost_term: Term,
        caught_up: Option<BatchSeq>,
    },
}

/// What another voter answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    term: Term,
    is_sound: bool,
}

/// How far the rebuilding of a quarantined replica has come, for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RebuildStatus {
    /// The other voters are not enough for a quorum, so they cannot vouch for what this one has lost.
    Impossible,
    /// It waits for the replicas on these stores to say their term; a replica that is quarantined itself
    /// counts as missing if the others are not a quorum.
    WaitingFor(Vec<StoreId>),
    /// Its log is being started over.
    StartingOver,
    /// It follows, and votes again once it has applied an entry of a term above this one.
    CatchingUp {
        /// The highest term in which it may have lost something.
        lost_term: Term,
    },
}

impl fmt::Display for RebuildStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RebuildStatus::Impossible => f.write_str(
                "its data is damaged and the other replicas are no quorum that it could be rebuilt from; restore \
                 the shard from a backup",
            ),
            RebuildStatus::WaitingFor(stores) => {
                let stores: Vec<String> = stores.iter().map(ToString::to_string).collect();
                let list = stores.join(", ");
                write!(f, "its data is damaged; waiting for sound replicas on stores {list} to answer")
            }
            RebuildStatus::StartingOver => f.write_str("its data is damaged; starting its log over"),
            RebuildStatus::CatchingUp { lost_term } => write!(
                f,
                "its data was damaged; catching up, votes again after an entry of a term above {lost_term}"
            ),
        }
    }
}

impl Rebuild {
    /// How a replica stands at open. `mark`: the highest term in which it may have lost something, if an
    /// earlier process has begun to rebuild it.
    pub(crate) fn at_open(is_damaged: bool, mark: Option<Term>, term: Term) -> Option<Self> {
        match mark {
            // A log that was not started over although the mark is there: the damage did not show this time.
            Some(lost_term) if !is_damaged && term > lost_term => Some(Self::Following {
                lost_term,
                caught_up: None,
            }),
            None if !is_damaged => None,
            _ => Some(Self::Asking(BTreeMap::new())),
        }
    }

    /// Whether it may step messages of the consensus core.
    pub(crate) fn is_following(&self) -> bool {
        matches!(self, Rebuild::Following { .. })
    }

    fn status(&self, replica: &Replica) -> RebuildStatus {
        match self {
            Rebuild::Asking(told) => {
                let own = replica.descriptor.replica;
                if !replica.raft.is_quorum(&|id| id != own) {
                    return RebuildStatus::Impossible;
                }
                let missing = other_voters(replica)
                    .filter(|id| told.get(id).is_none_or(|told| !told.is_sound))
                    .filter_map(|id| replica.descriptor.store_of(id));
                RebuildStatus::WaitingFor(missing.collect())
            }
            Rebuild::Marking { .. } | Rebuild::Restarting { .. } => RebuildStatus::StartingOver,
            Rebuild::Following { lost_term, .. } => RebuildStatus::CatchingUp {
                lost_term: *lost_term,
            },
        }
    }
}

fn other_voters(replica: &Replica) -> impl Iterator<Item = ReplicaId> + '_ {
    let conf_state = &replica.descriptor.conf_state;
    let own = replica.descriptor.replica;
    let voters = conf_state.voters.iter().chain(&conf_state.voters_outgoing);
    voters.copied().filter(move |id| *id != own)
}

/// The highest term in which the shard's replica may have lost something, if it is being rebuilt.
pub(crate) fn load_mark(view: &impl View, shard: ShardId) -> Result<Option<Term>, EngineError> {
    let Some(mut value) = view.get(&descriptor::key_of(MARK_PREFIX, shard.0))? else {
        return Ok(None);
    };
    if value.len() != 9 || value.get_u8() != MARK_FORMAT {
        return Err(descriptor::damaged("rebuild mark"));
    }
    Ok(Some(Term(value.get_u64_le())))
}

pub(crate) fn mark_record(shard: ShardId, lost_term: Option<Term>) -> WriteBatch {
    let value = lost_term.map(|term| {
        let mut out = vec![MARK_FORMAT];
        out.put_u64_le(term.0);
        Bytes::from(out)
    });
    WriteBatch {
        changes: vec![(descriptor::key_of(MARK_PREFIX, shard.0), value)],
    }
}

impl Replica {
    /// Whether its log holds a change of the membership that it has not applied: voters that it does not know of may
    /// have decided something.
    fn has_unapplied_change(&self) -> bool {
        let newer = |entry: &&Entry| entry.index > self.applied.index;
        let mut unapplied = self.raft.storage().iter().filter(newer);
        unapplied.any(|entry| matches!(entry.payload, Payload::ConfChange(_)))
    }

    /// Why it does not vote, if so.
    pub(crate) fn rebuild_status(&self) -> Option<RebuildStatus> {
        self.rebuild.as_ref().map(|rebuild| rebuild.status(self))
    }
}

impl<E: Engine> Store<E> {
    /// A tick of a replica that is being rebuilt; it stands for the core's tick, which could only campaign.
    pub(crate) fn rebuild_tick(&mut self, at: usize) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let shard = replica.descriptor.shard;
        match &replica.rebuild {
            Some(Rebuild::Asking(_)) if (self.ticks + at as u64).is_multiple_of(ASK_TICKS) => {
                self.ask_terms(at)
            }
            Some(Rebuild::Marking { batch, lost_term }) => {
                if *batch <= self.durable_batch {
                    replica.rebuild = Some(Rebuild::Restarting {
                        token: None,
                        lost_term: *lost_term,
                    });
                } else {
                    self.want_durable();
                }
            }
            Some(Rebuild::Following {
                lost_term,
                caught_up: None,
            }) if replica.applied.term > *lost_term => {
                replica.rebuild = Some(Rebuild::Following {
                    lost_term: *lost_term,
                    caught_up: Some(self.engine.last_batch()),
                });
            }
            // Only once that is durable: power loss would bring the mark back, and a replica that others count as
            // sound by then would not vote.
            Some(Rebuild::Following {
                caught_up: Some(batch),
                ..
            }) => {
                if *batch <= self.durable_batch {
                    self.engine.write(mark_record(shard, None))?;
                    self.replicas[at].rebuild = None;
                    self.counters.replicas_rebuilt += 1;
                } else {
                    self.want_durable();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ask_terms(&mut self, at: usize) {
        let replica = &self.replicas[at];
        let Some(Rebuild::Asking(told)) = &replica.rebuild else {
            return;
        };
        let missing = other_voters(replica).filter(|id| told.get(id).is_none_or(|told| !told.is_sound));
        for to in missing {
            if let Some(store) = replica.descriptor.store_of(to) {
                let query = TermQuery {
                    shard: replica.descriptor.shard,
                    from: replica.descriptor.replica,
                    to,
                    process: self.process,
                };
                self.out.sends.push((store, PeerMessage::TermQuery(query)));
            }
        }
    }

    /// A quarantined replica elsewhere asks for the term of one here.
    pub(crate) fn term_query(&mut self, from: StoreId, query: TermQuery) {
        let here = self.router.replica_of(query.shard);
        let is_asked = |at: &usize| {
            let descriptor = &self.replicas[*at].descriptor;
            query.to == descriptor.replica && descriptor.store_of(query.from) == Some(from)
        };
        let Some(at) = here.filter(is_asked) else {
            // The membership has changed since the asking replica's.
            self.tell(from, query.shard);
            return;
        };
        let replica = &self.replicas[at];
        let answer = TermAnswer {
            shard: query.shard,
            from: query.to,
            to: query.from,
            process: query.process,
            term: replica.raft.term(),
            conf_ver: replica.descriptor.epoch.conf_ver,
            is_sound: replica.rebuild.as_ref().is_none_or(Rebuild::is_following)
                && !replica.has_unapplied_change(),
        };
        self.out.sends.push((from, PeerMessage::TermAnswer(answer)));
    }

    /// Another voter answers. With the last answer the log can be started over.
    pub(crate) fn term_answer(&mut self, from: StoreId, answer: TermAnswer) -> Result<(), StoreError> {
        let Some(at) = self.router.replica_of(answer.shard) else {
            return Ok(());
        };
        let replica = &mut self.replicas[at];
        let is_ours = answer.process == self.process
            && answer.to == replica.descriptor.replica
            && replica.descriptor.store_of(answer.from) == Some(from)
            // Another membership than this replica's has other voters: their terms would have to count.
            && answer.conf_ver == replica.descriptor.epoch.conf_ver;
        let Some(Rebuild::Asking(told)) = replica.rebuild.as_mut().filter(|_| is_ours) else {
            return Ok(());
        };
        let known = told.entry(answer.from).or_insert(Told {
            term: answer.term,
            is_sound: answer.is_sound,
        });
        known.term = known.term.max(answer.term);
        known.is_sound |= answer.is_sound;

        let replica = &self.replicas[at];
        let Some(Rebuild::Asking(told)) = &replica.rebuild else {
            return Ok(());
        };
        let complete = other_voters(replica).all(|id| told.contains_key(&id));
        let is_sound = |id: ReplicaId| told.get(&id).is_some_and(|told| told.is_sound);
        if !complete || !replica.raft.is_quorum(&is_sound) {
            return Ok(());
        }
        let shard = replica.descriptor.shard;
        let own = load_mark(&self.engine, shard)?.max(Some(replica.raft.term()));
        let lost_term = told
            .values()
            .map(|told| told.term)
            .filter(|_| !mutant!("rebuild-ignores-the-answers"))
            .max()
            .max(own)
            .unwrap_or_default();
        let batch = self.engine.write(mark_record(shard, Some(lost_term)))?;
        self.replicas[at].rebuild = Some(Rebuild::Marking { batch, lost_term });
        self.want_durable();
        Ok(())
    }

    /// Puts the new beginning of a log whose mark is durable into the turn's write.
    pub(crate) fn start_log_over(&mut self, at: usize, batch: &mut LogBatch, turn: LogToken) {
        let replica = &mut self.replicas[at];
        let Some(Rebuild::Restarting {
            token: token @ None,
            lost_term,
        }) = &mut replica.rebuild
        else {
            return;
        };
        *token = Some(turn);
        let state = fresh_state(*lost_term, replica.applied.index);
        let shard = replica.descriptor.shard;
        let (index, term) = (replica.applied.index, replica.applied.term);
        batch.ops.push(LogOp::Reset { shard, index, term });
        batch.ops.push(LogOp::HardState {
            shard,
            replica: replica.descriptor.replica,
            state,
        });
        batch.sync = true;
    }

    /// The log is durable up to `written`; a replica whose log begins anew with that follows from now on.
    pub(crate) fn log_started_over(&mut self, at: usize, written: LogToken) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        let lost_term = match replica.rebuild {
            Some(Rebuild::Restarting {
                token: Some(token),
                lost_term,
            }) if token <= written => lost_term,
            _ => return Ok(()),
        };
        let (descriptor, applied) = (replica.descriptor.clone(), replica.applied);
        let state = fresh_state(lost_term, applied.index);
        let base = (applied.index, applied.term);
        let raft = self.new_core(&descriptor, applied, state, base, Vec::new())?;
        let is_dirty = self.replicas[at].dirty;
        let rebuild = Some(Rebuild::Following {
            lost_term,
            caught_up: None,
        });
        let sessions = self.replicas[at].sessions;
        self.replicas[at] = Replica::new(raft, descriptor, applied, sessions, state, rebuild);
        self.replicas[at].dirty = is_dirty;
        self.mark(at);
        Ok(())
    }
}

/// A term that the replica has done nothing in.
fn fresh_state(lost_term: Term, applied: Index) -> HardState {
    HardState {
        term: lost_term.next(),
        vote: None,
        commit: applied,
    }
}
