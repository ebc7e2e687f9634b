//! The same commands against a real Redis and against a session, compared byte by byte.
//!
//! Needs `redis-server` in the path. Without it the test says so and does nothing, except where `CI` is set.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod client_support;

use client_support::redis::{Pair, Redis};
use client_support::{FakeStore, Harness, encode, view};

/// Every key command, with good and bad arguments. Times are either far away or in the past, so that the few
/// milliseconds between the two sides do not show.
const KEYS: &str = r#"
    GET a
    SET a 1
    GET a
    get A
    GET
    GET a b
    SET a
    SET a b EX
    SET a b EX 0
    SET a b EX x
    SET a b EX -1
    SET a b EX 1.5
    SET a b PX 9223372036854775807
    SET a b EX 9223372036854775807
    SET a b EX 9223372036854775
    SET a b PX 0
    SET a b EXAT 0
    SET a b EXAT -1
    SET a b PXAT 0
    SET a b NX XX
    SET a b XX NX
    SET a b EX 1 PX 1
    SET a b PX 1 EXAT 1
    SET a b KEEPTTL EX 1
    SET a b EX 1 KEEPTTL
    SET a b PERSIST
    SET a b FOO
    SET a b NX GET
    SET a b GET
    SET a c XX GET
    SET new c XX GET
    SET new c XX
    SET new c NX GET
    SET new d NX
    SET new d NX GET
    SET a b GET GET
    SET a b KEEPTTL KEEPTTL
    SET a b EX 100 EX 200
    TTL a
    SET a c KEEPTTL
    TTL a
    SET a c
    TTL a
    set a b ex 1000 nx get xx
    SET a b EXAT 4102444800
    TTL nokey
    PTTL nokey
    EXPIRETIME a
    PEXPIRETIME a
    EXPIRETIME nokey
    PEXPIRETIME nokey
    SET a b PXAT 4102444800499
    EXPIRETIME a
    SET a b PXAT 4102444800500
    EXPIRETIME a
    PEXPIRETIME a
    SET a b EXAT 1
    GET a
    EXISTS a
    TTL a
    SET a b EXAT 9223372036854775
    PEXPIRETIME a
    SET a b PXAT 9223372036854775807
    PEXPIRETIME a
    SETNX a x
    SETNX nx x
    SETNX nx y
    SETNX nx
    GET nx
    SETEX a 0 b
    SETEX a -1 b
    SETEX a x b
    SETEX a 100 b
    TTL a
    SETEX a 9223372036854775807 b
    PSETEX a -1 b
    PSETEX a 100000 b
    TTL a
    GETSET a new
    TTL a
    GETSET fresh x
    GETSET a
    GETDEL fresh
    GETDEL fresh
    GETEX a
    GETEX nokey
    GETEX a EX 100
    TTL a
    GETEX a PERSIST
    TTL a
    GETEX a EXAT 4102444800
    PEXPIRETIME a
    GETEX a PXAT 4102444800001
    PEXPIRETIME a
    GETEX a PX 100000
    TTL a
    GETEX a EX 0
    GETEX a EX x
    GETEX a FOO
    GETEX a EX 1 PERSIST
    GETEX a PERSIST EX 1
    GETEX a PERSIST PERSIST
    GETEX a KEEPTTL
    GETEX a NX
    GETEX a EX
    GETEX nokey PERSIST
    GETEX nokey EX 10
    GETEX a PXAT 1
    GETEX a
    APPEND a one
    APPEND a two
    APPEND a ""
    APPEND a
    STRLEN a
    STRLEN nokey
    GETRANGE a 0 -1
    GETRANGE a 1 2
    GETRANGE a -3 -1
    GETRANGE a -1 -3
    GETRANGE a 5 100
    GETRANGE a 100 200
    GETRANGE a -100 1
    GETRANGE a -100 -100
    GETRANGE a 3 1
    GETRANGE nokey 0 -1
    GETRANGE a x 1
    GETRANGE a 1 x
    GETRANGE a 9223372036854775807 9223372036854775807
    GETRANGE a -9223372036854775808 9223372036854775807
    SUBSTR a 0 1
    SUBSTR a 0
    SETRANGE a 2 XYZ
    GET a
    SETRANGE a 10 end
    GET a
    SETRANGE pad 3 x
    GET pad
    SETRANGE a -1 x
    SETRANGE a x x
    SETRANGE a 536870912 x
    SETRANGE a 9223372036854775807 x
    SETRANGE a 9223372036854775808 x
    SETRANGE a 3 ""
    SETRANGE nokey 3 ""
    EXISTS nokey
    INCR a
    INCR n
    INCRBY n 41
    DECR n
    DECRBY n 1
    DECRBY n -5
    INCRBY n x
    INCRBY n 1.5
    INCRBY n ""
    INCRBY n 9223372036854775807
    INCRBY n 9223372036854775808
    DECRBY n -9223372036854775808
    DECRBY n 9223372036854775807
    DECRBY n 100
    SET n 9223372036854775807
    INCR n
    SET n -9223372036854775808
    DECR n
    SET n " 1"
    INCR n
    SET n 01
    INCR n
    SET n ""
    INCR n
    SET n 1.5
    INCR n
    INCRBYFLOAT n 1
    INCRBYFLOAT n 0.1
    INCRBYFLOAT n -5
    SET n 10.5
    INCRBYFLOAT n 1e3
    INCRBYFLOAT n +1.5e3
    INCRBYFLOAT n .5
    INCRBYFLOAT n 1.
    INCRBYFLOAT n x
    INCRBYFLOAT n ""
    INCRBYFLOAT n " 1"
    INCRBYFLOAT n "1 "
    INCRBYFLOAT n nan
    INCRBYFLOAT n inf
    INCRBYFLOAT n -inf
    INCRBYFLOAT n
    SET f 3.0e3
    INCRBYFLOAT f 200
    SET f text
    INCRBYFLOAT f 1
    INCRBYFLOAT nof 10.5
    GET nof
    SET f 100 EX 100
    INCRBYFLOAT f 1
    TTL f
    INCR f
    TTL f
    APPEND f 0
    TTL f
    SETRANGE f 0 9
    TTL f
    MSET x 1 y 2 z 3
    MGET x y z nokey x
    MGET nokey
    MGET
    MSET x
    MSET x 1 y
    MSET x 1 x 2
    GET x
    MSETNX {t}1 a {t}2 b
    MSETNX {t}2 c {t}3 d
    EXISTS {t}1 {t}2 {t}3
    MSETNX {t}3
    MSETNX {t}3 a {t}4
    MSETNX {u}1 a {u}1 b
    GET {u}1
    EXISTS x
    EXISTS x y x nokey
    EXISTS
    TOUCH x y nokey
    TOUCH nokey
    TYPE x
    TYPE nokey
    TYPE
    DEL x
    DEL x y z
    DEL
    UNLINK nokey
    MSET x 1 y 2
    UNLINK x y x
    SET e v
    EXPIRE e 100
    TTL e
    EXPIRE e 200 NX
    EXPIRE e 200 XX
    TTL e
    EXPIRE e 100 GT
    EXPIRE e 300 GT
    EXPIRE e 400 LT
    EXPIRE e 50 lt
    EXPIRE e 60 XX GT
    TTL e
    PERSIST e
    PERSIST e
    PERSIST nokey
    TTL e
    EXPIRE e 100 XX
    EXPIRE e 100 GT
    EXPIRE e 100 LT
    TTL e
    PERSIST e
    EXPIRE e 100 NX
    EXPIRE nokey 100
    EXPIRE e x
    EXPIRE e x FOO
    EXPIRE e 100 FOO
    EXPIRE e 100 NX XX
    EXPIRE e 100 NX GT
    EXPIRE e 100 LT NX
    EXPIRE e 100 GT LT
    EXPIRE e 100 NX NX
    EXPIRE e 9223372036854775807
    EXPIRE e 9223372036854775
    EXPIRE e -9223372036854775808
    PEXPIRE e 9223372036854775807
    PEXPIRE e 100000
    TTL e
    PEXPIREAT e 9223372036854775807
    PEXPIRETIME e
    EXPIREAT e 4102444800
    PEXPIRETIME e
    EXPIREAT e 9223372036854775807
    PEXPIREAT e 4102444800123 XX
    PEXPIRETIME e
    EXPIRE e -1
    GET e
    SET e v
    EXPIREAT e 0
    EXISTS e
    SET e v
    PEXPIREAT e -5
    EXISTS e
    EXPIRE e
    EXPIRE
    FLUSHALL
    DBSIZE
    KEYS *
    SCAN 0
    SET only key
    DBSIZE
    DBSIZE x
    KEYS *
    KEYS o?l*
    KEYS x*
    KEYS
    SCAN 0 COUNT 1000
    SCAN 0 MATCH on[a-z]y COUNT 1000
    SCAN 0 MATCH x* COUNT 1000
    SCAN 0 TYPE string COUNT 1000
    SCAN 0 TYPE list COUNT 1000
    SCAN x
    SCAN 1x
    SCAN " 1"
    SCAN 18446744073709551616
    SCAN 0 COUNT 0
    SCAN 0 COUNT -1
    SCAN 0 COUNT x
    SCAN 0 COUNT
    SCAN 0 MATCH
    SCAN 0 FOO
    SCAN 0 FOO x
    SCAN
    FLUSHDB SYNC
    FLUSHDB ASYNC
    FLUSHALL sync
    FLUSHALL FOO
    FLUSHALL ASYNC SYNC
    DBSIZE
