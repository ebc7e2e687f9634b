//! Members over real sockets and files: what only those can show.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_node::{
    Applied, AppliedStream, ClusterId, Config, Directory, FatalError, Handle, Node, NodeId, SpawnError,
    Start, StartError, Started, Transport,
};

/// Long enough for the slowest machine; a test that comes here has failed.
const DEADLINE: Duration = Duration::from_secs(60);

struct Member {
    handle: Handle,
    stream: AppliedStream,
}

fn config(id: u64, start: Start) -> Config {
    let mut config = Config::new(ClusterId(99), NodeId(id), start);
    config.log.segment_bytes = 1 << 20;
    config
}

/// Three members in directories `1` to `3` of `dir`.
fn group(dir: &Path) -> BTreeMap<u64, Member> {
    let transports: BTreeMap<u64, Transport> = (1..=3)
        .map(|id| (id, Transport::bind("127.0.0.1:0").unwrap()))
        .collect();
    let voters: BTreeMap<NodeId, String> = transports
        .iter()
        .map(|(id, transport)| (NodeId(*id), transport.local_addr().unwrap().to_string()))
        .collect();
    transports
        .into_iter()
        .map(|(id, transport)| {
            let config = config(
                id,
                Start::Bootstrap {
                    voters: voters.clone(),
                },
            );
            let (handle, stream) =
                Node::spawn(config, transport, Directory::new(dir.join(id.to_string()))).unwrap();
            (id, Member { handle, stream })
        })
        .collect()
}

fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start(members: &BTreeMap<u64, Member>, command: &str) -> (u64, Started) {
    until("a leader", || {
        members.iter().find_map(|(id, member)| {
            member
                .handle
                .start(command.to_owned())
                .ok()
                .map(|started| (*id, started))
        })
    })
}

/// Takes from the stream up to the command.
fn take_until(member: &mut Member, started: Started) -> Vec<Applied> {
    let mut seen = Vec::new();
    while let Some(thing) = member.stream.recv_timeout(DEADLINE) {
        let done = matches!(&thing, Applied::Command { index, term, .. } if (*index, *term) == (started.index, started.term));
        seen.push(thing);
        if done {
            return seen;
        }
    }
    panic!("command {started:?} was not handed up: {seen:?}");
}

fn commands(things: &[Applied]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    for thing in things {
        if let Applied::Command { data, .. } = thing {
            found.push(&data[..]);
        }
    }
    found
}

#[test]
fn members_agree_read_transfer_grow_and_catch_up_by_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = group(dir.path());
    let (leads, first) = start(&members, "one");
    for member in members.values_mut() {
        assert_eq!(commands(&take_until(member, first)), [b"one"]);
    }
    for member in members.values() {
        assert!(member.handle.read_barrier().unwrap() >= first.index);
    }
    let to = NodeId(leads % 3 + 1);
    members[&leads].handle.transfer(to).unwrap();
    until("the target leads", || {
        members[&to.0].handle.state().1.then_some(())
    });
    match members[&leads].handle.start("x") {
        Err(StartError::NotLeader { hint }) => assert_eq!(hint, Some(to)),
        other => panic!("{other:?}"),
    }

    // A snapshot, and the log forgets: a new member cannot do without it.
    let (_, second) = start(&members, "two");
    for member in members.values_mut() {
        take_until(member, second);
        member.handle.snapshot(second.index, "state after two").unwrap();
    }
    until("snapshots are durable", || {
        members
            .values()
            .all(|member| member.handle.status().snapshot == second.index)
            .then_some(())
    });
    let transport = Transport::bind("127.0.0.1:0").unwrap();
    let address = transport.local_addr().unwrap().to_string();
    let known = members[&1].handle.status().membership.addresses;
    let joining = Node::spawn(
        config(4, Start::Join),
        transport.with_peers(known),
        Directory::new(dir.path().join("4")),
    );
    let (handle, stream) = joining.unwrap();
    members.insert(4, Member { handle, stream });
    let membership = members[&to.0]
        .handle
        .add_learner(NodeId(4), address.clone())
        .unwrap();
    assert_eq!(membership.addresses[&NodeId(4)], address);
    let snapshot = until("the snapshot", || members.get_mut(&4).unwrap().stream.try_recv());
    assert!(
        matches!(&snapshot, Applied::Snapshot { index, data, .. } if *index == second.index && data == "state after two"),
        "{snapshot:?}"
    );
    until("the learner has caught up", || {
        let status = members[&to.0].handle.status();
        status
            .matched
            .get(&NodeId(4))
            .is_some_and(|at| *at >= status.committed_log_index)
            .then_some(())
    });
    members[&to.0].handle.add_voter(NodeId(4), address).unwrap();
    let (_, third) = start(&members, "three");
    assert_eq!(
        commands(&take_until(members.get_mut(&4).unwrap(), third)),
        [b"three"]
    );

    members[&to.0].handle.remove(NodeId(4)).unwrap();
    let end = until("the removed member's stream says so", || {
        members
            .get_mut(&4)
            .unwrap()
            .stream
            .try_recv()
            .filter(|thing| *thing == Applied::Removed)
    });
    assert_eq!(end, Applied::Removed);
}

