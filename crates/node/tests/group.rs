//! What a group does beside agreeing, on virtual time: membership, transfer, reads, large snapshots, removal.

use quorate_node::sim::{Cluster, Faults, Options, SplitMix64, Ticket};
use quorate_node::{
    Applied, Change, ChangeError, CommandIndex, Membership, NodeId, OpenError, ReadError, StartError,
    TransferError,
};

const SECOND: u64 = 1_000_000;

fn group(members: u64, seed: u64) -> Cluster {
    Cluster::new(
        Options {
            members,
            ..Options::default()
        },
        seed,
    )
}

/// Lets time pass; what is handed up is taken.
fn run(cluster: &mut Cluster, us: u64) {
    let until = cluster.now_us() + us;
    while let Some(id) = cluster.step(until) {
        cluster.take_applied(id);
    }
}

fn until<T>(cluster: &mut Cluster, what: &str, mut condition: impl FnMut(&mut Cluster) -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = condition(cluster) {
            return found;
        }
        run(cluster, SECOND / 100);
    }
    panic!("not within 20 s: {what}");
}

fn leader(cluster: &mut Cluster) -> NodeId {
    until(cluster, "a leader that was told of its quorum", |cluster| {
        let ids: Vec<_> = cluster.running().collect();
        ids.into_iter().find(|id| {
            cluster.network().is_connected(*id)
                && cluster.status(*id).is_some_and(|status| {
                    status.is_leader() && status.committed_log_index == status.last_log_index
                })
        })
    })
}

fn changed(cluster: &mut Cluster, ticket: Ticket) -> Result<Membership, ChangeError> {
    until(cluster, "an answer to a change", |cluster| {
        cluster.take_change(ticket)
    })
}

fn change(cluster: &mut Cluster, changes: &[Change]) -> Result<Membership, ChangeError> {
    let leader = leader(cluster);
    let ticket = cluster.change(leader, changes);
    changed(cluster, ticket)
}

fn add_voter(id: u64) -> Change {
    Change::AddVoter {
        id: NodeId(id),
        address: format!("member-{id}"),
    }
}

fn add_learner(id: u64) -> Change {
    Change::AddLearner {
        id: NodeId(id),
        address: format!("member-{id}"),
    }
}

fn remove(id: u64) -> Change {
    Change::Remove { id: NodeId(id) }
}

/// Starts a command and waits until these members have it.
fn agree(cluster: &mut Cluster, members: &[u64]) -> CommandIndex {
    let started = until(cluster, "somebody takes the command", |cluster| {
        let leader = leader(cluster);
        cluster.start(leader, b"a command").ok()
    });
    until(cluster, "all have the command", |cluster| {
        let has = |id: &u64| {
            cluster
                .status(NodeId(*id))
                .is_some_and(|status| status.applied >= started.index)
        };
        members.iter().all(has).then_some(())
    });
    started.index
}

fn read(cluster: &mut Cluster, id: NodeId) -> Result<CommandIndex, ReadError> {
    let ticket = cluster.read_barrier(id);
    until(cluster, "an answer to a read", |cluster| {
        cluster.take_read(ticket)
    })
}

#[test]
fn a_group_grows_by_a_learner_that_becomes_a_voter_and_shrinks_again() {
    for seed in 1..=20 {
        let mut cluster = group(3, seed);
        agree(&mut cluster, &[1, 2, 3]);
        cluster.join(NodeId(4));
        let membership = change(&mut cluster, &[add_learner(4)]).unwrap();
        assert_eq!(membership.learners.iter().map(|id| id.0).collect::<Vec<_>>(), [4]);
        agree(&mut cluster, &[1, 2, 3, 4]);
        let membership = change(&mut cluster, &[add_voter(4)]).unwrap();
        assert_eq!((membership.voters.len(), membership.learners.len()), (4, 0));
        assert_eq!(membership.addresses[&NodeId(4)], "member-4");
        // A member that joins knows the ones that were there before it.
        let seen = cluster.status(NodeId(4)).unwrap().membership;
        assert!(seen.addresses.len() == 4, "{seen:?}");

        let gone = leader(&mut cluster);
        let membership = change(&mut cluster, &[remove(gone.0)]).unwrap();
        assert!(!membership.contains(gone) && membership.removed.contains(&gone));
        let left: Vec<u64> = (1..=4).filter(|id| *id != gone.0).collect();
        agree(&mut cluster, &left);
    }
}

