//! Agreement while nobody crashes.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::lab::{ELECTION, Lab, MS};
use crate::rows;

fn text(value: impl ToString) -> Bytes {
    Bytes::from(value.to_string())
}

rows! { ROWS, lab;

r_04_basic_agree: |seed| Lab::new(3, seed) => {
    for index in 1..=3 {
        assert_eq!(lab.peers_at(index), 0, "command {index} is committed before it is started");
        assert_eq!(lab.one(&text(index * 100), 3, false), index);
    }
}

r_05_rpc_bytes: |seed| Lab::new(3, seed) => {
    lab.one(&text(99), 3, false);
    let before = lab.cluster.network().counters().bytes;
    let mut payload = 0;
    for index in 2..12 {
        let command = lab.long_value(5000);
        payload += command.len() as u64;
        assert_eq!(lab.one(&command, 3, false), index);
    }
    let sent = lab.cluster.network().counters().bytes - before;
    assert!(sent <= 3 * payload + 50_000, "{sent} bytes for {payload} bytes of commands");
    // Each command goes to each of two peers once, and not a second time.
    assert!((2 * payload..3 * payload).contains(&sent), "{sent} bytes for {payload} bytes of commands");
}

r_06_follower_failure: |seed| Lab::new(3, seed) => {
    lab.one(&text(101), 3, false);
    let leader = lab.one_leader();
    lab.disconnect((leader + 1) % 3);
    lab.one(&text(102), 2, false);
    lab.sleep(ELECTION);
    lab.one(&text(103), 2, false);
    let leader = lab.one_leader();
    lab.disconnect((leader + 1) % 3);
    lab.disconnect((leader + 2) % 3);
    let started = lab.start(leader, &text(104)).expect("the leader takes it");
    assert_eq!(started.index.0, 4);
    lab.sleep(2 * ELECTION);
    assert_eq!(lab.peers_at(4), 0, "committed without a quorum");
}

r_07_leader_failure: |seed| Lab::new(3, seed) => {
    lab.one(&text(101), 3, false);
    let first = lab.one_leader();
    lab.disconnect(first);
    lab.one(&text(102), 2, false);
    lab.sleep(ELECTION);
    lab.one(&text(103), 2, false);
    let second = lab.one_leader();
    lab.disconnect(second);
    let taken = (0..3).filter(|peer| lab.start(*peer, &text(104)).is_some()).count();
    assert!(taken > 0, "somebody takes it");
    lab.sleep(2 * ELECTION);
    assert_eq!(lab.peers_at(4), 0, "committed without a quorum");
}

r_08_fail_agree: |seed| Lab::new(3, seed) => {
    lab.one(&text(101), 3, false);
    let leader = lab.one_leader();
    let cut = (leader + 1) % 3;
    lab.disconnect(cut);
    lab.one(&text(102), 2, false);
    lab.one(&text(103), 2, false);
    lab.sleep(ELECTION);
    lab.one(&text(104), 2, false);
    lab.one(&text(105), 2, false);
    lab.connect(cut);
    lab.one(&text(106), 3, true);
    lab.sleep(ELECTION);
    lab.one(&text(107), 3, true);
    assert_eq!(lab.applied(5), Some(&text(105)));
}

r_09_fail_no_agree: |seed| Lab::new(5, seed) => {
    lab.one(&text(10), 5, false);
    let leader = lab.one_leader();
    let cut = [1, 2, 3].map(|n| (leader + n) % 5);
    cut.iter().for_each(|peer| lab.disconnect(*peer));
    let started = lab.start(leader, &text(20)).expect("the leader takes it");
    assert_eq!(started.index.0, 2);
    lab.sleep(2 * ELECTION);
    assert_eq!(lab.peers_at(2), 0, "committed without a quorum");
    cut.iter().for_each(|peer| lab.connect(*peer));
    let leader = lab.one_leader();
    let started = lab.start(leader, &text(30)).expect("the leader takes it");
    assert!((2..=3).contains(&started.index.0), "{}", started.index);
    lab.one(&text(1000), 5, true);
}

r_10_concurrent_starts: |seed| Lab::new(3, seed) => {
    let agreed = (0..5).any(|attempt| {
        if attempt > 0 {
            lab.sleep(3000 * MS);
        }
        let leader = lab.one_leader();
        let Some(first) = lab.start(leader, &text("first")) else { return false };
        let commands: Vec<Bytes> = (0..5).map(|n| text(format!("{attempt}-{n}"))).collect();
        let started: Vec<_> = commands.iter().filter_map(|command| lab.start(leader, command)).collect();
        if started.len() < 5 || started.iter().any(|started| started.term != first.term) {
            return false;
        }
        let indexes: BTreeSet<u64> = started.iter().map(|started| started.index.0).collect();
        assert_eq!(indexes.len(), 5, "two commands were promised the same position");
        let until = lab.cluster.now_us() + 10_000 * MS;
        while indexes.iter().any(|index| lab.peers_at(*index) < 3) && lab.cluster.now_us() < until {
            lab.sleep(20 * MS);
        }
        if lab.term() != first.term {
            return false;
        }
        for (command, started) in commands.iter().zip(&started) {
            assert_eq!(lab.applied(started.index.0), Some(command), "all five are committed where it was said");
        }
        true
    });
    assert!(agreed, "the term moved in each of five tries");
}

r_11_rejoin: |seed| Lab::new(3, seed) => {
    lab.one(&text(101), 3, true);
    let first = lab.one_leader();
    lab.disconnect(first);
    for command in ["alone 102", "alone 103", "alone 104"] {
        assert!(lab.start(first, &text(command)).is_some());
    }
    lab.one(&text(103), 2, true);
    let second = lab.one_leader();
    lab.disconnect(second);
    lab.connect(first);
    lab.one(&text(104), 2, true);
    lab.connect(second);
    lab.one(&text(105), 3, true);
    assert!(!lab.commands().any(|command| command.starts_with(b"alone")), "the three entries vanish");
}

r_12_backup: |seed| Lab::new(5, seed) => {
    lab.one_more(5);
    let first = lab.one_leader();
    let at = |n: usize| (first + n) % 5;
    [2, 3, 4].iter().for_each(|n| lab.disconnect(at(*n)));
    for n in 0..50 {
        assert!(lab.start(first, &text(format!("lost {n}"))).is_some());
    }
    lab.sleep(ELECTION / 2);
    [0, 1].iter().for_each(|n| lab.disconnect(at(*n)));
    [2, 3, 4].iter().for_each(|n| lab.connect(at(*n)));
    for _ in 0..50 {
        lab.one_more(3);
    }
    let second = lab.one_leader();
    let other = if at(2) == second { (second + 1) % 5 } else { at(2) };
    let other = if [at(2), at(3), at(4)].contains(&other) { other } else { at(4) };
    lab.disconnect(other);
    for n in 0..50 {
        assert!(lab.start(second, &text(format!("lost too {n}"))).is_some());
    }
    lab.sleep(ELECTION / 2);
    (0..5).for_each(|peer| lab.disconnect(peer));
    [at(0), at(1), other].iter().for_each(|peer| lab.connect(*peer));
    for _ in 0..50 {
        lab.one_more(3);
    }
    (0..5).for_each(|peer| lab.connect(peer));
    lab.one_more(5);
}

r_13_count: |seed| Lab::new(3, seed) => {
    lab.one_leader();
    let calls = |lab: &mut Lab| lab.cluster.network().counters().calls;
    let election = calls(lab);
    assert!((1..=30).contains(&election), "{election} calls to elect a leader");
    let counted = (0..5).any(|attempt| {
        if attempt > 0 {
            lab.sleep(3000 * MS);
        }
        let leader = lab.one_leader();
        let before = calls(lab);
        let Some(first) = lab.start(leader, &text("first")) else { return false };
        let mut last = first;
        for n in 1..12 {
            let command = lab.value();
            let Some(started) = lab.start(leader, &command) else { return false };
            if started.term != first.term {
                return false;
            }
            assert_eq!(started.index.0, first.index.0 + n);
            last = started;
        }
        lab.wait_for(last.index.0, 3);
        if lab.term() != first.term {
            return false;
        }
        let used = calls(lab) - before;
        assert!(used <= (10 + 1 + 3) * 3, "{used} calls for 10 entries");
        true
    });
    assert!(counted, "the term moved in each of five tries");
    let before = calls(lab);
    lab.sleep(ELECTION);
    let idle = calls(lab) - before;
    assert!(idle <= 60, "{idle} calls in a second without work");
}

r_18_unreliable_agree: |seed| Lab::new(5, seed).unreliable() => {
    let mut all = Vec::new();
    for _ in 0..49 {
        let commands: Vec<_> = (0..5).map(|_| (lab.value(), 1, true)).collect();
        all.extend(commands.iter().map(|(command, ..)| command.clone()));
        lab.all_of(commands);
    }
    lab.reliable();
    lab.one_more(5);
    let committed: BTreeSet<&Bytes> = lab.commands().collect();
    assert!(all.iter().all(|command| committed.contains(command)));
}
}