#[test]
fn after_a_restart_the_snapshot_comes_first_and_then_what_is_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let transport = Transport::bind("127.0.0.1:0").unwrap();
    let voters = BTreeMap::from([(NodeId(1), transport.local_addr().unwrap().to_string())]);
    let start_as = Start::Bootstrap { voters };
    let (handle, stream) =
        Node::spawn(config(1, start_as.clone()), transport, Directory::new(dir.path())).unwrap();
    let mut members = BTreeMap::from([(1, Member { handle, stream })]);
    let mut last = None;
    for n in 1..=5 {
        let (_, started) = start(&members, &n.to_string());
        let member = members.get_mut(&1).unwrap();
        take_until(member, started);
        if n == 3 {
            member.handle.snapshot(started.index, "three").unwrap();
        }
        last = Some(started);
    }
    members[&1].handle.shutdown();
    assert_eq!(members[&1].handle.start("late"), Err(StartError::Stopped));
    assert!(members.get_mut(&1).unwrap().stream.recv().is_none());

    let transport = Transport::bind("127.0.0.1:0").unwrap();
    let (handle, stream) = Node::spawn(config(1, start_as), transport, Directory::new(dir.path())).unwrap();
    let mut member = Member { handle, stream };
    let things = take_until(&mut member, last.unwrap());
    assert!(
        matches!(&things[0], Applied::Snapshot { index, data, .. } if index.0 == 3 && data == "three"),
        "{things:?}"
    );
    assert_eq!(commands(&things), [b"4", b"5"]);
}

