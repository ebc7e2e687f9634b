use bytes::Bytes;
use quorate_proto::{Op, Query};

use super::*;
use crate::RouteMode;

const HERE: Option<StoreId> = Some(StoreId(1));
const THERE: Option<StoreId> = Some(StoreId(2));
const GO_ALONE: Verdict = Verdict::Go { in_order: false };
const GO_BEHIND: Verdict = Verdict::Go { in_order: true };

fn routed(order: u64, body: ForwardBody) -> Routed {
    Routed {
        request: ClientRequest {
            id: RequestId(order),
            stream: 7,
            target: Target::Slot(3),
            body,
            session: None,
            mode: RouteMode::Proxy,
            timeout_ms: 1000,
        },
        order,
        version: None,
        deadline_us: 1,
        unsure: None,
        own_session: None,
    }
}

fn unsure(order: u64) -> Routed {
    Routed {
        unsure: Some(UnknownReason::ConnectionLost),
        ..write(order)
    }
}

fn write(order: u64) -> Routed {
    routed(order, ForwardBody::Write(Op::Noop))
}

fn read(order: u64) -> Routed {
    let key = Bytes::from_static(b"k");
    routed(order, ForwardBody::Read(Query::Get { key }))
}

/// A request comes, and goes if it may.
fn come(lanes: &mut Lanes, routed: Routed, to: Option<StoreId>) -> Verdict {
    let ticket = routed.ticket();
    let verdict = lanes.arrive(&ticket, to);
    match verdict {
        Verdict::Go { .. } => lanes.sent(&ticket, to.unwrap()),
        _ => lanes.wait(routed),
    }
    verdict
}

/// Those that wait go, as far as they may; gives the orders of those that went and those that never will.
fn go_on(lanes: &mut Lanes, to: Option<StoreId>) -> (Vec<u64>, Vec<u64>) {
    let (mut gone, mut overtaken) = (vec![], vec![]);
    for key in lanes.take_ready() {
        while let Some((routed, verdict)) = lanes.take_first(key, to) {
            match verdict {
                Verdict::Go { .. } => {
                    lanes.sent(&routed.ticket(), to.unwrap());
                    gone.push(routed.order);
                }
                Verdict::Overtaken => overtaken.push(routed.order),
                Verdict::Wait => unreachable!(),
            }
        }
        lanes.looked_at(key);
    }
    (gone, overtaken)
}

#[test]
fn writes_and_reads_behind_them_go_at_once_and_a_lane_without_requests_is_gone() {
    let mut lanes = Lanes::default();
    assert_eq!(come(&mut lanes, write(1), HERE), GO_ALONE);
    assert_eq!(come(&mut lanes, write(2), HERE), GO_BEHIND);
    assert_eq!(come(&mut lanes, read(3), HERE), GO_BEHIND);
    assert_eq!(come(&mut lanes, read(4), HERE), GO_BEHIND);
    for routed in [write(1), write(2), read(3), read(4)] {
        lanes.ended(&routed.ticket(), true);
    }
    assert!(lanes.lanes.is_empty() && lanes.crowded.is_empty() && !lanes.has_ready());
}

#[test]
fn a_write_waits_for_the_reads_before_it() {
    let mut lanes = Lanes::default();
    assert_eq!(come(&mut lanes, read(1), HERE), GO_ALONE);
    assert_eq!(come(&mut lanes, write(2), HERE), Verdict::Wait);
    assert_eq!(come(&mut lanes, read(3), HERE), Verdict::Wait, "behind the write");
    lanes.ended(&read(1).ticket(), true);
    assert_eq!(go_on(&mut lanes, HERE), (vec![2, 3], vec![]));
}

#[test]
fn a_request_for_another_store_waits_until_the_first_has_nothing_any_more() {
    let mut lanes = Lanes::default();
    come(&mut lanes, write(1), HERE);
    come(&mut lanes, write(2), HERE);
    assert_eq!(come(&mut lanes, write(3), THERE), Verdict::Wait);
    lanes.ended(&write(1).ticket(), true);
    assert_eq!(go_on(&mut lanes, THERE), (vec![], vec![]));
    lanes.ended(&write(2).ticket(), false);
    assert_eq!(go_on(&mut lanes, THERE), (vec![3], vec![]));
}

#[test]
fn what_comes_back_goes_again_in_its_order_when_all_are_back() {
    let mut lanes = Lanes::default();
    for order in 1..=3 {
        come(&mut lanes, write(order), HERE);
    }
    lanes.returned(write(2), THERE);
    assert_eq!(come(&mut lanes, write(4), HERE), Verdict::Wait);
    assert_eq!(
        go_on(&mut lanes, THERE),
        (vec![], vec![]),
        "1 and 3 are under way"
    );
    lanes.returned(write(1), THERE);
    lanes.returned(write(3), THERE);
    assert_eq!(go_on(&mut lanes, THERE), (vec![1, 2, 3, 4], vec![]));
}

#[test]
fn the_last_one_goes_again_while_those_before_it_are_under_way() {
    let mut lanes = Lanes::default();
    come(&mut lanes, write(1), HERE);
    come(&mut lanes, write(2), HERE);
    lanes.returned(write(2), HERE);
    assert_eq!(go_on(&mut lanes, HERE), (vec![2], vec![]));
}

#[test]
fn what_comes_back_after_a_later_one_had_its_effect_is_refused() {
    let mut lanes = Lanes::default();
    for order in 1..=3 {
        come(&mut lanes, write(order), HERE);
    }
    lanes.returned(write(1), THERE);
    lanes.returned(write(3), THERE);
    lanes.ended(&write(2).ticket(), true);
    assert_eq!(go_on(&mut lanes, THERE), (vec![3], vec![1]));
}

#[test]
fn without_news_nothing_is_sent_again() {
    let mut lanes = Lanes::default();
    come(&mut lanes, write(1), HERE);
    lanes.returned(write(1), None);
    assert_eq!(go_on(&mut lanes, HERE), (vec![], vec![]));
    assert_eq!(come(&mut lanes, write(2), HERE), Verdict::Wait);
    let [key] = lanes.crowded()[..] else { panic!() };
    lanes.release(key);
    assert_eq!(go_on(&mut lanes, HERE), (vec![1, 2], vec![]));
}

#[test]
fn late_ones_are_taken_out_of_the_middle() {
    let mut lanes = Lanes::default();
    for order in 1..=3 {
        come(&mut lanes, write(order), None);
    }
    let [key] = lanes.crowded()[..] else { panic!() };
    let late = lanes.extract(key, |routed| routed.order == 2);
    assert_eq!(late.len(), 1);
    lanes.release(key);
    assert_eq!(go_on(&mut lanes, HERE), (vec![1, 3], vec![]));
}

/// Found by seed 804 of the profile `everything`: two appends of one connection came back when their leader changed.
/// The message with the first had been lost, the second had been applied. Sent again, the first ran behind it and the
/// second got its old answer.
#[test]
fn of_writes_that_may_have_run_only_the_last_goes_again() {
    let mut lanes = Lanes::default();
    for order in 1..=2 {
        come(&mut lanes, write(order), HERE);
    }
    lanes.returned(unsure(1), THERE);
    lanes.returned(unsure(2), THERE);
    assert_eq!(go_on(&mut lanes, THERE), (vec![2], vec![1]));
}
