//! Who is not talked to, and what is said about it.

mod common;

use std::collections::BTreeMap;

use common::{ByHand, Net, config, frame, greeting, hello, identity, response};
use quorate_storage::{ClusterId, Incarnation, StoreId};
use quorate_transport::{Channel, PeerConfig, PeerEvent};

/// Store 1 and a store 2 that dials it; the reasons both saw.
fn refusal(
    bindings: BTreeMap<StoreId, Incarnation>,
    change: impl FnOnce(&mut PeerConfig),
) -> [(Option<u64>, String, bool); 2] {
    let mut net = Net::default();
    let address = net.add_with(config(1, &[]), bindings);
    let mut second = config(2, &[(1, address)]);
    change(&mut second);
    net.add_with(second, BTreeMap::new());
    net.until("refused on both sides", |net| {
        [1, 2]
            .into_iter()
            .all(|store| net.node(store).refused().is_some())
    });
    for store in [1, 2] {
        let events = &net.node(store).events;
        assert!(
            !events
                .iter()
                .any(|e| matches!(e, PeerEvent::Up { .. } | PeerEvent::Bind { .. })),
            "{events:?}"
        );
    }
    [1, 2].map(|store| net.node(store).refused().expect("refused"))
}

#[test]
fn a_store_of_another_cluster_is_refused() {
    let [here, there] = refusal(BTreeMap::new(), |second| second.identity.cluster = ClusterId(78));
    let reason = "wrong cluster: store 1 belongs to cluster 0000000000000000000000000000004d, \
                  store 2 comes from cluster 0000000000000000000000000000004e";
    assert_eq!(here, (Some(2), reason.to_owned(), false));
    assert_eq!(there, (Some(1), reason.to_owned(), true));
}

#[test]
fn a_store_with_a_wiped_disk_is_refused() {
    let [here, there] = refusal(BTreeMap::from([(StoreId(2), Incarnation(22))]), |second| {
        second.identity.incarnation = Incarnation(23);
    });
    let reason = "store 2 is known here as incarnation 00000000000000000000000000000016, not \
                  00000000000000000000000000000017: its data directory was wiped or replaced; \
                  a store never comes back under its old id";
    assert_eq!(here, (Some(2), reason.to_owned(), false));
    assert_eq!(there, (Some(1), reason.to_owned(), true));
}

/// The other way round: the one who dials finds that the one who answers was wiped.
#[test]
fn a_wiped_store_that_is_dialed_is_refused_too() {
    let mut net = Net::default();
    let mut wiped = config(1, &[]);
    wiped.identity.incarnation = Incarnation(12);
    let address = net.add_with(wiped, BTreeMap::new());
    net.add_with(
        config(2, &[(1, address)]),
        BTreeMap::from([(StoreId(1), Incarnation(11))]),
    );
    net.until("refused on both sides", |net| {
        [1, 2].into_iter().all(|s| net.node(s).refused().is_some())
    });
    let (by, reason, fatal) = net.node(1).refused().expect("refused");
    assert!(
        by == Some(2) && fatal && reason.contains("wiped or replaced"),
        "{reason}"
    );
    assert_eq!(
        net.node(2).refused().map(|r| r.2),
        Some(false),
        "the healthy one goes on"
    );
    assert!(
        !net.node(1)
            .events
            .iter()
            .any(|e| matches!(e, PeerEvent::Bind { .. })),
        "nothing bound by a failure"
    );
}

#[test]
fn an_incarnation_bound_at_first_contact_counts_at_once() {
    let mut net = Net::default();
    let address = net.add(1);
    net.add(2);
    net.until_up(&[1, 2]);
    net.nodes.remove(&2);
    let mut wiped = config(2, &[(1, address)]);
    wiped.identity.incarnation = Incarnation(5);
    net.add_with(wiped, BTreeMap::new());
    net.until("fatal", |net| {
        net.node(2).refused().is_some_and(|(_, _, fatal)| fatal)
    });
}

#[test]
fn a_connection_to_itself_or_to_the_wrong_store_is_refused() {
    let mut net = Net::default();
    let first = net.add(1);
    // Store 3 is told that store 2 is where store 1 is.
    net.add_with(config(3, &[(2, first)]), BTreeMap::new());
    net.until("refused", |net| net.node(3).refused().is_some());
    let (_, reason, fatal) = net.node(3).refused().expect("refused");
    assert_eq!(
        (reason.as_str(), fatal),
        ("wrong store: this is store 1, not store 2", false)
    );
    // Store 1 is greeted by itself.
    let mut by_hand = ByHand::connect(first);
    by_hand.write(&greeting(1, (1, 1), &hello(identity(1), 1)));
    net.node(1).events.clear();
    net.until("refused", |net| {
        net.node(1)
            .refused()
            .is_some_and(|(_, reason, _)| reason.contains("itself"))
    });
}

#[test]
fn a_version_from_the_future_is_told_what_is_spoken_here() {
    let mut net = Net::default();
    let mut by_hand = ByHand::connect(net.add(1));
    by_hand.write(&greeting(1, (2, 3), &hello(identity(2), 1)));
    let mut answer = vec![];
    net.until("the refusal", |_| by_hand.read(&mut answer));
    let expected = "no protocol version in common: store 1 speaks 1 to 1, store 2 speaks 2 to 3";
    assert_eq!(
        answer[..9],
        [b'Q', b'R', b'T', b'P', 3, 1, 0, 1, 0],
        "a refusal in the frozen form"
    );
    assert_eq!(answer[17], 1, "about the version");
    assert!(answer.ends_with(expected.as_bytes()));
    assert_eq!(net.node(1).refused(), Some((Some(2), expected.to_owned(), false)));
}