/// Threads and file descriptors of this process.
fn resources() -> (usize, usize) {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// H-07. In a process of its own, because other tests open and close things meanwhile.
#[test]
fn h_07_nothing_is_left_after_a_shutdown() {
    const CHILD: &str = "QUORATE_NODE_LEFTOVERS";
    if std::env::var_os(CHILD).is_none() {
        let test = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "h_07_nothing_is_left_after_a_shutdown",
                "--test-threads=1",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(test.success());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let before = resources();
    for round in 0..3 {
        let members = group(&dir.path().join(round.to_string()));
        start(&members, "x");
        let during = resources();
        assert!(
            during.0 >= before.0 + 6 && during.1 > before.1,
            "{during:?} after {before:?}"
        );
        // By shutdown, and by dropping the last handle.
        members[&1].handle.shutdown();
        drop(members);
        // The system lists a thread that was joined for a moment longer.
        for _ in 0..20 {
            if resources() != before {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert_eq!(resources(), before, "round {round}");
    }
}

fn refused(config: Config, dir: &Path) -> String {
    let transport = Transport::bind("127.0.0.1:0").unwrap();
    match Node::spawn(config, transport, Directory::new(dir)) {
        Err(error) => error.to_string() + &source(&error),
        Ok(_) => panic!("it started"),
    }
}

fn source(error: &SpawnError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

#[test]
fn directories_that_are_not_this_members_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let alone = |id| Start::Bootstrap {
        voters: BTreeMap::from([(NodeId(id), "127.0.0.1:1".to_owned())]),
    };
    let text = refused(config(1, Start::Resume), &dir.path().join("new"));
    assert!(text.contains("empty"), "{text}");
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "dear").unwrap();
    let text = refused(config(1, alone(1)), &other);
    assert!(text.contains("letter.txt"), "{text}");

    let own = dir.path().join("own");
    let spawn = || {
        let transport = Transport::bind("127.0.0.1:0").unwrap();
        Node::spawn(config(1, alone(1)), transport, Directory::new(&own))
    };
    let (handle, stream) = spawn().unwrap();
    let text = refused(config(1, alone(1)), &own);
    assert!(text.contains("in use"), "{text}");
    let mut member = Member { handle, stream };
    let started = until("a start", || member.handle.start("x").ok());
    take_until(&mut member, started);
    member.handle.snapshot(started.index, "x").unwrap();
    until("the snapshot", || {
        (member.handle.status().snapshot == started.index).then_some(())
    });
    drop(member);

    let text = refused(config(2, alone(2)), &own);
    assert!(text.contains("belongs to member 1"), "{text}");
    let mut foreign = config(1, alone(1));
    foreign.cluster = ClusterId(98);
    let text = refused(foreign, &own);
    assert!(
        text.contains("belongs to member 1 of cluster") && text.contains("63"),
        "{text}"
    );
    // Every file: damaged, and of a newer version. What is refused is not touched.
    for (file, at, why) in [
        ("NODE", 20, "checksum"),
        ("snapshot", 90, "checksum"),
        ("snapshot", 60, "checksum"),
    ] {
        let path = own.join(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let text = refused(config(1, alone(1)), &own);
        assert!(
            text.contains(file) && text.contains(why),
            "{file} at {at}: {text}"
        );
        assert_eq!(fs::read(&path).unwrap(), bad);
        let mut newer = good.clone();
        newer[8] = 9;
        fs::write(&path, &newer).unwrap();
        let text = refused(config(1, alone(1)), &own);
        assert!(
            text.contains(file) && text.contains("version 9 is newer"),
            "{text}"
        );
        fs::write(&path, &good).unwrap();
    }
    fs::remove_file(own.join("NODE")).unwrap();
    let text = refused(config(1, alone(1)), &own);
    assert!(text.contains("no NODE file"), "{text}");
}

#[test]
fn a_configuration_out_of_range_says_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = config(1, Start::Join);
    wrong.election_ticks = 2;
    assert!(refused(wrong, dir.path()).contains("election_ticks (2) must be more than heartbeat_ticks (2)"));
    let elsewhere = Start::Bootstrap {
        voters: BTreeMap::from([(NodeId(2), String::new())]),
    };
    assert!(refused(config(1, elsewhere), dir.path()).contains("not among the voters"));
}

/// P7: a member whose disk was wiped does not come back under its old id.
#[test]
fn p7_a_wiped_member_is_refused_by_its_peers_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = group(dir.path());
    let (_, first) = start(&members, "one");
    members
        .values_mut()
        .for_each(|member| drop(take_until(member, first)));
    let addresses = members[&1].handle.status().membership.addresses;
    drop(members.remove(&3));
    fs::remove_dir_all(dir.path().join("3")).unwrap();
    // The operator's mistake: the same command line as at the first start.
    let transport = Transport::bind(addresses[&NodeId(3)].as_str()).unwrap();
    let again = config(3, Start::Bootstrap { voters: addresses });
    let (handle, mut stream) = Node::spawn(again, transport, Directory::new(dir.path().join("3"))).unwrap();
    let failure = until("it is told", || handle.failure());
    assert!(
        matches!(&*failure, FatalError::Identity(why) if why.contains("wiped")),
        "{failure}"
    );
    while stream.recv().is_some() {}
    // The others go on.
    let (_, second) = start(&members, "two");
    members
        .values_mut()
        .for_each(|member| drop(take_until(member, second)));
}
