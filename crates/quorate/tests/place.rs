//! Groups and configs, by `ctl` and by HTTP, on real sockets and disks.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use serde_json::{Value, json};
use support::Cluster;
use support::control::ctl;
use support::http::{http, send};

fn refused(cluster: &Cluster, words: &str, why: &str) {
    let (code, out, err) = ctl(cluster, 1, words);
    assert!(
        code == Some(1) && err.contains(why),
        "{words}: {code:?} {out} {err}"
    );
}

fn said(cluster: &Cluster, words: &str) -> String {
    let (code, out, err) = ctl(cluster, 2, words);
    assert_eq!(code, Some(0), "{words}: {err}");
    out
}

fn said_json(cluster: &Cluster, words: &str) -> Value {
    serde_json::from_str(&said(cluster, &format!("{words} --json"))).unwrap()
}

#[test]
fn groups_come_and_go_by_ctl() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.wait_ready();
    let config = said_json(&cluster, "config");
    assert_eq!(config["config"], 1);
    assert_eq!(
        config["groups"],
        json!([{"group": 1, "stores": [1, 2, 3], "shards": 8}])
    );
    assert_eq!(config["shards"].as_array().unwrap().len(), 8);
    let first = json!({"shard": 1, "first-slot": 0, "last-slot": 2047, "group": 1});
    assert_eq!(config["shards"][0], first);
    assert!(said(&cluster, "config 0").starts_with("config 0\n\nno groups\n"));
    for (words, why) in [
        ("join 2=3", "it can be in one only; store 3 is in group 1"),
        ("join 2=9", "no id of this cluster; store 9 never registered"),
        ("join 1=1", "; group 1 has stores 1, 2, 3"),
        ("leave 1", "the last group cannot leave"),
        ("leave 1 7", "the last group cannot leave"),
        ("leave 7", "no group with that id"),
        ("move 99 1", "no shard with that id"),
        ("move 1 9", "; there is no group 9, only 1"),
        ("group add 9 1", "no group with that id"),
        ("group remove 1 1 2 3", "without stores"),
        ("join 2=3 --dry-run", "in another group"),
    ] {
        refused(&cluster, words, why);
    }
    let (code, _, err) = ctl(&cluster, 0, "join 2=");
    assert!(
        code == Some(2) && err.contains("is not GROUP=STORE,STORE"),
        "{err}"
    );
    assert_eq!(said_json(&cluster, "config"), config);
    assert_eq!(
        said(&cluster, "rebalance --dry-run"),
        "0 shards would move, 0 bytes; nothing was changed\n"
    );

    assert_eq!(said(&cluster, "group remove 1 3"), "config 2\n");
    let plan = said_json(&cluster, "join 2=3 --dry-run");
    assert_eq!(plan.as_array().unwrap().len(), 4, "{plan}");
    assert_eq!((&plan[0]["from"], &plan[0]["to"]), (&json!(1), &json!(2)));
    assert!(said(&cluster, "join 2=3 --dry-run").contains("4 shards would move"));
    assert_eq!(said_json(&cluster, "config")["config"], 2, "a dry run");
    for _ in 0..2 {
        assert_eq!(said(&cluster, "join 2=3"), "config 3\n");
    }
    let config = said_json(&cluster, "config");
    assert_eq!(
        config["groups"],
        json!([{"group": 1, "stores": [1, 2], "shards": 4}, {"group": 2, "stores": [3], "shards": 4}])
    );
    for planned in plan.as_array().unwrap() {
        let mut shards = config["shards"].as_array().unwrap().iter();
        let shard = shards.find(|shard| shard["shard"] == planned["shard"]).unwrap();
        assert_eq!(shard["group"], 2, "as planned");
    }
    assert_eq!(
        said_json(&cluster, "config 1")["groups"][0]["stores"],
        json!([1, 2, 3])
    );
    for row in said_json(&cluster, "moves").as_array().unwrap() {
        assert!(!row["from"].as_array().unwrap().is_empty() || !row["to"].as_array().unwrap().is_empty());
    }
    assert_eq!(said(&cluster, "move 1 2"), "config 4\n");
    assert_eq!(said(&cluster, "move 1 2"), "config 4\n");
    assert_eq!(said(&cluster, "rebalance"), "config 5\n");
    for _ in 0..2 {
        assert_eq!(said_json(&cluster, "leave 2"), json!({"config": 6}));
    }
    assert_eq!(said(&cluster, "group add 1 3"), "config 7\n");
}

