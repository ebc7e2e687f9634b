//! Commands drawn at random, against a real Redis and against a session, compared byte by byte.
//!
//! Needs `redis-server` in the path, as `resp_parity.rs`. `QUORATE_PARITY_COMMANDS` sets how many commands are drawn
//! per protocol (default 5000), `QUORATE_PARITY_SEED` which.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod client_support;

use client_support::redis::{Pair, Redis};
use client_support::{FakeStore, Harness, Random, encode, view};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

/// Keys are few, so that commands meet; some share a slot.
const KEYS: [&str; 5] = ["a", "b", "{a}1", "{a}2", "n"];
const VALUES: [&str; 21] = [
    "",
    "x",
    "hello",
    "0",
    "1",
    "-1",
    "10",
    "007",
    "+1",
    " 1",
    "1 ",
    "1.5",
    "-0.5",
    "3e2",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "99999999999999999999",
    "-0",
    "nan",
    "\x00\r\n",
];
/// Far away, past, or refused: what a TTL shows must not depend on the moment.
const TIMES: [&str; 16] = [
    "100000",
    "200000",
    "0",
    "-1",
    "-100000",
    "x",
    "",
    "1.5",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775",
    "9223372036854776",
    "-9223372036854776",
    "9223372036854775808",
    "4102444800",
    "4102444800000",
];
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "2",
    "-2",
    "5",
    "100",
    "-100",
    "536870912",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
];

/// One command with arguments of the right kinds, in the right number or not.
fn command(random: &mut Random) -> Vec<String> {
    // Time left in seconds is the same on both sides; in milliseconds only where there is none.
    const SHAPES: [(&str, &str); 41] = [
        ("get", "k"),
        ("set", "kvo"),
        ("set", "kvoo"),
        ("set", "kvooo"),
        ("setnx", "kv"),
        ("setex", "ktv"),
        ("psetex", "ktv"),
        ("getset", "kv"),
        ("getdel", "k"),
        ("getex", "kg"),
        ("getex", "kgg"),
        ("append", "kv"),
        ("strlen", "k"),
        ("getrange", "knn"),
        ("substr", "knn"),
        ("setrange", "kov"),
        ("incr", "k"),
        ("decr", "k"),
        ("incrby", "kv"),
        ("decrby", "kv"),
        ("incrbyfloat", "ff"),
        ("append", "ff"),
        ("mget", "kkk"),
        ("mset", "kvkv"),
        ("del", "kk"),
        ("unlink", "kk"),
        ("exists", "kkk"),
        ("touch", "kk"),
        ("type", "k"),
        ("expire", "kt"),
        ("expire", "ktc"),
        ("pexpire", "ktc"),
        ("expireat", "ktc"),
        ("expireat", "kt"),
        ("pexpireat", "ktcc"),
        ("pexpireat", "kt"),
        ("persist", "k"),
        ("ttl", "k"),
        ("expiretime", "k"),
        ("set", "kv"),
        ("scan", "s"),
    ];
    let (name, shape) = SHAPES[random.below(SHAPES.len())];
    let name: String = match random.below(4) {
        0 => name.to_uppercase(),
        _ => name.to_owned(),
    };
    let mut args = vec![name];
    for kind in shape.chars() {
        match kind {
            'k' => args.push(pick(random, &KEYS).into()),
            'v' => args.push(pick(random, &VALUES).into()),
            // A key of its own: Redis calculates with long doubles, and reads hexadecimal numbers.
            'f' if args.len() == 1 => args.push("f".into()),
            'f' => args.push(
                pick(
                    random,
                    &["1", "-1", "0.5", "-2.25", "1e2", "x", "", " 1", "nan", "inf"],
                )
                .into(),
            ),
            't' => args.push(pick(random, &TIMES).into()),
            'n' => args.push(pick(random, &NUMBERS).into()),
            'c' => args.push(pick(random, &["nx", "XX", "gt", "LT", "foo", ""]).into()),
            // Small offsets only: Redis would make a string of half a gigabyte.
            'o' if shape == "kov" => {
                args.push(pick(random, &["0", "3", "10", "-1", "x", "536870912"]).into())
            }
            'o' => match random.below(9) {
                0 => args.push("nx".into()),
                1 => args.push("XX".into()),
                2 => args.push("get".into()),
                3 => args.push("KEEPTTL".into()),
                4 => args.push("persist".into()),
                5 => args.push("foo".into()),
                _ => {
                    args.push(pick(random, &["ex", "PX", "exat", "PXAT"]).into());
                    args.push(pick(random, &TIMES).into());
                }
            },
            'g' => match random.below(4) {
                0 => args.push("persist".into()),
                1 => args.push("keepttl".into()),
                _ => {
                    args.push(pick(random, &["EX", "px", "EXAT", "pxat"]).into());
                    args.push(pick(random, &TIMES).into());
                }
            },
            's' => {
                // Other cursors, -1 included, are places in Redis's hash table, whose order is drawn at each start.
                args.push(pick(random, &["0", "0", "0", "0", "x", "", "18446744073709551616"]).into());
                let count = pick(random, &["1000", "1000", "0", "-1", "x", "9223372036854775807"]);
                args.extend(["count".into(), count.into()]);
                // At most one key is listed: the order is each server's own.
                args.extend(["match".into(), pick(random, &["n", "b*", "?", "zz"]).into()]);
                if args[5] == "?" {
                    args[5] = "[n]".into();
                }
            }
            _ => unreachable!(),
        }
    }
    // Now and then an argument too many, too few, or none.
    match random.below(25) {
        0 => args.push(pick(random, &VALUES).into()),
        1 => args.truncate(args.len().max(2) - 1),
        2 => args.truncate(1),
        _ => {}
    }
    args
}