"#;

/// Commands about the connection and the server whose replies do not depend on which server it is.
const CONNECTION: &str = r#"
    PING
    ping hello
    PING a b
    ECHO "a b\x00\n"
    ECHO
    ECHO a b
    SELECT 0
    SELECT x
    SELECT -1
    SELECT 1000
    SELECT 99999999999
    SELECT
    HELLO 4
    HELLO 1
    HELLO x
    HELLO 2 FOO
    HELLO 2 AUTH a b
    HELLO 2 AUTH a
    HELLO 2 SETNAME
    HELLO 2 SETNAME "a b"
    HELLO 2 AUTH default anything SETNAME me
    CLIENT GETNAME
    HELLO
    CLIENT ID
    CLIENT ID x
    CLIENT SETNAME "a b"
    CLIENT SETNAME "a\nb"
    CLIENT SETNAME other
    CLIENT GETNAME
    CLIENT SETNAME ""
    CLIENT GETNAME
    CLIENT
    CLIENT FOO
    CLIENT "a\nb"
    CLIENT REPLY ON
    CLIENT REPLY FOO
    CLIENT REPLY
    CLIENT NO-EVICT ON
    CLIENT NO-EVICT x
    CLIENT LIST FOO
    CLIENT LIST ID
    CLIENT LIST ID x
    CLIENT LIST ID 999999
    CLIENT LIST TYPE foo
    CLIENT LIST TYPE pubsub
    AUTH x
    AUTH a b
    AUTH default x
    AUTH a b c
    CONFIG
    CONFIG FOO
    CONFIG GET
    CONFIG GET nosuchsetting
    CONFIG GET maxmemory-policy
    CONFIG SET foo
    CONFIG SET foo bar
    CONFIG REWRITE
    WAIT x 0
    WAIT 0 x
    WAIT 0 -1
    WAIT 0 1.5
    WAIT 0
    DEBUG
    DEBUG FOO
    INFO nosuchsection
    INFO cluster
    CLUSTER
    CLUSTER FOO
    COMMAND FOO
    COMMAND COUNT x
    COMMAND INFO nosuchcommand
    COMMAND INFO client|id config|get nosuch|thing
    COMMAND GETKEYS get a
    COMMAND GETKEYS get
    COMMAND GETKEYS get a b
    COMMAND GETKEYS ping a
    COMMAND GETKEYS foo a
    COMMAND GETKEYS mset a b c d
    COMMAND GETKEYS mset a b c
    COMMAND GETKEYS del a b c
    COMMAND LIST FOO
    COMMAND LIST FILTERBY MODULE x
    COMMAND LIST FILTERBY ACLCAT nosuch
    COMMAND LIST FILTERBY FOO x
    COMMAND LIST FILTERBY PATTERN getrang?
    COMMAND DOCS nosuchcommand
    FOO
    foo a "b c" d%s
    foo "a\r\nb\x00c" d
    "" x
