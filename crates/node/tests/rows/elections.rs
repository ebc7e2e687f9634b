//! Elections.

use crate::lab::{ELECTION, Lab, MS};
use crate::rows;

rows! { ROWS, lab;

r_01_initial_election: |seed| Lab::new(3, seed) => {
    lab.one_leader();
    lab.sleep(50 * MS);
    let term = lab.term();
    assert!(term.0 >= 1);
    lab.sleep(2 * ELECTION);
    assert_eq!(lab.term(), term, "the term changed without a failure");
    lab.one_leader();
}

r_02_re_election: |seed| Lab::new(3, seed) => {
    let first = lab.one_leader();
    lab.disconnect(first);
    let new = lab.one_leader();
    assert_ne!(new, first);
    lab.connect(first);
    let second = lab.one_leader();
    assert_eq!(second, new, "the returning leader follows");
    let third = (second + 1) % 3;
    lab.disconnect(second);
    lab.disconnect(third);
    lab.sleep(2 * ELECTION);
    lab.no_leader();
    lab.connect(third);
    let back = lab.one_leader();
    lab.connect(second);
    assert_eq!(lab.one_leader(), back, "the leader is there still after the last one joined");
}

r_03_many_elections: |seed| Lab::new(7, seed) => {
    lab.one_leader();
    for _ in 0..9 {
        let mut cut = Vec::new();
        while cut.len() < 3 {
            let peer = lab.peer();
            if !cut.contains(&peer) {
                cut.push(peer);
            }
        }
        cut.iter().for_each(|peer| lab.disconnect(*peer));
        lab.one_leader();
        cut.iter().for_each(|peer| lab.connect(*peer));
    }
    lab.one_leader();
}
}