#[test]
fn a_member_is_replaced_in_one_step_through_a_joint_configuration() {
    for seed in 1..=20 {
        let mut cluster = group(3, seed);
        agree(&mut cluster, &[1, 2, 3]);
        cluster.join(NodeId(4));
        let membership = change(&mut cluster, &[add_voter(4), remove(2)]).unwrap();
        assert!(
            membership.voters_outgoing.is_empty(),
            "answered only when the joint configuration is left"
        );
        assert_eq!(
            membership.voters.iter().map(|id| id.0).collect::<Vec<_>>(),
            [1, 3, 4]
        );
        agree(&mut cluster, &[1, 3, 4]);
    }
}

#[test]
fn m4_a_removed_member_is_told_takes_no_part_and_its_directory_is_refused() {
    let mut cluster = group(3, 5);
    agree(&mut cluster, &[1, 2, 3]);
    let leads = leader(&mut cluster);
    let gone = NodeId(leads.0 % 3 + 1);
    change(&mut cluster, &[remove(gone.0)]).unwrap();
    until(&mut cluster, "the removed member knows", |cluster| {
        cluster
            .status(gone)
            .is_some_and(|status| status.removed)
            .then_some(())
    });
    assert_eq!(
        cluster.start(gone, b"x"),
        Err(StartError::NotLeader { hint: None })
    );
    run(&mut cluster, SECOND);
    cluster.crash_power_loss(gone);
    match cluster.try_restart(gone) {
        Err(OpenError::Removed(id)) => assert_eq!(id, gone),
        other => panic!("{other:?}"),
    }
    // M3: the id is used up, in every form.
    let again = change(&mut cluster, &[add_voter(gone.0)]);
    assert!(
        matches!(&again, Err(ChangeError::Invalid(why)) if why.contains("never reused")),
        "{again:?}"
    );
}

#[test]
fn m4_a_member_that_was_away_when_it_was_removed_is_told_when_it_comes_back() {
    let mut cluster = group(3, 6);
    agree(&mut cluster, &[1, 2, 3]);
    let gone = NodeId(leader(&mut cluster).0 % 3 + 1);
    cluster.network().disconnect(gone);
    change(&mut cluster, &[remove(gone.0)]).unwrap();
    run(&mut cluster, 5 * SECOND);
    assert!(!cluster.status(gone).unwrap().removed);
    cluster.network().connect(gone);
    until(&mut cluster, "it is told", |cluster| {
        cluster
            .status(gone)
            .is_some_and(|status| status.removed)
            .then_some(())
    });
    assert!(cluster.take_applied(gone).contains(&Applied::Removed) || cluster.status(gone).unwrap().removed);
}

