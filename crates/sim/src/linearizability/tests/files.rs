//! Files: what is written is read back, and what is wrong is named.

use std::path::Path;

use crate::linearizability::history::{
    Answer, Command, Condition, Deadline, History, ModelKind, Operation, Outcome, Unit,
};
use crate::linearizability::read::{ReadError, RecordedHistory, parse};
use crate::linearizability::{Budget, Verdict, write_history};

fn read(text: &str) -> Result<RecordedHistory, ReadError> {
    parse(Path::new("f"), text.as_bytes(), 1 << 20)
}

fn every_operation() -> History {
    let mut history = History::new(Unit::Nanoseconds);
    let raw = || bytes::Bytes::from_static(&[0, 0xff, b'a']);
    let put = |condition, deadline, get| Command::Put {
        value: raw(),
        condition,
        deadline,
        get,
    };
    let commands = [
        (Command::Get, Answer::Value(None)),
        (Command::Get, Answer::Value(Some(raw()))),
        (put(Condition::Always, Deadline::Clear, false), Answer::Done),
        (
            put(Condition::IfAbsent, Deadline::Keep, false),
            Answer::Bool(false),
        ),
        (
            put(Condition::IfPresent, Deadline::Set, true),
            Answer::Value(Some(raw())),
        ),
        (
            put(Condition::IfEquals("\"é".into()), Deadline::Set, true),
            Answer::Value(None),
        ),
        (Command::append("x\n"), Answer::Int(3)),
        (
            Command::SetRange {
                offset: 7,
                value: raw(),
            },
            Answer::Int(10),
        ),
        (Command::Increment { delta: -3 }, Answer::Int(i64::MIN)),
        (Command::Increment { delta: 3 }, Answer::Refused),
        (Command::Delete, Answer::Bool(true)),
        (Command::GetDelete, Answer::Value(Some("".into()))),
        (Command::Expire, Answer::Bool(true)),
        (Command::Persist, Answer::Bool(false)),
        (
            Command::GetExpire {
                deadline: Deadline::Keep,
            },
            Answer::Value(None),
        ),
    ];
    for (at, (command, answer)) in (0..).zip(commands) {
        history.push(Operation {
            client: at,
            key: raw(),
            command,
            invoked: at,
            outcome: Outcome::Done { at: at + 9, answer },
        });
    }
    history.invoke(1, "k", Command::put("u"), u64::MAX);
    let id = history.invoke(2, "k", Command::put("n"), 5);
    history.not_applied(id, 5);
    history
}

#[test]
fn what_is_written_is_read_back() {
    for empty in [false, true] {
        let mut history = every_operation();
        if empty {
            history.set_absent_is_empty();
        }
        let mut text = Vec::new();
        write_history(&history, ModelKind::Kv, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), history.operations().len() + 2);
        let read = read(&text).unwrap();
        assert_eq!(read.model, ModelKind::Kv);
        assert_eq!(read.history, history);
    }
}

/// Version 1 as it is documented: files of today must stay readable.
#[test]
fn the_documented_example_is_read() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats-history.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page
        .split("```jsonl\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let recorded = read(example).unwrap();
    assert!(recorded.history.operations().len() >= 5);
    assert_eq!(recorded.check(&Budget::default()), Verdict::Linearizable);
}

const HEAD: &str = r#"{"format":"quorate-history","version":1,"model":"kv","unit":"us"}"#;

