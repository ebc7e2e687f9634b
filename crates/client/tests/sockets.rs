//! The client against nodes that misbehave as told.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_client::{Client, Command, Error, Options, Outcome, Reason, Status, Swapped, WriteId};
use support::{Act, FakeNode, ok, once};

fn say(text: &str) -> Act {
    Act::Say(text.into())
}

async fn client(nodes: &[&FakeNode]) -> Client {
    let options = Options::default().attempt_max(Duration::from_millis(200));
    let addrs = nodes.iter().map(|node| node.addr.clone());
    Client::connect_with(addrs, options).await.unwrap()
}

#[tokio::test]
async fn many_commands_share_one_connection_and_each_gets_its_own_reply() {
    const MANY: usize = 200;
    let mut count = 0;
    // Nothing is answered before all have come: they must be under way together.
    let node = FakeNode::start(move |words| {
        count += 1;
        Act::SayAfter(MANY - count, format!("${}\r\n{}\r\n", words[1].len(), words[1]))
    })
    .await;
    let client = client(&[&node]).await;
    let mut reads = tokio::task::JoinSet::new();
    for n in 0..MANY {
        let client = client.clone();
        reads.spawn(async move {
            let key = format!("key-{n}");
            assert_eq!(client.get(&key).await.unwrap().unwrap(), key);
        });
    }
    while let Some(read) = reads.join_next().await {
        read.unwrap();
    }
    let seen = node.seen.lock().unwrap();
    assert!(
        seen.iter().all(|(connection, _)| *connection == seen[0].0),
        "one connection"
    );
}

#[tokio::test]
async fn a_write_is_sent_again_under_its_identity_when_the_connection_breaks() {
    let mut breaks = 3;
    let node = FakeNode::start(move |_| {
        if breaks == 0 {
            return say(":7\r\n");
        }
        breaks -= 1;
        Act::Break
    })
    .await;
    let client = client(&[&node]).await;
    assert_eq!(client.increment("n", 7).await, Ok(7));
    assert_eq!(client.increment("n", 0).await, Ok(7));
    let sent: Vec<_> = node.commands().iter().map(|words| once(words)).collect();
    assert_eq!(sent.len(), 5);
    assert!(sent[..4].iter().all(|attempt| *attempt == sent[0]), "{sent:?}");
    let (session, seq, lowest, _) = &sent[4];
    assert_eq!(
        (session, *seq, *lowest),
        (&sent[0].0, 2, 2),
        "the first is acknowledged"
    );
}

#[tokio::test]
async fn a_plain_write_is_never_sent_twice_after_a_break() {
    let node = FakeNode::start(|_| Act::Break).await;
    let client = client(&[&node]).await;
    let flush = client.command(&Command::plain("FLUSHALL")).await;
    assert!(
        matches!(flush, Err(Error::Unknown { write: None, .. })),
        "{flush:?}"
    );
    assert_eq!(node.commands().len(), 1);
}

#[tokio::test]
async fn hints_are_followed_and_remembered() {
    let right = FakeNode::start(|_| ok()).await;
    let to = right.addr.clone();
    let wrong = FakeNode::start(move |_| say(&format!("-MOVED 12182 {to}\r\n"))).await;
    let client = client(&[&wrong]).await;
    client.set("foo", "1").await.unwrap();
    assert_eq!((wrong.commands().len(), right.commands().len()), (1, 1));
    let [first, second] = [&wrong, &right].map(|node| once(&node.commands()[0]));
    assert_eq!(first, second, "one identity");
    let counters = client.counters();
    assert_eq!(
        (
            counters.commands,
            counters.attempts,
            counters.hints,
            counters.sessions_opened
        ),
        (1, 2, 1, 1),
        "one more round trip"
    );
}

#[tokio::test]
async fn a_node_that_hangs_is_left_for_another() {
    let hanging = FakeNode::start(|_| Act::Hang).await;
    let other = FakeNode::start(|_| ok()).await;
    let client = client(&[&hanging, &other]).await;
    client.set("foo", "1").await.unwrap();
    let [hung, ran] = [&hanging, &other].map(|node| once(&node.commands()[0]));
    assert_eq!(
        hung, ran,
        "one identity, so that it runs once should the first one wake up"
    );
    client.set("foo", "2").await.unwrap();
    assert_eq!(hanging.commands().len(), 1, "it is left alone for a while");
}