#[test]
fn changes_that_make_no_sense_say_why() {
    let mut cluster = group(3, 7);
    agree(&mut cluster, &[1, 2, 3]);
    let cases: [(&[Change], &str); 5] = [
        (&[], "empty"),
        (&[remove(9)], "9 is not a member"),
        (&[remove(1), remove(2), remove(3)], "no voter"),
        (&[add_voter(4), remove(4)], "twice"),
        (&[add_learner(0)], "must not be 0"),
    ];
    for (changes, why) in cases {
        let error = change(&mut cluster, changes).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let leads = leader(&mut cluster);
    let follower = NodeId(leads.0 % 3 + 1);
    let ticket = cluster.change(follower, &[add_learner(4)]);
    assert_eq!(
        changed(&mut cluster, ticket),
        Err(ChangeError::NotLeader { hint: Some(leads) })
    );
    // One at a time.
    let first = cluster.change(leads, &[add_learner(4)]);
    let second = cluster.change(leads, &[add_learner(5)]);
    assert_eq!(changed(&mut cluster, second), Err(ChangeError::Pending));
    assert!(changed(&mut cluster, first).is_ok());
}

#[test]
fn o1_a_change_at_a_leader_that_is_cut_off_is_not_applied_once_another_led() {
    let mut cluster = group(3, 8);
    agree(&mut cluster, &[1, 2, 3]);
    let old = leader(&mut cluster);
    cluster.network().disconnect(old);
    let ticket = cluster.change(old, &[add_learner(4)]);
    run(&mut cluster, 4 * SECOND);
    assert_eq!(cluster.take_change(ticket), None, "nobody can know yet");
    cluster.network().connect(old);
    assert_eq!(changed(&mut cluster, ticket), Err(ChangeError::NotApplied));
}

#[test]
fn leadership_is_handed_to_a_voter_and_to_nobody_else() {
    for seed in 1..=20 {
        let mut cluster = group(3, seed);
        agree(&mut cluster, &[1, 2, 3]);
        let old = leader(&mut cluster);
        let to = NodeId(old.0 % 3 + 1);
        let ticket = cluster.transfer(old, to);
        let outcome = until(&mut cluster, "the transfer", |cluster| {
            cluster.take_transfer(ticket)
        });
        assert_eq!(outcome, Ok(()));
        assert!(cluster.is_leader(to) && !cluster.is_leader(old));
        agree(&mut cluster, &[1, 2, 3]);

        let ticket = cluster.transfer(old, to);
        let outcome = until(&mut cluster, "the refusal", |cluster| {
            cluster.take_transfer(ticket)
        });
        assert_eq!(outcome, Err(TransferError::NotLeader { hint: Some(to) }));
        let ticket = cluster.transfer(to, NodeId(9));
        let outcome = until(&mut cluster, "the refusal", |cluster| {
            cluster.take_transfer(ticket)
        });
        assert_eq!(outcome, Err(TransferError::NotVoter(NodeId(9))));
        // A target that is away: given up after an election timeout, and commands are taken again.
        cluster.network().disconnect(old);
        let ticket = cluster.transfer(to, old);
        assert!(matches!(
            cluster.start(to, b"x"),
            Err(StartError::TransferInProgress { .. })
        ));
        let outcome = until(&mut cluster, "the failure", |cluster| {
            cluster.take_transfer(ticket)
        });
        assert_eq!(outcome, Err(TransferError::Failed(old)));
        assert!(cluster.start(to, b"x").is_ok());
    }
}

/// R1, R2: a read sees what was acknowledged before it, wherever it is asked, whatever leader there is.
#[test]
fn r1_a_read_barrier_is_never_behind_what_was_applied_before_it_was_asked() {
    for seed in 1..=30 {
        let mut cluster = group(3, seed);
        cluster.join(NodeId(4));
        agree(&mut cluster, &[1, 2, 3]);
        change(&mut cluster, &[add_learner(4)]).unwrap();
        let mut rng = SplitMix64::new(seed);
        if seed % 2 == 0 {
            cluster.network().set_faults(Faults {
                repeat_percent: 10,
                ..Faults::unreliable()
            });
        }
        for _ in 0..30 {
            let leads = leader(&mut cluster);
            if rng.below(4) == 0 {
                // A leader of the past must not answer.
                cluster.network().disconnect(leads);
                let stale = cluster.read_barrier(leads);
                let others: Vec<u64> = (1..=3).filter(|id| NodeId(*id) != leads).collect();
                let written = agree(&mut cluster, &others);
                if let Some(Ok(index)) = cluster.take_read(stale) {
                    assert!(index < written, "asked before, so anything before is right");
                }
                let stale = cluster.read_barrier(leads);
                run(&mut cluster, 2 * SECOND);
                assert_eq!(
                    cluster.take_read(stale),
                    None,
                    "a leader without a quorum answered a read"
                );
                cluster.network().connect(leads);
                let index = until(&mut cluster, "the read, after the heal", |cluster| {
                    cluster.take_read(stale)
                });
                assert!(index.is_ok_and(|index| index >= written));
            } else {
                let written = agree(&mut cluster, &[leads.0]);
                let asked = NodeId(rng.below(4) + 1);
                let barrier = read(&mut cluster, asked).unwrap();
                assert!(
                    barrier >= written,
                    "member {asked}: barrier {barrier}, applied before {written}"
                );
                assert!(cluster.status(asked).unwrap().applied >= barrier);
            }
        }
    }
}

#[test]
fn a_read_without_a_leader_is_given_up_in_time() {
    let mut cluster = group(3, 9);
    agree(&mut cluster, &[1, 2, 3]);
    for id in [1, 2] {
        cluster.crash_kill(NodeId(id));
    }
    let answer = read(&mut cluster, NodeId(3));
    assert!(matches!(answer, Err(ReadError::Timeout { .. })), "{answer:?}");
}

#[test]
fn a_large_snapshot_arrives_in_chunks_over_a_bad_network() {
    for seed in 1..=20 {
        let mut cluster = group(3, seed);
        agree(&mut cluster, &[1, 2, 3]);
        let behind = NodeId(leader(&mut cluster).0 % 3 + 1);
        cluster.network().disconnect(behind);
        let mut rng = SplitMix64::new(seed);
        let state: Vec<u8> = (0..300_000).map(|_| rng.next_u64() as u8).collect();
        let others: Vec<u64> = (1..=3).filter(|id| NodeId(*id) != behind).collect();
        let mut index = CommandIndex(0);
        for _ in 0..5 {
            index = agree(&mut cluster, &others);
        }
        for id in &others {
            assert_eq!(cluster.snapshot(NodeId(*id), index, state.clone()), Ok(()));
        }
        run(&mut cluster, SECOND);
        cluster.network().set_faults(Faults {
            repeat_percent: 20,
            ..Faults::unreliable()
        });
        cluster.network().connect(behind);
        let end = cluster.now_us() + 60 * SECOND;
        let received = 'received: {
            while let Some(id) = cluster.step(end) {
                for thing in cluster.take_applied(id) {
                    if let (true, Applied::Snapshot { index, data, .. }) = (id == behind, thing) {
                        break 'received (index, data);
                    }
                }
            }
            panic!("seed {seed}: no snapshot within a minute");
        };
        assert_eq!(received.0, index);
        assert!(received.1 == state, "the snapshot arrived changed");
        cluster.network().set_faults(Faults::none());
        agree(&mut cluster, &[1, 2, 3]);
    }
}