#[test]
fn wrong_lines_are_named_with_what_would_be_right() {
    let put = r#"{"client":1,"key":"k","op":"put","value":"v","call":5,"return":6,"outcome":"done"}"#;
    let with = |from: &str, to: &str| format!("{HEAD}\n{}\n{{\"operations\":1}}", put.replace(from, to));
    assert!(read(&with("", "")).is_ok());
    let register = HEAD.replace("kv", "register");
    let cases = [
        (String::new(), "f:1: the file is empty"),
        ("hello".into(), "f:1: no history in a known format"),
        (
            "{\"a\":1}".into(),
            "f:1: \"format\" must be \"quorate-history\", not null",
        ),
        (
            HEAD.replace("1", "2"),
            "f:1: version 2; this program reads version 1",
        ),
        (
            HEAD.replace("kv", "queue"),
            "\"model\" must be \"kv\" or \"register\", not \"queue\"",
        ),
        (HEAD.replace("us", "s"), "\"unit\" must be"),
        (HEAD.to_owned(), "f:1: the history is cut short"),
        (format!("{HEAD}\n{put}\n"), "f:2: the history is cut short"),
        (
            format!("{HEAD}\n{put}\n{{\"operations\":2}}"),
            "f:3: \"operations\" is 2, but there are 1",
        ),
        (
            format!("{HEAD}\n{put}\n{{\"operations\":1}}\n\n{put}"),
            "f:5: nothing may follow",
        ),
        (format!("{HEAD}\n{{\"client\":1"), "f:2: not JSON"),
        (format!("{HEAD}\n[]"), "f:2: a line must be one JSON object"),
        (
            with("\"put\"", "\"putt\""),
            "f:2: unknown \"op\" \"putt\"; known are get",
        ),
        (with("\"client\":1,", ""), "f:2: \"client\" is missing"),
        (
            with("\"client\":1,", "\"client\":-1,"),
            "f:2: \"client\" must be a non-negative",
        ),
        (
            with("\"v\"", "7"),
            "f:2: \"value\": a value must be a string or {\"hex\":\"00ff\"}, not 7",
        ),
        (
            with("\"v\"", "{\"hex\":\"0g\"}"),
            "f:2: \"value\": a value must be",
        ),
        (
            with("\"return\":6", "\"return\":4"),
            "f:2: \"return\" is 4, before \"call\", 5",
        ),
        (with("\"return\":6,", ""), "f:2: \"return\" is missing"),
        (with("\"done\"", "\"maybe\""), "f:2: \"outcome\" must be \"done\""),
        (
            with("}", ",\"answer\":3}"),
            "f:2: \"answer\" to this command must be true or false, not 3",
        ),
        (with("}", ",\"note\":3}"), "f:2: unknown field \"note\""),
        (
            with("\"put\",\"value\":\"v\"", "\"get\""),
            "f:2: a get that is done needs \"answer\"",
        ),
        (
            format!("{register}\n{put}"),
            "f:2: a register holds decimal 64-bit integers, not \"v\"",
        ),
        (
            format!("{register}\n{}", put.replace("put", "append")),
            "f:2: a register knows get, put and cas, not append",
        ),
    ];
    for (text, said) in cases {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}\n{error}\nshould say {said}");
    }
    let bytes = [HEAD.as_bytes(), b"\n\xff\n"].concat();
    let error = parse(Path::new("f"), bytes.as_slice(), 1 << 20).unwrap_err();
    assert!(error.to_string().contains("f:2: not UTF-8"), "{error}");
    let error = parse(Path::new("f"), with("", "").as_bytes(), 100).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { .. }));
    let nested = format!("{HEAD}\n{}", "[".repeat(100_000));
    assert!(read(&nested).unwrap_err().to_string().contains("not JSON"));
}

#[test]
fn foreign_formats_are_read_and_their_mistakes_named() {
    let edn = [
        r#"{:process 0, :type :invoke, :f :append, :key "0", :value "x \"0\" y"}"#,
        r#"{:process 1, :type :invoke, :f :get, :key "0", :value nil}"#,
        r#"{:process 0, :type :ok, :f :append, :key "0", :value "x \"0\" y"}"#,
        r#"{:process 1, :type :ok, :f :get, :key "0", :value ""}"#,
    ];
    let recorded = read(&edn.join("\n")).unwrap();
    assert_eq!(recorded.history.operations().len(), 2);
    assert_eq!(recorded.check(&Budget::default()), Verdict::Linearizable);
    let etcd = [
        "INFO  jepsen.util - 0\t:invoke\t:write\t4",
        "INFO  jepsen.util - 0\t:info\t:write\t:timed-out",
        "INFO  jepsen.util - 1   :invoke :cas    [4 5]",
        "INFO  jepsen.util - 1   :fail   :cas    [4 5]",
        "INFO  jepsen.util - 2   :invoke :read   nil",
        "INFO  jepsen.util - 2   :ok     :read   4",
    ];
    let recorded = read(&etcd.join("\n")).unwrap();
    assert_eq!(recorded.model, ModelKind::Register);
    assert_eq!(recorded.check(&Budget::default()), Verdict::Linearizable);

    let twice = [edn[0], edn[0]].join("\n");
    let stray = [edn[1], edn[2]].join("\n");
    let other = [
        edn[0],
        r#"{:process 0, :type :ok, :f :put, :key "0", :value "a"}"#,
    ]
    .join("\n");
    for (text, said) in [
        (
            twice.as_str(),
            "f:2: process 0 invokes an operation while its append is under way",
        ),
        (
            stray.as_str(),
            "f:2: process 0 ends a append that it has not invoked",
        ),
        (
            other.as_str(),
            "f:2: process 0 ends a put; it has invoked a append",
        ),
        (
            r#"{:process 0, :type :invoke, :f :get, :key "0"#,
            "f:1: a line must be one map",
        ),
        (
            r#"{:process 0, :type :invoke, :f :get, :key "0}"#,
            "f:1: a string has no end",
        ),
        (
            r#"{:process x, :type :invoke}"#,
            "f:1: x is no keyword, string, number or nil",
        ),
        (
            r#"{:process 0, :type :invoke, :f :swap, :key "0"}"#,
            "f:1: unknown operation :swap",
        ),
        (r#"{:process 0, :type :invoke, :f :get}"#, "f:1: :key is missing"),
        (
            r#"{:process 0, :type :invoke, :f :put, :key "0"}"#,
            "f:1: a put needs a string as :value",
        ),
        (
            "INFO  jepsen.util - 0 :invoke :cas 4",
            "f:1: a :cas needs [old new], not 4",
        ),
        (
            "INFO  jepsen.util - 0 :invoke :write x",
            "f:1: x is no 64-bit integer",
        ),
        (
            "INFO  jepsen.util - zero :invoke :read nil",
            "f:1: zero is no process number",
        ),
        ("INFO  jepsen.util - 0", "f:1: an event needs"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}\n{error}\nshould say {said}");
    }
}