#[tokio::test]
async fn what_is_unknown_at_the_deadline_can_be_settled() {
    let node = FakeNode::start(|words| match &*words[1] {
        "STATUS" => say("*2\r\n$3\r\nran\r\n:5\r\n"),
        _ => {
            say("-UNKNOWN no answer came within the deadline; the write may or may not have been applied\r\n")
        }
    })
    .await;
    let client = client(&[&node]).await.within(Duration::from_millis(300));
    let outcome = Outcome::from(client.append("k", "hello").await);
    let Outcome::Unknown(Error::Unknown {
        write: Some(write),
        reason,
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(matches!(reason, Reason::Server(text) if text.starts_with("UNKNOWN ")));
    let ran = client.status(&write).await.unwrap();
    assert_eq!(ran, Status::Ran(quorate_client::resp::Reply::Int(5)));
    let asked = node.commands().pop().unwrap();
    let (session, seq) = (write.session.to_string(), write.seq.to_string());
    assert_eq!(asked, ["ONCE", "STATUS", &session, &seq, "k"]);
    // Its session is retired, so that no acknowledgement frees the answer.
    let _ = client.set("k", "v").await;
    let next = once(&node.commands().pop().unwrap());
    assert_ne!(next.0, session);
}

#[tokio::test]
async fn a_forgotten_session_is_replaced_before_the_first_run_and_not_after() {
    let forgotten =
        "-UNKNOWN the shard has forgotten the session or this seq of it; the write did not run now\r\n";
    // From the last to the first: forgotten at once, under another session lost, then forgotten.
    let mut acts = vec![ok(), say(forgotten), Act::Break, say(forgotten)];
    let node = FakeNode::start(move |_| acts.pop().unwrap()).await;
    let client = client(&[&node]).await;
    let lost = client.set("k", "1").await;
    assert!(
        matches!(
            lost,
            Err(Error::Unknown {
                reason: Reason::Forgotten,
                ..
            })
        ),
        "{lost:?}"
    );
    let sent: Vec<_> = node.commands().iter().map(|words| once(words).0).collect();
    assert_ne!(sent[0], sent[1], "another session, because nothing had run");
    assert_eq!(sent[1], sent[2]);
    client.set("k", "2").await.unwrap();
}

#[tokio::test]
async fn commands_wait_for_a_place_and_fail_within_their_deadline() {
    let node = FakeNode::start(|_| Act::SayAfter(1, "$-1\r\n".into())).await;
    let options = Options::default()
        .in_flight_max(1)
        .deadline(Duration::from_millis(300))
        .attempt_max(Duration::from_secs(5));
    let client = Client::connect_with([node.addr.clone()], options).await.unwrap();
    let first = tokio::spawn({
        let client = client.within(Duration::from_secs(1));
        async move { client.get("a").await }
    });
    while node.commands().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = client.get("b").await;
    assert_eq!(second, Err(Error::Unavailable(Reason::TooManyUnderWay)));
    assert!(matches!(
        first.await.unwrap(),
        Err(Error::Unavailable(Reason::Silence { .. }))
    ));
}

#[tokio::test]
async fn a_dropped_future_frees_its_place_and_its_number() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    // The first write is answered after the second has come.
    let node = FakeNode::start(move |_| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        Act::SayAfter(usize::from(first), "+OK\r\n".into())
    })
    .await;
    let options = Options::default().in_flight_max(1);
    let client = Client::connect_with([node.addr.clone()], options).await.unwrap();
    let dropped = tokio::spawn({
        let client = client.clone();
        async move { client.set("a", "1").await }
    });
    while count.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    client.set("b", "2").await.unwrap();
    let last = once(&node.commands()[1]);
    assert_eq!((last.1, last.2), (2, 2), "nobody waits for the first any more");
}

#[tokio::test]
async fn bytes_that_are_no_replies_end_the_connection_not_the_client() {
    let mut acts = vec![say(":1\r\n"), say("?what\r\n"), say(":1\r\n:2\r\n")];
    let node = FakeNode::start(move |_| acts.pop().unwrap_or_else(|| say(":1\r\n"))).await;
    let client = client(&[&node]).await;
    for _ in 0..3 {
        assert_eq!(client.increment("n", 1).await, Ok(1));
    }
}

