//! Whole clusters under random faults: messages are lost, doubled and reordered, members crash and lose what
//! they had not synced, logs are compacted, members come and go. One seed decides all of it. The safety
//! properties of the Raft paper (figure 3) are checked all the time, progress after the faults end.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_raft::{
    AppendWork, ApplyWork, ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState,
    Config, Entry, Index, MemStorage, Message, MessageBody, Payload, RawNode, ReadContext, ReadState,
    ReplicaId, Role, Snapshot, SnapshotMeta, Storage as _, Term,
};

use crate::net::{ELECTION_TICKS, Node, config, voters};
use crate::rng::{Rng, for_each_seed};

const MEMBERS: u64 = 5;
/// The group starts from a snapshot here, so that whoever joins needs one.
const START: u64 = 2;

#[test]
fn a_cluster_is_safe_under_faults_and_lives_after_them() {
    for_each_seed(60, |seed| {
        let mut cluster = Cluster::new(seed);
        for _ in 0..4000 {
            cluster.fault_step();
        }
        cluster.heal();
    });
}

struct Member {
    config: Config,
    node: Option<Node>,
    /// What survives a crash. Moved into the node while it runs.
    disk: Option<MemStorage>,
    /// The commit index that the last sync covered.
    synced_commit: Index,
    applied: Index,
    append_work: VecDeque<AppendWork>,
    apply_work: VecDeque<ApplyWork>,
}

