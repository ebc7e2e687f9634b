//! `check` from outside: lines, exit codes, the drawing.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::path::{Path, PathBuf};

use support::{Cluster, quorate};

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

/// What the clients of a seed saw can be judged, and drawn, outside of the simulator.
#[test]
fn what_the_clients_of_a_seed_saw_is_linearizable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed.jsonl");
    let path = path.to_str().unwrap();
    let sim = |args: &[&str]| {
        let output = quorate()
            .args(["sim", "--seed", "7", "--short", "--quiet"])
            .args(args)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(sim(&["--history", path]), (Some(0), String::new()));
    let (code, out, err) = check(&[path]);
    assert_eq!(out, format!("{path}: linearizable\n"));
    assert_eq!((code, err.as_str()), (Some(0), ""));

    // It must be one that could have been found wrong: with one answer changed it is.
    let written = std::fs::read_to_string(path).unwrap();
    let seen = written
        .lines()
        .rev()
        .find(|line| line.contains(r#""op":"get""#) && line.contains(r#""answer":{"hex":""#))
        .unwrap();
    let wrong = seen.replace(r#""answer":{"hex":""#, r#""answer":{"hex":"ffff"#);
    std::fs::write(path, written.replace(seen, &wrong)).unwrap();
    assert_eq!(check(&[path]).0, Some(1));

    let (code, err) = sim(&["--profile", "all", "--history", path]);
    assert!(code != Some(0) && err.contains("give one --profile"), "{err}");
    let (code, err) = sim(&["--history", "/nowhere/seed.jsonl"]);
    assert!(
        code != Some(0) && err.contains("cannot write /nowhere/seed.jsonl"),
        "{err}"
    );
}

/// A history of a live cluster, whose leaders are killed meanwhile, must be linearizable; and it must be one that
/// could have been found wrong.
#[test]
fn what_bench_records_of_a_cluster_is_linearizable() {
    let mut cluster = Cluster::start(3, &[]);
    let path = cluster.dir.path().join("history.jsonl");
    let bench = quorate()
        .args([
            "bench",
            "--seconds",
            "4",
            "--warmup",
            "0.2",
            "--clients",
            "12",
            "--keys",
            "8",
            "--threads",
            "2",
        ])
        .args([
            "--timeout-ms",
            "2000",
            "--json",
            "--endpoints",
            &cluster.addrs().join(","),
        ])
        .arg("--history")
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let leader = cluster.wait_leader_of(0);
    cluster.nodes[leader].kill();
    std::thread::sleep(std::time::Duration::from_millis(800));
    cluster.nodes[leader].start();
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let (code, out, err) = check(&[path.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let text = std::fs::read_to_string(&path).unwrap();
    let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    for part in ["get", "put", "append", "delete", "get_delete", "increment"] {
        let op = format!("\"op\":\"{part}\"");
        assert!(count(&op) > 0, "no {part} among {} lines", text.lines().count());
    }

    // The same history with one acknowledged increment taken back.
    let victim = text
        .lines()
        .find(|line| line.contains("\"op\":\"increment\"") && line.contains("\"outcome\":\"done\""))
        .unwrap();
    let other = victim.replace("\"outcome\":\"done\"", "\"outcome\":\"not applied\"");
    let without_answer: String = {
        let at = other.find("\"answer\":").unwrap();
        let end = at + other[at..].find(',').unwrap() + 1;
        format!("{}{}", &other[..at], &other[end..])
    };
    std::fs::write(&path, text.replacen(victim, &without_answer, 1)).unwrap();
    let (code, out, _) = check(&[path.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{out}");
}