#[tokio::test]
async fn replies_mean_what_the_methods_say() {
    let node = FakeNode::start(|words| {
        let words = if words[0] == "ONCE" { &words[5..] } else { words };
        match &*words.join(" ") {
            "CAS k a b" => say(":-1\r\n"),
            "CAS k a c" => say(":0\r\n"),
            "CAS k a d PX 1500" => say(":1\r\n"),
            "SET k v NX PX 1" => say("$-1\r\n"),
            "PTTL k" => say(":-1\r\n"),
            "PTTL l" => say(":2500\r\n"),
            "GETDEL k" => say("$2\r\n\r\n\r\n"),
            "SCAN 0 COUNT 1000 MATCH a*" => say("*2\r\n$1\r\n7\r\n*1\r\n$1\r\na\r\n"),
            "SCAN 7 COUNT 1000 MATCH a*" => say("*2\r\n$1\r\n0\r\n*0\r\n"),
            "INCRBY text 1" => say("-ERR value is not an integer or out of range\r\n"),
            other => say(&format!("-ERR unexpected {other}\r\n")),
        }
    })
    .await;
    let client = client(&[&node]).await;
    use quorate_client::{Expiry, SetOptions, When};
    assert_eq!(client.compare_and_set("k", "a", "b").await, Ok(Swapped::Absent));
    assert_eq!(
        client.compare_and_set("k", "a", "c").await,
        Ok(Swapped::Different)
    );
    let soon = Expiry::After(Duration::from_millis(1500));
    assert_eq!(
        client.compare_and_set_with("k", "a", "d", soon).await,
        Ok(Swapped::Yes)
    );
    let options = SetOptions {
        when: When::Absent,
        expiry: Expiry::After(Duration::ZERO),
    };
    assert_eq!(client.set_with("k", "v", options).await, Ok(false));
    assert_eq!(client.time_to_live("k").await, Ok(None));
    assert_eq!(
        client.time_to_live("l").await,
        Ok(Some(Duration::from_millis(2500)))
    );
    assert_eq!(client.get_delete("k").await.unwrap().unwrap(), "\r\n");
    let mut scan = client.scan().matching("a*");
    assert_eq!(scan.next_page().await.unwrap().unwrap(), ["a"]);
    assert_eq!(scan.next_page().await, Ok(Some(Vec::new())));
    assert_eq!(scan.next_page().await, Ok(None));
    let refused = client.increment("text", 1).await;
    assert!(
        matches!(&refused, Err(Error::Refused(error)) if error.code() == "ERR"),
        "{refused:?}"
    );
    let failed = client.set_many([("a", "1"), ("b", "2")]).await.unwrap_err();
    assert_eq!(
        failed.failed.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [0, 1]
    );
}

#[tokio::test]
async fn no_node_no_client() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect([addr.clone()]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(Reason::NoConnection { addr: to, .. }) if *to == addr),
        "{error}"
    );
    let error = Client::connect(Vec::<String>::new()).await.unwrap_err();
    assert_eq!(error, Error::Unavailable(Reason::NoNode));
}

#[test]
fn ids_read_as_they_are_written() {
    let id = "018bcfe5680000e4f2c9a1b3d57f6e08";
    let session: quorate_client::SessionId = id.parse().unwrap();
    assert_eq!(session.to_string(), id);
    for bad in [
        "",
        "+18bcfe5680000e4f2c9a1b3d57f6e08",
        "g18bcfe5680000e4f2c9a1b3d57f6e08",
    ] {
        assert!(bad.parse::<quorate_client::SessionId>().is_err(), "{bad}");
    }
    let key = bytes::Bytes::from_static(b"k");
    let write = WriteId { session, seq: 3, key };
    assert_eq!(write.to_string(), format!("{id} 3 k"));
}

#[test]
fn the_blocking_client_needs_no_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let node = runtime.block_on(FakeNode::start(|_| say(":4\r\n")));
    let client = quorate_client::blocking::Client::connect([node.addr.clone()], Options::default()).unwrap();
    assert_eq!(client.run(async |client| client.increment("n", 4).await), Ok(4));
}
