//! The simulated network does what it says: NET-01 to NET-07.

use bytes::Bytes;
use quorate_node::NodeId;
use quorate_node::sim::{Delivery, Faults, Network, What};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const MANY: u64 = 10_000;

/// Sends many messages at time zero; when each arrived, by its number.
fn arrivals(network: &mut Network, is_reply: bool) -> Vec<(u64, u32)> {
    for n in 0..MANY as u32 {
        network.send(0, A, B, is_reply, Bytes::copy_from_slice(&n.to_le_bytes()));
    }
    let mut found = Vec::new();
    while let Some(due) = network.next_due_us() {
        while let Some(Delivery { what, .. }) = network.receive(due) {
            if let What::Message(bytes) = what {
                found.push((due, u32::from_le_bytes(bytes[..].try_into().expect("4 bytes"))));
            }
        }
    }
    found
}

fn near(found: usize, percent: u64) -> bool {
    (found as u64 * 100).abs_diff(MANY * percent) < MANY * 2
}

#[test]
fn net_01_unreliable_delays_up_to_26_ms_and_loses_a_tenth_of_requests_and_of_replies() {
    for is_reply in [false, true] {
        let mut network = Network::new(1);
        network.set_faults(Faults::unreliable());
        let found = arrivals(&mut network, is_reply);
        assert!(near(found.len(), 90), "{} of {MANY} arrived", found.len());
        let (least, most) = (found[0].0, found[found.len() - 1].0);
        assert!(
            least < 100 && (25_900..=26_000).contains(&most),
            "{least} to {most} us"
        );
    }
}

#[test]
fn net_02_long_reordering_makes_two_of_three_replies_late_and_overtaken() {
    let mut network = Network::new(2);
    network.set_faults(Faults {
        long_reordering: true,
        lose_replies_percent: 0,
        ..Faults::unreliable()
    });
    let found = arrivals(&mut network, true);
    let late = found.iter().filter(|(due, _)| *due >= 200_000).count();
    assert!(near(late, 67), "{late} of {MANY} are late");
    assert!(found.iter().all(|(due, _)| *due <= 200_000 + 2_000_000 + 26_000));
    assert!(
        found.windows(2).any(|pair| pair[0].1 > pair[1].1),
        "nobody overtakes"
    );
    // Requests are not.
    let mut network = Network::new(2);
    network.set_faults(Faults {
        long_reordering: true,
        ..Faults::unreliable()
    });
    assert!(
        arrivals(&mut network, false)
            .iter()
            .all(|(due, _)| *due <= 26_000)
    );
}

#[test]
fn net_03_whoever_writes_to_a_member_that_is_cut_off_learns_of_it_later() {
    for (long_delays, bound) in [(false, 100_000), (true, 7_000_000)] {
        let mut latest = 0;
        for seed in 0..200 {
            let mut network = Network::new(seed);
            network.set_faults(Faults {
                long_delays,
                ..Faults::none()
            });
            network.disconnect(B);
            network.send(0, A, B, false, Bytes::new());
            network.send(0, A, B, false, Bytes::new());
            let due = network.next_due_us().expect("a notice");
            assert_eq!(
                network.receive(due),
                Some(Delivery {
                    from: A,
                    to: B,
                    what: What::Unreachable
                })
            );
            assert_eq!(network.next_due_us(), None, "told once");
            latest = latest.max(due);
        }
        assert!(latest < bound && latest > bound / 2, "{latest} of {bound} us");
    }
}

#[test]
fn net_04_bytes_and_calls_are_counted() {
    let mut network = Network::new(4);
    network.send(0, A, B, false, Bytes::from_static(b"12345"));
    network.send(0, A, C, false, Bytes::from_static(b"123"));
    network.send(0, B, A, true, Bytes::from_static(b"1"));
    let counters = network.counters();
    assert_eq!(
        (counters.messages, counters.calls, counters.bytes, counters.lost),
        (3, 2, 9, 0)
    );
    assert_eq!((counters.calls_to[&B], counters.calls_to[&C]), (1, 1));
}

#[test]
fn net_06_a_cut_is_in_both_directions_and_takes_what_is_on_its_way() {
    let mut network = Network::new(6);
    network.send(0, A, B, false, Bytes::new());
    network.disconnect(B);
    network.send(0, B, A, false, Bytes::new());
    network.send(0, A, C, false, Bytes::new());
    let mut heard = Vec::new();
    while let Some(due) = network.next_due_us() {
        while let Some(delivery) = network.receive(due) {
            if matches!(delivery.what, What::Message(_)) {
                heard.push((delivery.from, delivery.to));
            }
        }
    }
    assert_eq!(heard, [(A, C)]);
    network.connect(B);
    network.send(200_000, A, B, false, Bytes::new());
    let due = network.next_due_us().expect("on its way");
    assert!(matches!(
        network.receive(due),
        Some(Delivery {
            what: What::Message(_),
            ..
        })
    ));
}

#[test]
fn net_07_a_division_drops_what_crosses_it_and_repetition_repeats() {
    let mut network = Network::new(7);
    network.divide(&[&[A, B]]);
    network.send(0, A, C, false, Bytes::new());
    network.send(0, A, B, false, Bytes::new());
    assert_eq!(network.counters().lost, 1);
    network.unite();
    network.send(0, A, C, false, Bytes::new());
    assert_eq!(network.counters().lost, 1);
    let mut network = Network::new(8);
    network.set_faults(Faults {
        repeat_percent: 50,
        ..Faults::none()
    });
    assert!(near(arrivals(&mut network, false).len(), 150));
}

#[test]
fn messages_stay_in_order_unless_they_are_to_overtake_each_other() {
    let mut network = Network::new(9);
    let numbers: Vec<u32> = arrivals(&mut network, false)
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    network.set_faults(Faults {
        reorder: true,
        ..Faults::none()
    });
    let numbers: Vec<u32> = arrivals(&mut network, false)
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    assert!(numbers.windows(2).any(|pair| pair[0] > pair[1]));
}
