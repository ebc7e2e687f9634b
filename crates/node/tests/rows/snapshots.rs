//! Snapshots.

use crate::lab::Lab;
use crate::rows;

/// Bytes of persisted log state, snapshots not counted.
const LOG_BYTES_MAX: u64 = 2000;

/// What happens to the victim of a round.
#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Spared,
    Cut,
    Crashed,
}

fn rounds(lab: &mut Lab, fate: Victim) {
    lab.one_more(3);
    let mut leader = lab.one_leader();
    for round in 0..30 {
        let (mut victim, mut sender) = ((leader + 1) % 3, leader);
        if round % 3 == 1 {
            (victim, sender) = (leader, (leader + 1) % 3);
        }
        match fate {
            Victim::Spared => {}
            Victim::Cut => {
                lab.disconnect(victim);
                lab.one_more(2);
            }
            Victim::Crashed => {
                lab.crash(victim);
                lab.one_more(2);
            }
        }
        for _ in 0..5 + lab.below(10) {
            let command = lab.value();
            lab.start(sender, &command);
        }
        lab.one_more(if fate == Victim::Spared { 3 } else { 2 });
        let bytes = lab.log_bytes_max();
        assert!(
            bytes < LOG_BYTES_MAX,
            "{bytes} bytes of persisted log state in round {round}"
        );
        match fate {
            Victim::Spared => {}
            Victim::Cut => {
                lab.connect(victim);
                lab.one_more(3);
                leader = lab.one_leader();
            }
            Victim::Crashed => {
                lab.restart(victim);
                lab.one_more(3);
                leader = lab.one_leader();
            }
        }
    }
    let status = |peer| lab.cluster.status(Lab::id(peer)).expect("it runs");
    let sent: u64 = (0..3).map(|peer| status(peer).snapshots_sent).sum();
    if fate == Victim::Spared {
        assert_eq!(sent, 0, "a snapshot was sent although nobody lagged");
    } else {
        assert!(lab.installed > 0, "no victim needed a snapshot in 30 rounds");
    }
}

rows! { ROWS, lab;

r_22_snapshot_basic: |seed| Lab::new(3, seed).with_snapshots() => {
    rounds(lab, Victim::Spared);
}

r_23_snapshot_install: |seed| Lab::new(3, seed).with_snapshots() => {
    rounds(lab, Victim::Cut);
}

r_24_snapshot_install_unreliable: |seed| Lab::new(3, seed).with_snapshots().unreliable() => {
    rounds(lab, Victim::Cut);
}

r_25_snapshot_install_crash: |seed| Lab::new(3, seed).with_snapshots() => {
    rounds(lab, Victim::Crashed);
}

r_26_snapshot_install_unreliable_crash: |seed| Lab::new(3, seed).with_snapshots().unreliable() => {
    rounds(lab, Victim::Crashed);
}

r_27_snapshot_all_crash: |seed| Lab::new(3, seed).with_snapshots() => {
    lab.one_more(3);
    for _ in 0..5 {
        for _ in 0..5 + lab.below(10) {
            lab.one_more(3);
        }
        let before = lab.one_more(3);
        lab.crash_all();
        lab.restart_all();
        let after = lab.one_more(3);
        assert!(after > before, "command {after} after {before}");
    }
}

r_28_snapshot_init: |seed| Lab::new(3, seed).with_snapshots() => {
    for _ in 0..11 {
        lab.one_more(3);
    }
    lab.crash_all();
    lab.restart_all();
    lab.one_more(3);
    lab.crash_all();
    lab.restart_all();
    lab.one_more(3);
    assert!(lab.commands().count() >= 13);
}
}