"#;

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let mut compared = 0;
    for protocol in ["HELLO 2", "HELLO 3"] {
        let mut pair = Pair::new(&redis);
        pair.lines(protocol);
        pair.lines(KEYS);
        pair.lines(protocol);
        pair.lines(CONNECTION);
        // After HELLO 2 in the script.
        pair.lines(protocol);
        let long = "x".repeat(300);
        pair.lines(&format!(
            "{long}\n{long} a\nfoo {long} b\nfoo a {long} b\nclient {long}\nHELLO 2 {long}"
        ));
        pair.compare("zeros", &encode(&[b"foo\0bar", b"a\0b", b""]));
        pair.compare("no trailer check", b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n");
        pair.compare("empty ones", b"\r\n  \r\n*0\r\n*-1\r\n*-5\r\nPING\r\n");
        pair.compare("binary", &encode(&[b"SET", b"k\r\n\0\xff", &[0xff, 0, 13, 10]]));
        pair.compare("binary", &encode(&[b"GET", b"k\r\n\0\xff"]));
        pair.lines("RESET\nCLIENT GETNAME\nGET nokey");
        compared += pair.finish();
    }
    println!("{compared} replies compared");
}

#[test]
fn command_tables_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let mut pair = Pair::new(&redis);
    let (mut ours, mut store) = (Harness::new(view(&[0]), 1), FakeStore::new(view(&[0]).routes));
    let list = ours.ask(&mut store, "COMMAND LIST");
    // Containers have fewer subcommands here; some commands are ours alone.
    let containers = ["cas", "client", "cluster", "command", "config", "once", "quorate"];
    let names: Vec<&str> = list
        .split("\r\n")
        .skip(2)
        .step_by(2)
        .filter(|name| !containers.contains(name))
        .collect();
    assert!(names.len() > 50, "{names:?}");
    for protocol in ["HELLO 2", "HELLO 3"] {
        pair.lines(protocol);
        for name in &names {
            pair.lines(&format!("COMMAND INFO {name}"));
        }
    }
    pair.finish();
}

#[test]
fn protocol_errors_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let requests: Vec<Vec<u8>> = vec![
        b"*abc\r\n".to_vec(),
        b"*2147483648\r\n".to_vec(),
        b"*+1\r\n".to_vec(),
        b"*01\r\n".to_vec(),
        b"*-0\r\n".to_vec(),
        b"*\r\n".to_vec(),
        b"*1\r\nfoo\r\n".to_vec(),
        b"*1\r\n\r\n".to_vec(),
        b"*1\r\n\x01\x02\r\n".to_vec(),
        b"*1\r\n\xffa\r\n".to_vec(),
        b"*1\r\n$abc\r\n".to_vec(),
        b"*1\r\n$-1\r\n".to_vec(),
        b"*1\r\n$04\r\n".to_vec(),
        b"*1\r\n$536870913\r\n".to_vec(),
        b"PING 'a\r\n".to_vec(),
        b"\"a\"b\r\n".to_vec(),
        b"PING\r\n*1\r\n$x\r\n".to_vec(),
    ];
    for request in requests {
        let mut pair = Pair::new(&redis);
        pair.compare(
            &String::from_utf8_lossy(&request[..request.len().min(40)]),
            &request,
        );
        assert!(pair.ours.session.closing());
        pair.finish();
    }
}
