//! Shards that are put on stores by hand: the controller is asked first what those are used for.

use bytes::Bytes;
use quorate_proto::{
    Answer, CommandError, ControlQuery, ForwardBody, Labels, Manage, Query, Roles, Service, StoreCounts,
    StoreRecord, StoreRow, StoreState, UnknownReason, encode_store_rows,
};
use quorate_storage::{Incarnation, ShardId, StoreId};
use quorate_store::{ClientOutcome, Refusal, RouteMode, Target};

use crate::client_support::Harness;
use crate::harness;

/// The controller's word of stores 1, 2 and so on.
fn registry(services: &[Service]) -> ClientOutcome {
    let row = |(store, service): (u64, &Service)| StoreRow {
        record: StoreRecord {
            store: StoreId(store),
            incarnation: Incarnation(1),
            client: Bytes::new(),
            peer: Bytes::new(),
            http: Bytes::new(),
            labels: Labels::new(),
            roles: Roles::BOTH,
        },
        service: *service,
        state: StoreState::Up,
        silent_ms: 0,
        last: None,
        counts: StoreCounts::default(),
    };
    let rows: Vec<StoreRow> = (1..).zip(services).map(row).collect();
    ClientOutcome::Done(Answer::Bulk(encode_store_rows(&rows)))
}

/// What the shard's leader is told, if it is, after the controller's answer.
fn told(node: &mut Harness, words: &str, controller: ClientOutcome) -> Option<Manage> {
    node.line(words);
    let asked = node.take();
    let question = ForwardBody::Read(Query::Control(ControlQuery::Stores));
    assert_eq!(asked.len(), 1, "{words}");
    assert_eq!(asked[0].target, Target::Shard(ShardId(0)));
    assert_eq!((&asked[0].body, asked[0].mode), (&question, RouteMode::Proxy));
    assert!(asked[0].timeout_ms < node.view.config.request_timeout_ms);
    node.complete(&asked[0], controller);
    let mut told = node.take();
    assert!(told.len() < 2, "{told:?}");
    let told = told.pop()?;
    assert_eq!(
        (told.target, told.mode),
        (Target::Shard(ShardId(2)), RouteMode::Proxy)
    );
    node.requests.push(told.clone());
    match told.body {
        ForwardBody::Manage(wish) => Some(wish),
        body => panic!("{body:?}"),
    }
}

fn ends(node: &mut Harness, outcome: ClientOutcome) -> String {
    let request = node.take().remove(0);
    node.complete(&request, outcome);
    assert!(node.requests.is_empty());
    node.output()
}

#[test]
fn what_is_wanted_of_stores_in_use_is_told_to_the_shards_leader() {
    use Service::{Active, Draining, Removed};
    for mode in ["proxy", "cluster"] {
        let (mut node, _) = harness();
        node.line(&format!("QUORATE MODE {mode}"));
        node.output();
        // Store 2 is left, and store 4 has nothing to do with it.
        let services = registry(&[Active, Draining, Active, Removed]);
        let wish = told(&mut node, "QUORATE REPLICA MOVE 2 2 3", services);
        let moves = Manage::Change {
            add: vec![StoreId(3)],
            remove: vec![StoreId(2)],
        };
        assert_eq!(wish, Some(moves));
        assert_eq!(node.output(), "");
        assert_eq!(ends(&mut node, ClientOutcome::Done(Answer::Ok)), "+OK\r\n");

        assert!(told(&mut node, "QUORATE REPLICA ADD 2 1", registry(&[Active])).is_some());
        let under_way = ClientOutcome::Done(Answer::Error(CommandError::ChangeUnderWay));
        let said = ends(&mut node, under_way);
        assert_eq!(said, format!("-{}\r\n", CommandError::ChangeUnderWay));
    }
}

#[test]
fn what_is_wanted_of_a_store_that_is_to_hold_nothing_is_refused() {
    use Service::{Active, Draining, Removed};
    let (mut node, _) = harness();
    let services = || registry(&[Active, Draining, Active, Removed]);
    for (words, why) in [
        (
            "QUORATE REPLICA MOVE 2 1 2",
            "-ERR store 2 is draining, and is to hold nothing more; QUORATE STORE UNDRAIN 2 (ctl undrain 2) lets it\r\n",
        ),
        (
            "QUORATE REPLICA ADD 2 3 4",
            "-ERR store 4 was removed and its id is gone for good; choose another\r\n",
        ),
    ] {
        assert_eq!(told(&mut node, words, services()), None, "{words}");
        assert_eq!(node.output(), why);
    }
    assert!(node.session.idle());
}

/// An operator may have nothing else, and without the controller nothing is removed.
#[test]
fn a_controller_that_does_not_answer_stops_nobody() {
    let (mut node, _) = harness();
    let no_leader = ClientOutcome::NotApplied(Refusal::NoLeader(ShardId(0)));
    for outcome in [no_leader, ClientOutcome::Unknown(UnknownReason::Timeout)] {
        assert!(told(&mut node, "QUORATE REPLICA ADD 2 1", outcome).is_some());
        let lost = ClientOutcome::Unknown(UnknownReason::Timeout);
        let said = ends(&mut node, lost);
        assert!(said.starts_with("-UNKNOWN"), "{said}");
    }
}

#[test]
fn what_only_leaves_stores_is_told_at_once() {
    let (mut node, _) = harness();
    node.line("QUORATE REPLICA REMOVE 2 3");
    assert!(matches!(
        &node.requests[0].body,
        ForwardBody::Manage(Manage::Change { .. })
    ));
    assert_eq!(ends(&mut node, ClientOutcome::Done(Answer::Ok)), "+OK\r\n");
}
