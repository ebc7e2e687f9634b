//! An unmodified redis-py, as a plain client and as a cluster client.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::process::Command;

use support::Cluster;

/// Runs the script; skips, with a message, where redis-py is not installed, but not in CI.
fn check(mode: &str, redis_mode: &str) {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let installed = Command::new(&python).args(["-c", "import redis"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI must have redis-py: pip install redis"
        );
        println!("skipped: {python} has no redis-py (pip install redis)");
        return;
    }
    let cluster = Cluster::start(3, &["--redis-mode", redis_mode]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts/redis_py_check.py");
    let output = Command::new(&python)
        .arg(script)
        .arg(mode)
        .args(cluster.addrs())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(output.status.success(), "{said}");
    println!("{said}");
}

#[test]
fn redis_py_as_a_plain_client_in_proxy_mode() {
    check("plain", "proxy");
}

#[test]
fn redis_py_as_a_cluster_client_in_cluster_mode() {
    check("cluster", "cluster");
}
