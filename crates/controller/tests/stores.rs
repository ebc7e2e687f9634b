//! New stores get ids (P7).

mod support;

use bytes::Bytes;
use quorate_controller::{Controller, DEFAULT_GROUP};
use quorate_proto::{
    ADDRESS_BYTES_MAX, Admission, Answer, CommandError, ControlCommand, GroupId, Groups, PlacementCommand,
    StoreRecord, decode_admission,
};
use quorate_storage::{ClusterId, Incarnation, StoreId};
use quorate_store::rsm::StateMachine;
use support::Hosted;

fn newcomer(incarnation: u128, peer: &'static str) -> StoreRecord {
    StoreRecord {
        store: StoreId(0),
        incarnation: Incarnation(incarnation),
        client: Bytes::from_static(b"c"),
        peer: Bytes::from_static(peer.as_bytes()),
        http: Bytes::from_static(b"h"),
    }
}

fn admit(hosted: &mut Hosted, record: StoreRecord) -> Result<Admission, CommandError> {
    match hosted.apply(&ControlCommand::Admit(record)) {
        Answer::Bulk(bytes) => Ok(decode_admission(&bytes).unwrap()),
        Answer::Error(error) => Err(error),
        answer => panic!("{answer:?}"),
    }
}

/// Stores 1, 2 and 5 begin.
#[test]
fn a_new_store_gets_the_next_id_and_the_same_when_it_asks_again() {
    let mut hosted = Hosted::begun(4);
    let one = admit(&mut hosted, newcomer(77, "a:1")).unwrap();
    assert_eq!((one.cluster, one.store), (ClusterId(9), StoreId(6)));
    let other = admit(&mut hosted, newcomer(78, "b:1")).unwrap();
    assert_eq!(other.store, StoreId(7));
    // It crashed before it heard the answer, and has another address now.
    let again = admit(&mut hosted, newcomer(77, "a:2")).unwrap();
    assert_eq!(again.store, StoreId(6));
    let peers: Vec<_> = again
        .stores
        .iter()
        .map(|store| (store.store.0, &store.peer[..]))
        .collect();
    assert_eq!(peers, [(6, &b"a:2"[..]), (7, &b"b:1"[..])]);
    // From now on it registers under its id, and nobody else does.
    let mut record = newcomer(77, "a:3");
    record.store = StoreId(6);
    let answer = hosted.apply(&ControlCommand::Register(record.clone()));
    assert!(matches!(answer, Answer::Bulk(_)), "{answer:?}");
    record.incarnation = Incarnation(99);
    let answer = hosted.apply(&ControlCommand::Register(record));
    assert_eq!(answer, Answer::Error(CommandError::OtherIncarnation));
}

#[test]
fn a_new_store_is_in_the_only_group_and_in_none_if_there_are_several() {
    let mut hosted = Hosted::begun(4);
    let one = admit(&mut hosted, newcomer(77, "a:1")).unwrap();
    assert!(hosted.newest().groups[&DEFAULT_GROUP].contains(&one.store));
    assert_eq!(hosted.newest().num, 2);
    admit(&mut hosted, newcomer(77, "a:1")).unwrap();
    assert_eq!(hosted.newest().num, 2, "asked again");
    let second = Groups::from([(GroupId(2), [StoreId(30)].into())]);
    hosted.place(PlacementCommand::Join(second)).unwrap();
    let other = admit(&mut hosted, newcomer(78, "b:1")).unwrap();
    let is_in_a_group = hosted
        .newest()
        .groups
        .values()
        .any(|stores| stores.contains(&other.store));
    assert!(!is_in_a_group, "an operator says where it belongs");
}

#[test]
fn what_is_no_new_store_is_refused() {
    let mut hosted = Hosted::begun(4);
    let mut chosen = newcomer(77, "a:1");
    chosen.store = StoreId(3);
    assert_eq!(
        admit(&mut hosted, chosen),
        Err(CommandError::OutOfRange),
        "nobody chooses an id"
    );
    let mut long = newcomer(77, "a:1");
    long.http = vec![b'x'; ADDRESS_BYTES_MAX + 1].into();
    assert_eq!(admit(&mut hosted, long), Err(CommandError::OutOfRange));
    let mut unbegun = Controller::default();
    let answer = unbegun.apply(0, &ControlCommand::Admit(newcomer(77, "a:1")), &mut Vec::new());
    assert_eq!(answer, Answer::Error(CommandError::NotBootstrapped));
}
