//! Crashes, cuts and churn.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_node::sim::Faults;

use crate::lab::{ELECTION, Lab, MS};
use crate::rows;

fn text(value: impl ToString) -> Bytes {
    Bytes::from(value.to_string())
}

/// The waits of figure 8: short, and one in ten up to half an election timeout.
fn figure_8_wait(lab: &mut Lab) {
    let wait = if lab.below(10) == 0 {
        lab.below(500 * MS)
    } else {
        lab.below(13 * MS)
    };
    lab.sleep(wait);
}

/// A client of: starts commands wherever it can, and remembers those that it saw committed.
struct Client {
    number: u64,
    waiting: Option<(u64, Bytes, usize)>,
    due_us: u64,
    seen: Vec<Bytes>,
}

impl Client {
    fn act(&mut self, lab: &mut Lab) {
        let now = lab.cluster.now_us();
        if now < self.due_us {
            return;
        }
        const PATIENCE: [u64; 5] = [10, 20, 50, 100, 200];
        if let Some((index, command, looks)) = self.waiting.take() {
            if lab.peers_at(index) > 0 {
                if lab.applied(index) == Some(&command) {
                    self.seen.push(command);
                }
            } else if let Some(wait) = PATIENCE.get(looks + 1) {
                self.due_us = now + wait * MS;
                self.waiting = Some((index, command, looks + 1));
            }
            return;
        }
        let command = lab.value();
        let mut taken = None;
        for peer in 0..lab.len() {
            if let Some(started) = lab.start(peer, &command) {
                taken = Some(started.index.0);
            }
        }
        match taken {
            Some(index) => {
                self.due_us = now + PATIENCE[0] * MS;
                self.waiting = Some((index, command, 0));
            }
            None => self.due_us = now + (79 + self.number * 17) * MS,
        }
    }
}

fn churn(lab: &mut Lab) {
    let mut clients: Vec<Client> = (0..3)
        .map(|number| Client {
            number,
            waiting: None,
            due_us: 0,
            seen: Vec::new(),
        })
        .collect();
    for _ in 0..20 {
        if lab.below(1000) < 200 {
            let peer = lab.peer();
            lab.disconnect(peer);
        }
        if lab.below(1000) < 500 {
            let peer = lab.peer();
            if !lab.is_up(peer) {
                lab.restart(peer);
            }
            lab.connect(peer);
        }
        if lab.below(1000) < 200 {
            let peer = lab.peer();
            if lab.is_up(peer) {
                lab.crash(peer);
            }
        }
        for _ in 0..70 {
            clients.iter_mut().for_each(|client| client.act(lab));
            lab.sleep(10 * MS);
        }
    }
    lab.reliable();
    lab.restart_all();
    (0..lab.len()).for_each(|peer| lab.connect(peer));
    lab.sleep(ELECTION);
    let all = lab.len();
    lab.one_more(all);
    let committed: BTreeSet<&Bytes> = lab.commands().collect();
    for client in &clients {
        for command in &client.seen {
            assert!(
                committed.contains(command),
                "a client saw {command:?} committed, and it is gone"
            );
        }
    }
}

rows! { ROWS, lab;

r_14_persist_1: |seed| Lab::new(3, seed) => {
    lab.one(&text(11), 3, true);
    lab.crash_all();
    lab.restart_all();
    lab.one(&text(12), 3, true);
    let leader = lab.one_leader();
    lab.crash(leader);
    lab.restart(leader);
    lab.one(&text(13), 3, true);
    let leader = lab.one_leader();
    lab.disconnect(leader);
    lab.one(&text(14), 2, true);
    lab.crash(leader);
    lab.restart(leader);
    lab.wait_for(4, 3);
    let follower = (lab.one_leader() + 1) % 3;
    lab.disconnect(follower);
    lab.one(&text(15), 2, true);
    lab.crash(follower);
    lab.restart(follower);
    lab.one(&text(16), 3, true);
    let kept: Vec<Bytes> = lab.commands().cloned().collect();
    for command in 11..=16 {
        assert!(kept.contains(&text(command)), "command {command} is lost");
    }
}

r_15_persist_2: |seed| Lab::new(5, seed) => {
    for _ in 0..5 {
        lab.one_more(5);
        let leader = lab.one_leader();
        let at = |n: usize| (leader + n) % 5;
        [1, 2].iter().for_each(|n| lab.disconnect(at(*n)));
        lab.one_more(3);
        [0, 3, 4].iter().for_each(|n| lab.disconnect(at(*n)));
        for n in [1, 2] {
            lab.crash(at(n));
            lab.restart(at(n));
        }
        lab.sleep(ELECTION);
        lab.crash(at(3));
        lab.restart(at(3));
        lab.one_more(3);
        for n in [4, 0] {
            lab.crash(at(n));
            lab.restart(at(n));
        }
    }
    lab.one(&text(1000), 5, true);
}

r_16_persist_3: |seed| Lab::new(3, seed) => {
    lab.one(&text(101), 3, true);
    let leader = lab.one_leader();
    let at = |n: usize| (leader + n) % 3;
    lab.disconnect(at(2));
    lab.one(&text(102), 2, true);
    lab.crash(at(0));
    lab.crash(at(1));
    lab.connect(at(2));
    lab.restart(at(0));
    lab.one(&text(103), 2, true);
    lab.restart(at(1));
    lab.one(&text(104), 3, true);
    assert!(lab.commands().any(|command| *command == text(102)), "what the old pair committed survives");
}

r_17_figure_8: |seed| Lab::new(5, seed) => {
    lab.one_more(1);
    for _ in 0..1000 {
        let mut leader = None;
        for peer in 0..5 {
            let command = lab.value();
            if lab.is_up(peer) && lab.start(peer, &command).is_some() {
                leader = Some(peer);
            }
        }
        figure_8_wait(lab);
        if let Some(leader) = leader {
            lab.crash(leader);
        }
        let up = (0..5).filter(|peer| lab.is_up(*peer)).count();
        let peer = lab.peer();
        if up < 3 && !lab.is_up(peer) {
            lab.restart(peer);
        }
    }
    lab.restart_all();
    lab.one_more(5);
}

r_19_figure_8_unreliable: |seed| Lab::new(5, seed).unreliable() => {
    lab.one_more(1);
    for round in 0..1000 {
        if round == 200 {
            let faults = Faults { long_reordering: true, ..Faults::unreliable() };
            lab.cluster.network().set_faults(faults);
        }
        let mut leader = None;
        for peer in 0..5 {
            let command = lab.value();
            if lab.start(peer, &command).is_some() && lab.is_connected(peer) {
                leader = Some(peer);
            }
        }
        figure_8_wait(lab);
        if let Some(leader) = leader
            && lab.below(1000) < 500
        {
            lab.disconnect(leader);
        }
        let connected = (0..5).filter(|peer| lab.is_connected(*peer)).count();
        let peer = lab.peer();
        if connected < 3 {
            lab.connect(peer);
        }
    }
    (0..5).for_each(|peer| lab.connect(peer));
    lab.one_more(5);
}

r_20_reliable_churn: |seed| Lab::new(5, seed) => {
    churn(lab);
}

r_21_unreliable_churn: |seed| Lab::new(5, seed).unreliable() => {
    churn(lab);
}
}