#[test]
fn groups_come_and_go_by_http() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.wait_ready();
    let get = |path: &str| http(&cluster.nodes[1], "GET", path, "");
    let post = |path: &str, body: Value| http(&cluster.nodes[1], "POST", path, &body.to_string());
    let (status, config) = get("/v1/config");
    assert_eq!((status, &config["config"]), (200, &json!(1)));
    assert_eq!(get("/v1/config?num=0").1["groups"], json!([]));
    assert_eq!(get("/v1/stores").1.as_array().unwrap().len(), 3);
    assert_eq!(get("/v1/shards").0, 200);
    for (path, body, wanted, why) in [
        (
            "/v1/join",
            json!({"groups": {"2": [3]}}),
            409,
            "; store 3 is in group 1",
        ),
        ("/v1/join", json!({"groups": {}}), 409, "at least one group"),
        (
            "/v1/join",
            json!({"groups": {"2": []}}),
            409,
            "at least one group",
        ),
        ("/v1/join", json!({"groups": {"x": [3]}}), 400, "not such as"),
        ("/v1/join", json!({}), 400, "missing field"),
        ("/v1/leave", json!({"groups": [1]}), 409, "last group"),
        ("/v1/leave", json!({"groups": [-1]}), 400, "not such as"),
        (
            "/v1/move",
            json!({"shard": 1, "group": 9}),
            409,
            "no group with that id",
        ),
        ("/v1/move", json!({"shard": 1}), 400, "missing field"),
        (
            "/v1/move?dry_run=perhaps",
            json!({"shard": 1, "group": 1}),
            400,
            "dry_run=true",
        ),
        ("/v1/rebalance", json!({"now": true}), 400, "not {}"),
        ("/v1/drain", json!({"store": 9}), 409, "no id of this cluster"),
        ("/v1/drain?dry_run=true", json!({"store": 1}), 400, "no dry run"),
        ("/v1/remove", json!({"store": 3}), 409, "drain it first"),
        ("/v1/explode", json!({}), 404, "no /v1/explode"),
    ] {
        let (status, said) = post(path, body.clone());
        let text = said["error"].as_str().unwrap_or_default();
        assert!(
            status == wanted && text.contains(why),
            "{path} {body}: {status} {said}"
        );
    }
    assert_eq!(get("/v1/config?num=x").0, 400);
    assert_eq!(http(&cluster.nodes[1], "POST", "/v1/join", "{").0, 400);
    assert_eq!(
        http(&cluster.nodes[1], "POST", "/v1/join", &" ".repeat(100_000)).0,
        413
    );
    let text = send(
        &cluster.nodes[1],
        "POST",
        "/v1/rebalance",
        "Content-Type: text/plain\r\n",
        "{}",
    );
    assert_eq!(text.0, 415);
    assert_eq!(get("/v1/config").1, config);

    let changed = |path: &str, body: Value, num: u64| {
        let (status, said) = post(path, body);
        assert_eq!((status, &said["config"]), (200, &json!(num)), "{path}: {said}");
    };
    changed("/v1/group-remove", json!({"group": 1, "stores": [3]}), 2);
    let join = json!({"groups": {"2": [3]}});
    let (status, plan) = post("/v1/join?dry_run=true", join.clone());
    assert_eq!((status, plan.as_array().unwrap().len()), (200, 4), "{plan}");
    changed("/v1/join", join.clone(), 3);
    changed("/v1/join?dry_run=false", join, 3);
    changed("/v1/move", json!({"shard": 1, "group": 2}), 4);
    changed("/v1/rebalance", json!({}), 5);
    assert_eq!(get("/v1/moves").0, 200);
    changed("/v1/leave", json!({"groups": [2]}), 6);
    assert_eq!(
        post("/v1/drain", json!({"store": 3})),
        (200, json!({"result": "ok"}))
    );
    assert_eq!(get("/v1/stores").1[2]["service"], "draining");
    assert_eq!(post("/v1/undrain", json!({"store": 3})).0, 200);
}