struct Cluster {
    rng: Rng,
    members: BTreeMap<u64, Member>,
    network: Vec<Message>,
    /// State machine safety: what any member applied at an index is what all apply there. With the term that
    /// the first one to apply it was in.
    history: BTreeMap<Index, (Entry, Term)>,
    /// Election safety: the leader of each term.
    leaders: BTreeMap<Term, ReplicaId>,
    /// Reads under way: the highest commit index of any member when each was asked for.
    reads: BTreeMap<ReadContext, Index>,
    reads_done: u64,
    next_read: u128,
    /// A leader applied its own removal or demotion. If nobody heard from it that this was committed, those
    /// who may vote can be left with shorter logs than those who no longer may, and nobody can be elected: the
    /// reference shares this. Hence leadership is to be transferred first (M1); such runs are checked for
    /// safety only.
    leader_removed: bool,
    /// Whether this run removes leaders on purpose.
    removes_leaders: bool,
    /// Percent of messages lost.
    loss: u64,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let mut rng = Rng::new(seed);
        let (pre_vote, check_quorum) = (rng.chance(50), rng.chance(50));
        let removes_leaders = rng.chance(25);
        let (asynchronous, gather) = (rng.chance(50), rng.chance(50));
        let window = 1 + rng.below(4) as usize;
        let mut members = BTreeMap::new();
        for id in 1..=MEMBERS {
            let mut settings = config(id);
            settings.pre_vote = pre_vote;
            settings.check_quorum = check_quorum;
            settings.async_storage_writes = asynchronous;
            settings.gather_appends = gather;
            settings.max_inflight_messages = window;
            settings.max_bytes_per_message = rng.below(64);
            settings.max_committed_bytes_per_ready = rng.below(64);
            settings.step_down_on_removal = rng.chance(50);
            settings.seed = rng.below(1 << 40);
            let mut disk = MemStorage::new();
            let founder = id <= 3;
            if founder {
                let meta = SnapshotMeta {
                    index: Index(START),
                    term: Term(1),
                    conf_state: voters(1..=3),
                };
                disk.apply_snapshot(Snapshot {
                    meta,
                    data: Bytes::new(),
                })
                .expect("first one");
            }
            let member = Member {
                config: settings,
                node: None,
                disk: Some(disk),
                synced_commit: Index(0),
                applied: Index(if founder { START } else { 0 }),
                append_work: VecDeque::new(),
                apply_work: VecDeque::new(),
            };
            members.insert(id, member);
        }
        let mut cluster = Cluster {
            rng,
            members,
            network: Vec::new(),
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_done: 0,
            next_read: 0,
            leader_removed: false,
            removes_leaders,
            loss: 10,
        };
        (1..=MEMBERS).for_each(|id| cluster.restart(id));
        cluster
    }

    fn restart(&mut self, id: u64) {
        let member = self.members.get_mut(&id).expect("known");
        if member.node.is_none() {
            let disk = member.disk.take().expect("a stopped member has a disk");
            let settings = Config {
                applied: member.applied,
                ..member.config.clone()
            };
            member.node = Some(RawNode::new(settings, disk).expect("a crash leaves valid storage"));
        }
    }

    fn crash(&mut self, id: u64) {
        let lose = self.rng.chance(50);
        let member = self.members.get_mut(&id).expect("known");
        let Some(mut node) = member.node.take() else {
            return;
        };
        member.append_work.clear();
        member.apply_work.clear();
        let disk = node.storage_mut();
        if lose {
            // The commit index alone is not synced.
            let mut hard_state = disk.hard_state();
            hard_state.commit = hard_state.commit.min(member.synced_commit);
            disk.set_hard_state(hard_state);
        }
        member.disk = Some(disk.clone());
    }

    fn fault_step(&mut self) {
        let id = 1 + self.rng.below(MEMBERS);
        match self.rng.below(1000) {
            0..450 => self.deliver(),
            450..600 => self.tick(id),
            600..900 => self.work(id),
            900..940 => self.propose(id),
            940..960 => self.read(id),
            960..970 => self.change_members(id),
            970..980 => self.compact(id),
            980..985 => self.transfer(id),
            985..990 => self.crash(id),
            _ => self.restart(id),
        }
        self.check_leaders();
    }

    fn running(&mut self, id: u64) -> Option<&mut Node> {
        self.members.get_mut(&id).and_then(|member| member.node.as_mut())
    }

    /// Delivers any message in flight; some are lost, some stay to arrive again.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.below(self.network.len() as u64) as usize;
        let message = if self.rng.chance(self.loss / 2) {
            self.network[at].clone()
        } else {
            self.network.swap_remove(at)
        };
        if self.rng.chance(self.loss) {
            self.report_snapshot(&message, false);
        } else {
            self.receive(message);
        }
    }

    /// The transport tells the sender what became of a snapshot; nothing else would end the waiting for it.
    fn report_snapshot(&mut self, message: &Message, ok: bool) {
        if matches!(message.body, MessageBody::Snapshot(_))
            && let Some(sender) = self.running(message.from.0)
        {
            sender.report_snapshot(message.to, ok);
        }
    }

    fn receive(&mut self, message: Message) {
        let shown = format!("{message:?}");
        let up = self.running(message.to.0).is_some();
        self.report_snapshot(&message, up);
        if let Some(node) = self.running(message.to.0) {
            match node.step(message) {
                Ok(()) | Err(quorate_raft::StepError::Propose(_)) => {}
                Err(error) => panic!("{error}, by {shown}"),
            }
        }
    }

    fn tick(&mut self, id: u64) {
        if let Some(node) = self.running(id) {
            node.tick().expect("tick");
        }
    }

    fn propose(&mut self, id: u64) {
        let data = Bytes::from(vec![b'x'; self.rng.below(30) as usize]);
        if let Some(node) = self.running(id) {
            let _ = node.propose(data);
        }
    }

    fn transfer(&mut self, id: u64) {
        let target = ReplicaId(1 + self.rng.below(MEMBERS));
        if let Some(node) = self.running(id) {
            node.transfer_leader(target).expect("transfer");
        }
    }

    fn read(&mut self, id: u64) {
        let commits = self
            .members
            .values()
            .filter_map(|member| member.node.as_ref().map(Node::commit));
        let newest = commits.max().unwrap_or_default();
        let context = ReadContext(self.next_read);
        if let Some(node) = self.running(id) {
            node.read_index(context).expect("read");
            self.reads.insert(context, newest);
            self.next_read += 1;
        }
    }

    /// A read must see everything that was committed when it was asked for.
    fn check_read(&mut self, state: ReadState) {
        if let Some(newest) = self.reads.remove(&state.context) {
            assert!(
                state.index >= newest,
                "read at {} although {newest} was committed before",
                state.index
            );
            self.reads_done += 1;
        }
    }

    fn change_members(&mut self, id: u64) {
        let removes_leaders = self.removes_leaders;
        let ids = [1 + self.rng.below(MEMBERS), 1 + self.rng.below(MEMBERS)];
        let kinds = [self.rng.below(3), self.rng.below(3)];
        let transition = [
            ConfChangeTransition::Implicit,
            ConfChangeTransition::Explicit,
            ConfChangeTransition::Auto,
        ][self.rng.below(3) as usize];
        let Some(node) = self.running(id).filter(|node| node.role() == Role::Leader) else {
            return;
        };
        let state = node.conf_state();
        let mut change = ConfChange::default();
        if state.voters_outgoing.is_empty() {
            let count = if transition == ConfChangeTransition::Auto {
                1
            } else {
                2
            };
            for (target, kind) in ids.into_iter().zip(kinds).take(count) {
                let kind = match kind {
                    0 | 1 if state.voters.len() <= 2 => ConfChangeKind::AddVoter,
                    0 | 1 if target == id && !removes_leaders => ConfChangeKind::AddVoter,
                    0 => ConfChangeKind::Remove,
                    1 => ConfChangeKind::AddLearner,
                    _ => ConfChangeKind::AddVoter,
                };
                change.changes.push(ConfChangeSingle {
                    kind,
                    replica: ReplicaId(target),
                });
            }
            change.transition = transition;
        }
        let _ = node.propose_conf_change(change);
    }

    fn compact(&mut self, id: u64) {
        let member = self.members.get_mut(&id).expect("known");
        let Some(node) = member.node.as_mut() else { return };
        // The core may still ask for what is not reported applied. Its own configuration may be ahead of the
        // state machine's: that of a snapshot which is not installed yet.
        let index = node.applied().min(member.applied);
        if index < member.applied {
            return; // the configuration is that of a later index
        }
        let storage = node.storage_mut();
        let (_, state) = storage.initial_state().expect("memory");
        if storage.create_snapshot(index, state, Bytes::new()).is_ok() {
            storage
                .compact(index)
                .expect("the snapshot is newer than the last compaction");
        }
    }

    /// Takes a Ready, or does a piece of queued storage work.
    fn work(&mut self, id: u64) {
        let choice = self.rng.below(3);
        let member = self.members.get_mut(&id).expect("known");
        let Some(node) = member.node.as_mut() else { return };
        if choice == 0
            && let Some(work) = member.append_work.pop_front()
        {
            self.append(id, work);
        } else if choice == 1
            && let Some(work) = member.apply_work.pop_front()
        {
            let last = work.entries.last().map(|entry| entry.index);
            self.apply(id, work);
            if let (Some(last), Some(node)) = (last, self.running(id)) {
                node.apply_done(last).expect("applied");
            }
        } else if node.has_ready() {
            let ready = node.ready().expect("memory");
            let asynchronous = member.config.async_storage_writes;
            self.network.extend(ready.send_now);
            if asynchronous {
                member.append_work.extend(ready.append);
                member.apply_work.extend(ready.apply);
            } else {
                ready.append.into_iter().for_each(|work| self.append(id, work));
                ready.apply.into_iter().for_each(|work| self.apply(id, work));
                self.running(id).expect("runs").advance().expect("advance");
            }
            ready
                .read_states
                .into_iter()
                .for_each(|state| self.check_read(state));
        }
    }

    fn append(&mut self, id: u64, work: AppendWork) {
        let member = self.members.get_mut(&id).expect("known");
        let node = member.node.as_mut().expect("runs");
        let storage = node.storage_mut();
        if let Some(hard_state) = work.hard_state {
            storage.set_hard_state(hard_state);
        }
        if let Some(snapshot) = work.snapshot {
            assert!(
                snapshot.meta.index > member.applied,
                "a snapshot goes back from {}",
                member.applied
            );
            member.applied = snapshot.meta.index;
            storage
                .apply_snapshot(*snapshot)
                .expect("newer than the stored one");
        }
        storage.append(&work.entries).expect("no gap");
        if work.must_sync {
            member.synced_commit = storage.hard_state().commit;
        }
        for response in work.responses {
            if response.to == node.id() {
                node.step(response).expect("own message");
            } else {
                self.network.push(response);
            }
        }
        if let Some(done) = work.done {
            node.append_done(done).expect("done");
        }
    }

    fn apply(&mut self, id: u64, work: ApplyWork) {
        let member = self.members.get_mut(&id).expect("known");
        let node = member.node.as_mut().expect("runs");
        for entry in work.entries {
            assert_eq!(
                entry.index,
                member.applied.next(),
                "member {id} applies in order, without gaps"
            );
            assert_eq!(
                node.storage().term(entry.index),
                Ok(entry.term),
                "what is applied is stored"
            );
            let term = node.term();
            let (seen, _) = self
                .history
                .entry(entry.index)
                .or_insert_with(|| (entry.clone(), term));
            assert_eq!(
                *seen, entry,
                "member {id} applies something else at {}",
                entry.index
            );
            if let Payload::ConfChange(change) = &entry.payload {
                let led = node.role() == Role::Leader;
                let state = node.apply_conf_change(change).expect("fits");
                self.leader_removed |= led && !state.voters.contains(&ReplicaId(id));
                node.storage_mut().set_conf_state(state);
            }
            member.applied = entry.index;
        }
    }

    /// Election safety, and leader completeness: a leader holds everything that anybody applied.
    fn check_leaders(&mut self) {
        for (id, member) in &self.members {
            let Some(node) = member.node.as_ref().filter(|node| node.role() == Role::Leader) else {
                continue;
            };
            let known = *self.leaders.entry(node.term()).or_insert(ReplicaId(*id));
            assert_eq!(known, ReplicaId(*id), "two leaders in term {}", node.term());
            // Committed in this term or before, as the member that applied it first had heard of no later one.
            if let Some((index, (entry, known_in))) = self.history.last_key_value()
                && node.term() >= *known_in
            {
                let held = node.term_at(*index);
                assert_eq!(
                    held,
                    Ok(entry.term),
                    "leader {id} of {} lacks {index}",
                    node.term()
                );
            }
        }
    }

    /// Faults end; whoever is a member must get to the same, longer log.
    fn heal(&mut self) {
        self.loss = 0;
        (1..=MEMBERS).for_each(|id| self.restart(id));
        self.quiet_rounds(60);
        // Removed members that have not heard of it would campaign for ever.
        let state = self.newest_configuration();
        let keeps = |state: &ConfState, id: u64| {
            let lists = [
                &state.voters,
                &state.voters_outgoing,
                &state.learners,
                &state.learners_next,
            ];
            lists.iter().any(|list| list.contains(&ReplicaId(id)))
        };
        for id in (1..=MEMBERS).filter(|id| !keeps(&state, *id)) {
            self.crash(id);
        }
        let before = self.history.len();
        for _ in 0..20 {
            (1..=MEMBERS).for_each(|id| self.propose(id));
            (1..=MEMBERS).for_each(|id| self.read(id));
            self.quiet_rounds(30);
        }
        if self.leader_removed {
            return;
        }
        let progressed = self.history.len() > before + 10;
        assert!(
            progressed,
            "no progress: {before} entries, then {}\n{}",
            self.history.len(),
            self.describe()
        );
        assert!(self.reads_done > 0, "no read was answered");
        // A joint configuration may have been left meanwhile.
        let state = self.newest_configuration();
        let ends: Vec<(u64, Index)> = self
            .members
            .iter()
            .filter(|(id, member)| keeps(&state, **id) && member.node.is_some())
            .map(|(id, member)| (*id, member.applied))
            .collect();
        let together = ends.windows(2).all(|pair| pair[0].1 == pair[1].1);
        assert!(together, "members end apart\n{}", self.describe());
    }

    fn newest_configuration(&self) -> ConfState {
        let running = self.members.values().filter(|member| member.node.is_some());
        let newest = running.max_by_key(|member| member.applied).expect("one runs");
        newest.node.as_ref().expect("runs").conf_state()
    }

    fn describe(&self) -> String {
        let lines = self.members.iter().map(|(id, member)| match &member.node {
            None => format!("{id}: down, applied {}\n", member.applied),
            Some(node) => {
                let progress: Vec<_> = (1..=MEMBERS).map(|peer| node.progress(ReplicaId(peer))).collect();
                format!(
                    "{id}: {:?} term {} leader {:?} commit {} applied {} last {} {:?} progress {progress:?}\n",
                    node.role(),
                    node.term(),
                    node.leader(),
                    node.commit(),
                    member.applied,
                    node.last_index(),
                    node.conf_state()
                )
            }
        });
        lines.collect()
    }

    /// Ticks, work and deliveries without faults.
    fn quiet_rounds(&mut self, election_timeouts: u32) {
        for _ in 0..election_timeouts * ELECTION_TICKS / 5 {
            (1..=MEMBERS).for_each(|id| self.tick(id));
            // A member that was added after the newest snapshot is not in it and cannot take it.
            (1..=MEMBERS).for_each(|id| self.compact(id));
            for _ in 0..30 {
                for message in std::mem::take(&mut self.network) {
                    self.receive(message);
                }
                (1..=MEMBERS).for_each(|id| (0..6).for_each(|_| self.work(id)));
            }
            self.check_leaders();
        }
    }
}