#[test]
fn a_version_range_that_overlaps_is_welcome() {
    let mut net = Net::default();
    let mut by_hand = ByHand::connect(net.add(1));
    by_hand.write(&greeting(1, (1, 9), &hello(identity(2), 1)));
    by_hand.write(&greeting(2, (1, 9), &[]));
    net.until("up", |net| net.node(1).peers.is_up(StoreId(2)));
}

#[test]
fn strangers_are_shown_the_door() {
    let mut net = Net::default();
    let address = net.add(1);
    net.add(2);
    net.until_up(&[1, 2]);
    net.node(1).events.clear();
    let mut broken = greeting(1, (1, 1), &hello(identity(3), 1));
    broken[30] ^= 1;
    let mut long = greeting(1, (1, 1), &[]);
    long[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    for (bytes, words) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not a Quorate peer"),
        (vec![0; 1000], "not a Quorate peer"),
        (broken, "checksum"),
        (long, "4294967295 bytes"),
        (greeting(9, (1, 1), &[]), "unknown kind"),
        (greeting(2, (1, 1), &[]), "out of order"),
        (greeting(1, (1, 1), &[0; 10]), "inside a field"),
    ] {
        let mut by_hand = ByHand::connect(address);
        by_hand.write(&bytes);
        net.until("closed", |_| by_hand.read(&mut vec![]));
        let (store, reason, fatal) = net.node(1).refused().expect("refused");
        assert!(store.is_none() && !fatal && reason.contains(words), "{reason}");
        net.node(1).events.clear();
    }
    // One that says nothing is not waited for.
    let mut mute = ByHand::connect(address);
    net.until("closed", |_| mute.read(&mut vec![]));
    assert!(net.node(1).peers.is_up(StoreId(2)), "nothing else was disturbed");
}

/// Store 2 by hand, through the handshake with store 1.
fn shaken(net: &mut Net) -> ByHand {
    let address = net.node(1).address();
    let mut by_hand = ByHand::connect(address);
    by_hand.write(&greeting(1, (1, 1), &hello(identity(2), 1)));
    by_hand.write(&greeting(2, (1, 1), &[]));
    net.until("up", |net| net.node(1).peers.is_up(StoreId(2)));
    by_hand
}

#[test]
fn malformed_frames_break_their_connection_and_nothing_else() {
    let mut net = Net::default();
    let mut small = config(1, &[]);
    small.frame_bytes_max = 1000;
    let address = net.add_with(small, BTreeMap::new());
    net.add_with(config(3, &[(1, address)]), BTreeMap::new());
    net.until_up(&[1, 3]);
    let mut payload = vec![];
    response(1, 10).encode(&mut payload);
    let mut flipped = frame(&payload);
    flipped[20] ^= 4;
    let mut header = frame(&payload);
    header[1] ^= 4;
    let undecodable = frame(&[&payload[..], &[0xff]].concat());
    for (count, bytes) in [
        (0, flipped),
        (0, header),
        (0, frame(&[7; 1001])),
        (1, undecodable),
        (0, frame(&payload[..5])),
        (0, vec![0; 64]),
    ] {
        let mut by_hand = shaken(&mut net);
        by_hand.write(&frame(&payload));
        by_hand.write(&frame(&[]));
        by_hand.write(&bytes);
        net.until("closed", |_| by_hand.read(&mut vec![]));
        assert_eq!(net.node(1).downs(2), 1);
        let messages = net.node(1).messages();
        assert_eq!(
            messages,
            vec![(2, response(1, 10)); 1 + count],
            "what came before counts"
        );
        net.node(1).events.clear();
    }
    assert!(net.node(1).peers.is_up(StoreId(3)));
    net.node(3).send(1, Channel::Raft, &response(5, 5));
    net.until("undisturbed", |net| {
        net.node(1).messages() == [(3, response(5, 5))]
    });
}

#[test]
fn a_message_longer_than_a_frame_is_not_sent() {
    let mut net = Net::default();
    let mut small = config(1, &[]);
    small.frame_bytes_max = 1000;
    let address = net.add_with(small, BTreeMap::new());
    net.add_with(config(2, &[(1, address)]), BTreeMap::new());
    net.until_up(&[1, 2]);
    assert!(!net.node(1).send(2, Channel::Raft, &response(1, 1000)));
    assert!(net.node(1).send(2, Channel::Raft, &response(2, 900)));
    net.until("the short one", |net| {
        net.node(2).messages() == [(1, response(2, 900))]
    });
    assert_eq!(net.node(1).peers.stats().messages_dropped, 1);
}

/// A reset or an end that is reported together with data is reported only once; it must not wait for the
/// silence to be noticed.
#[test]
fn an_end_right_behind_the_data_is_seen_with_it() {
    let mut net = Net::default();
    net.add(1);
    let mut by_hand = shaken(&mut net);
    net.node(1).asleep = true;
    let mut payload = vec![];
    response(1, 10).encode(&mut payload);
    by_hand.write(&frame(&payload));
    drop(by_hand);
    net.node(1).asleep = false;
    net.until("the message", |net| {
        net.node(1).messages() == [(2, response(1, 10))]
    });
    assert_eq!(net.node(1).downs(2), 1, "the end was not looked for");
}
