//! `check` from outside: lines, exit codes, the drawing.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::path::{Path, PathBuf};

use support::quorate;

fn histories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/histories")
}

fn check(args: &[&str]) -> (Option<i32>, String, String) {
    let output = quorate()
        .arg("check")
        .args(args)
        .current_dir(histories())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_line_for_each_file_and_the_worst_as_exit_code() {
    let (code, out, err) = check(&["cas-ok.jsonl", "register-ok.jsonl"]);
    assert_eq!(
        out,
        "cas-ok.jsonl: linearizable\nregister-ok.jsonl: linearizable\n"
    );
    assert_eq!((code, err.as_str()), (Some(0), ""));

    let (code, out, err) = check(&["cas-ok.jsonl", "stale-read-bad.jsonl"]);
    assert_eq!(
        out,
        "cas-ok.jsonl: linearizable\nstale-read-bad.jsonl: not linearizable\n"
    );
    assert!(err.contains("the key then holds \"b\""), "{err}");
    assert_eq!(code, Some(1));

    let (code, out, _) = check(&["stale-read-bad.jsonl", "absent.jsonl", "cas-ok.jsonl"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "stale-read-bad.jsonl: not linearizable");
    assert!(
        lines[1].starts_with("absent.jsonl: unknown: No such file"),
        "{out}"
    );
    assert_eq!((code, lines.len()), (Some(2), 3));

    let (code, out, _) = check(&["--model", "register", "register-ok.jsonl", "cas-ok.jsonl"]);
    assert!(
        out.contains("cas-ok.jsonl: unknown: a register holds decimal"),
        "{out}"
    );
    assert_eq!(code, Some(2));

    assert_eq!(check(&[]).0, Some(2));
}

#[test]
fn a_malformed_file_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.jsonl");
    let head = r#"{"format":"quorate-history","version":1,"model":"kv","unit":"ns"}"#;
    std::fs::write(&path, format!("{head}\n{{}}\n")).unwrap();
    let (code, out, _) = check(&[path.to_str().unwrap()]);
    assert_eq!(
        out,
        format!("{}: unknown: line 2: \"client\" is missing\n", path.display())
    );
    assert_eq!(code, Some(2));
}

#[test]
fn an_illegal_history_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.html");
    let html = path.to_str().unwrap();
    let (code, _, _) = check(&["--html", html, "read-goes-back-bad.jsonl", "cas-ok.jsonl"]);
    assert_eq!(code, Some(1));
    let page = std::fs::read_to_string(&path).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "read-goes-back-bad.jsonl: not linearizable",
        "op stuck",
        "client 3",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let (code, _, err) = check(&["--html", "/nowhere/h.html", "cas-ok.jsonl"]);
    assert!(
        code == Some(2) && err.contains("cannot write /nowhere/h.html"),
        "{err}"
    );
}

#[test]
fn a_directory_of_known_verdicts_is_checked() {
    let (code, out, _) = check(&["--conformance", "."]);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.lines().last().unwrap().contains("have their known verdict"),
        "{out}"
    );

    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(
        histories().join("stale-read-bad.jsonl"),
        dir.path().join("wrong-ok.jsonl"),
    )
    .unwrap();
    let (code, out, _) = check(&["--conformance", dir.path().to_str().unwrap()]);
    assert!(code == Some(1) && out.contains("WRONG"), "{out}");
    let empty = tempfile::tempdir().unwrap();
    let (code, _, err) = check(&["--conformance", empty.path().to_str().unwrap()]);
    assert!(
        code == Some(2) && err.contains("no histories with known verdicts"),
        "{err}"
    );
}