/// An application that does not take: the leader hands up a bounded amount and then refuses commands.
#[test]
fn an_application_that_does_not_take_is_back_pressure_and_no_unbounded_memory() {
    let mut options = Options::default();
    options.config.max_untaken_bytes = 4 << 10;
    options.config.max_uncommitted_bytes = 16 << 10;
    let mut cluster = Cluster::new(options, 3);
    let leads = leader(&mut cluster);
    let mut refused = None;
    for _ in 0..100 {
        match cluster.start(leads, &[7; 1000]) {
            Ok(_) => cluster.run_for(SECOND / 20),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(
        refused,
        Some(StartError::TooManyUncommittedBytes { max: 16 << 10 })
    );
    let handed: usize = cluster
        .take_applied(leads)
        .iter()
        .map(|thing| {
            if let Applied::Command { data, .. } = thing {
                data.len()
            } else {
                0
            }
        })
        .sum();
    assert!(
        handed <= 8 << 10,
        "{handed} bytes handed up to an application that takes nothing"
    );
    run(&mut cluster, SECOND);
    assert!(
        cluster.start(leads, &[7; 1000]).is_ok(),
        "it goes on once the application takes"
    );
}

#[test]
fn commands_of_any_length_within_bounds_come_back_as_they_were() {
    let mut options = Options::default();
    options.config.max_command_bytes = 100_000;
    let mut cluster = Cluster::new(options, 4);
    let leads = leader(&mut cluster);
    let lengths = [0usize, 1, 1000, 40_000, 100_000];
    for length in lengths {
        assert!(cluster.start(leads, &vec![1; length]).is_ok());
    }
    let error = cluster.start(leads, &vec![1; 100_001]).unwrap_err();
    assert_eq!(
        error,
        StartError::TooLong {
            bytes: 100_001,
            max: 100_000
        }
    );
    let mut seen = Vec::new();
    let end = cluster.now_us() + SECOND;
    while let Some(id) = cluster.step(end) {
        for thing in cluster.take_applied(id) {
            if let (true, Applied::Command { data, .. }) = (id == leads, thing) {
                seen.push(data.len());
            }
        }
    }
    assert_eq!(seen, lengths);
}

#[test]
fn a_snapshot_of_commands_that_were_not_handed_up_is_refused() {
    let mut cluster = group(1, 1);
    let index = agree(&mut cluster, &[1]);
    let ahead = CommandIndex(index.0 + 1);
    let error = cluster.snapshot(NodeId(1), ahead, vec![]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "snapshot at command 2, but only 1 were handed to the application"
    );
    assert_eq!(
        cluster.snapshot(NodeId(1), CommandIndex(0), vec![]),
        Ok(()),
        "nothing to cover, nothing to do"
    );
}

/// P1: what any member handed up is on the disks of a majority. With slow syncs and power that fails everywhere at
/// once, an acknowledgement that ran ahead of its sync shows.
#[test]
fn p1_what_was_handed_up_survives_power_loss_of_all_at_any_instant() {
    for seed in 1..=10 {
        let options = Options {
            sync_us: (5_000, 60_000),
            ..Options::default()
        };
        let mut cluster = Cluster::new(options, seed);
        let mut rng = SplitMix64::new(seed);
        let mut known: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut next = 0u64;
        for _ in 0..10 {
            let end = cluster.now_us() + 3 * SECOND + rng.below(SECOND / 2);
            while cluster.now_us() < end {
                for id in (1..=3).map(NodeId) {
                    next += 1;
                    // Refused by all but the leader, which is fine.
                    let _ = cluster.start(id, &next.to_le_bytes());
                }
                let until = (cluster.now_us() + 1_000 + rng.below(20_000)).min(end);
                while let Some(id) = cluster.step(until) {
                    for thing in cluster.take_applied(id) {
                        if let Applied::Command { index, term, data } = thing {
                            let at = (index.0 - 1) as usize;
                            match known.get(at) {
                                Some(seen) => assert_eq!(
                                    *seen,
                                    (term.0, data.to_vec()),
                                    "seed {seed}: command {index} of member {id} is not what was handed up before"
                                ),
                                None => known.push((term.0, data.to_vec())),
                            }
                        }
                    }
                }
            }
            (1..=3).for_each(|id| cluster.crash_power_loss(NodeId(id)));
            (1..=3).for_each(|id| cluster.restart(NodeId(id)));
        }
        assert!(known.len() > 10, "seed {seed}: only {} commands", known.len());
        let all = agree(&mut cluster, &[1, 2, 3]);
        assert!(
            all.0 as usize > known.len(),
            "seed {seed}: {all} commands after {} were handed up",
            known.len()
        );
    }
}

/// O1 with nobody else writing: the new leader's own first entry tells the old one that its commands are lost.
#[test]
fn o1_a_new_term_alone_decides_what_an_earlier_leader_started() {
    let mut cluster = group(3, 11);
    let old = leader(&mut cluster);
    cluster.network().disconnect(old);
    let started = cluster.start(old, b"lost").unwrap();
    run(&mut cluster, 4 * SECOND);
    cluster.network().connect(old);
    let end = cluster.now_us() + SECOND;
    let mut told = None;
    while let Some(id) = cluster.step(end) {
        for thing in cluster.take_applied(id) {
            if let (true, Applied::NewTerm { term, index }) = (id == old, thing) {
                told = Some((term, index));
            }
        }
    }
    let (term, index) = told.expect("within a second of the heal");
    assert!(
        term > started.term && index < started.index,
        "{term} {index} after {started:?}"
    );
}