#[test]
fn random_commands_answer_alike() {
    let Some(redis) = Redis::start() else { return };
    let commands = setting("QUORATE_PARITY_COMMANDS", 5000);
    for protocol in ["HELLO 2", "HELLO 3"] {
        let mut random = Random(setting("QUORATE_PARITY_SEED", 0x5eed));
        let mut pair = Pair::new(&redis);
        pair.lines(protocol);
        for _ in 0..commands {
            let args = command(&mut random);
            let bytes: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
            pair.compare(&args.join(" "), &encode(&bytes));
        }
        assert!(pair.finish() as u64 > commands);
    }
}

/// Every command with too few and too many arguments.
#[test]
fn numbers_of_arguments_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let (mut ours, mut store) = (Harness::new(view(&[0]), 1), FakeStore::new(view(&[0]).routes));
    let list = ours.ask(&mut store, "COMMAND LIST");
    // Ours alone; and those whose answer is about the server.
    let skipped = [
        "cas",
        "once",
        "quorate",
        "command",
        "info",
        "time",
        "cluster",
        "role",
        "asking",
        "readonly",
        "readwrite",
        "quit",
        "config",
        "client",
        "debug",
        "hello",
        "lastsave",
    ];
    let names: Vec<&str> = list.split("\r\n").skip(2).step_by(2).collect();
    for protocol in ["HELLO 2", "HELLO 3"] {
        let mut pair = Pair::new(&redis);
        pair.lines(protocol);
        for name in names
            .iter()
            .filter(|name| !skipped.contains(name) && !name.is_empty())
        {
            for count in 0..8 {
                let args = vec!["{a}x"; count].join(" ");
                pair.lines(&format!("{name} {args}"));
            }
        }
        assert!(pair.finish() > 300);
    }
}

/// Bytes of every kind: a session answers or ends, and never panics, hangs or takes more memory than it was sent.
#[test]
fn arbitrary_bytes_are_survived() {
    let pieces: [&[u8]; 24] = [
        b"*",
        b"$",
        b"\r\n",
        b"\n",
        b"\r",
        b"1",
        b"3",
        b"-1",
        b"0",
        b"GET",
        b"SET",
        b"a",
        b" ",
        b"\"",
        b"'",
        b"\\x",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00",
        b"\xff\xfe",
        b"9223372036854775807",
        b"*1048576\r\n",
        b"$67108864\r\n",
    ];
    for seed in 1..2000 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut ours = Harness::new(view(&[0]), 1);
        let mut store = FakeStore::new(ours.view.routes.clone());
        let (mut sent, mut answered) = (0, 0);
        for _ in 0..random.below(60) {
            let bytes: Vec<u8> = match random.below(8) {
                0 => (0..random.below(20)).map(|_| random.below(256) as u8).collect(),
                _ => pieces[random.below(pieces.len())].to_vec(),
            };
            sent += bytes.len();
            ours.send(&bytes);
            ours.settle(&mut store);
            answered += ours.session.output().split().len();
            assert!(
                ours.session.input().capacity() <= 64 * (sent + 1024),
                "seed {seed}"
            );
            if ours.session.closing() {
                break;
            }
        }
        assert!(
            answered < 200 * (sent + 10),
            "seed {seed}: {answered} bytes for {sent}"
        );
        // What is not a protocol error leaves the connection of use.
        let waits = !ours.session.input().is_empty();
        if !ours.session.closing() && !waits {
            assert_eq!(
                ours.ask(&mut store, "ECHO still"),
                "$5\r\nstill\r\n",
                "seed {seed}"
            );
        }
    }
}
