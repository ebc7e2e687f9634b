//! `/v1/…`: the controller by HTTP, with JSON.
//!
//! A request becomes the command of `QUORATE …` that `quorate ctl` sends, to this very node as a client of its own: one way
//! of asking, one set of answers, and a slow request costs the reactor what a slow client costs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use quorate_client::plain::{Client, ClientError};
use quorate_client::resp::Reply;
use quorate_client::slots::slot_of;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::explain::{Listed, explain};
use crate::json;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Requests under way; more wait their turn.
const UNDER_WAY_MAX: usize = 8;

/// The node that is asked.
#[derive(Clone, Debug)]
pub struct Node {
    addr: SocketAddr,
    /// How long it may take to answer.
    patience: Duration,
    turns: Arc<Semaphore>,
}

impl Node {
    /// The node that listens for clients there, and answers within so many milliseconds.
    #[must_use]
    pub fn new(listen: SocketAddr, request_timeout_ms: u32) -> Self {
        let mut addr = listen;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        Self {
            addr,
            patience: Duration::from_millis(u64::from(request_timeout_ms) + 1000),
            turns: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        }
    }

    async fn ask(&self, words: Vec<String>) -> Result<Reply, Refused> {
        let _turn = self.turns.acquire().await;
        let (addr, patience) = (self.addr.to_string(), self.patience);
        let asked = tokio::task::spawn_blocking(move || {
            let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
            Client::connect(&addr, patience)?.command(&words)
        });
        match asked.await {
            Ok(Ok(Reply::Error(text))) => Err(Refused::by_node(text)),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error @ ClientError::Connect { .. })) => {
                Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
            }
            Ok(Err(error)) => Err(Refused::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!("{error}; whether it was done is not known, and to ask again does no harm"),
            )),
            Err(error) => Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    }
}

impl Node {
    /// A refusal with the names of what does not fit, if they can be had.
    async fn named(&self, mut refused: Refused, words: &[String]) -> Refused {
        let list = async |what: &str| self.ask(vec!["QUORATE".into(), what.into()]).await.ok();
        let config = list("CONFIG").await.and_then(|reply| json::row(&reply));
        let stores = list("REGISTRY").await.and_then(|reply| json::rows(&reply));
        if let (Some(config), Some(stores)) = (&config, &stores) {
            for name in explain(words, Listed { config, stores }) {
                refused.why += &format!("; {name}");
            }
        }
        refused
    }
}

/// Why there is no answer.
struct Refused {
    status: StatusCode,
    why: String,
}

impl Refused {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { status, why }
    }

    fn request(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// What looks for something asks wrongly if it is refused for good.
    fn lookup(mut self) -> Self {
        if self.status == StatusCode::CONFLICT {
            self.status = StatusCode::BAD_REQUEST;
        }
        self
    }

    fn by_node(text: String) -> Self {
        let status = match text.split(' ').next() {
            Some("ERR") => StatusCode::CONFLICT,
            Some("UNKNOWN") => StatusCode::GATEWAY_TIMEOUT,
            // BUSY, NOTAPPLIED, CLUSTERDOWN and the like: later, perhaps.
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, text)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, said(&json!({ "error": self.why }))).into_response()
    }
}

fn said(value: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!("{value:#}\n"),
    )
        .into_response()
}

/// The pages.
pub(super) fn router(node: Node) -> Router {
    Router::new()
        .route("/v1/config", get(config))
        .route("/v1/stores", get(stores))
        .route("/v1/shards", get(shards))
        .route("/v1/moves", get(moves))
        .route("/v1/{verb}", post(change))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(node)
}

async fn list(node: &Node, words: &[&str]) -> Result<Response, Refused> {
    let words = ["QUORATE"].iter().chain(words).map(|word| (*word).to_owned());
    rows(&node.ask(words.collect()).await?)
}

async fn moves(State(node): State<Node>) -> Result<Response, Refused> {
    list(&node, &["MOVES"]).await
}

async fn stores(State(node): State<Node>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    match parameters(query.as_deref()).collect::<Vec<_>>().as_slice() {
        [] => list(&node, &["REGISTRY"]).await,
        [("store", store)] => list(&node, &["REGISTRY", store]).await.map_err(Refused::lookup),
        _ => Err(Refused::request("there is only store=ID")),
    }
}

async fn shards(State(node): State<Node>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let asked: Vec<(&str, &str)> = parameters(query.as_deref()).collect();
    // By its slot: a word of a command is text here, and a key may be any bytes.
    let words: Vec<String> = match asked.as_slice() {
        [] => vec![],
        [("key", key)] => {
            let key = unescaped(key).ok_or_else(|| {
                Refused::request(
                    "the key is not escaped as in a URL: %XX for each byte that is no letter or digit",
                )
            })?;
            vec!["SLOT".into(), slot_of(&key).to_string()]
        }
        [(what @ ("shard" | "slot" | "before"), number)] => vec![what.to_uppercase(), (*number).to_owned()],
        [("from", slot), ("limit", limit)] | [("limit", limit), ("from", slot)] => {
            vec!["FROM".into(), (*slot).to_owned(), (*limit).to_owned()]
        }
        _ => {
            return Err(Refused::request(
                "there is only one of shard=ID, key=KEY, slot=N, before=SLOT, and from=SLOT&limit=N",
            ));
        }
    };
    let words: Vec<&str> = ["MAP"]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    list(&node, &words).await.map_err(Refused::lookup)
}

/// The bytes that are meant in a URL; none if a `%` has no two hexadecimal digits behind it.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut found = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        found.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    Some(found)
}

async fn config(State(node): State<Node>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let mut words = vec!["QUORATE".to_owned(), "CONFIG".to_owned()];
    for (name, value) in parameters(query.as_deref()) {
        if name != "num" || value.parse::<i64>().is_err() {
            return Err(Refused::request(format!(
                "`{name}={value}`: there is only num=N, the number of a config"
            )));
        }
        words.push(value.to_owned());
    }
    let reply = node.ask(words).await?;
    let config = json::row(&reply).ok_or_else(|| unexpected(&reply))?;
    Ok(said(&Value::Object(config)))
}

fn rows(reply: &Reply) -> Result<Response, Refused> {
    let rows = json::rows(reply).ok_or_else(|| unexpected(reply))?;
    Ok(said(&rows.into_iter().map(Value::Object).collect()))
}

fn unexpected(reply: &Reply) -> Refused {
    Refused::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("an answer that does not fit: {reply:?}"),
    )
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A change, or what it would come to.
async fn change(
    State(node): State<Node>,
    Path(verb): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    // What a web page may send to another site unasked is never JSON.
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    if kind.and_then(|kind| kind.split(';').next()).map(str::trim) != Some("application/json") {
        return Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON, with `Content-Type: application/json`",
        ));
    }
    let body = body.map_err(|error| Refused::new(error.status(), error.body_text()))?;
    let mut is_dry_run = false;
    for (name, value) in parameters(query.as_deref()) {
        is_dry_run = match (name, value) {
            ("dry_run", "true") => true,
            ("dry_run", "false") => false,
            _ => {
                return Err(Refused::request(format!(
                    "`{name}={value}`: there is only dry_run=true and dry_run=false"
                )));
            }
        };
    }
    let words = match Change::read(&verb, &body)? {
        Change::Placement(words) => words,
        Change::Store(_) if is_dry_run => {
            return Err(Refused::request(format!("/v1/{verb} has no dry run")));
        }
        Change::Store(words) => {
            node.ask(words).await?;
            return Ok(said(&json!({ "result": "ok" })));
        }
        Change::None => {
            return Err(Refused::new(
                StatusCode::NOT_FOUND,
                format!("there is no /v1/{verb}"),
            ));
        }
    };
    let verb = if is_dry_run { "PLAN" } else { "PLACE" };
    let mut all = vec!["QUORATE".to_owned(), verb.to_owned()];
    all.extend(words.clone());
    match node.ask(all).await {
        Ok(Reply::Int(num)) => Ok(said(&json!({ "config": num }))),
        Ok(reply) if is_dry_run => rows(&reply),
        Ok(reply) => Err(unexpected(&reply)),
        Err(refused) if refused.status == StatusCode::CONFLICT => Err(node.named(refused, &words).await),
        Err(refused) => Err(refused),
    }
}

/// What is asked, in the words of `QUORATE`.
enum Change {
    /// Behind `PLACE` or `PLAN`.
    Placement(Vec<String>),
    /// All of them.
    Store(Vec<String>),
    /// Nothing that there is.
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    groups: BTreeMap<u64, BTreeSet<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    groups: BTreeSet<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    shard: u64,
    group: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Regroup {
    group: u64,
    stores: BTreeSet<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfStore {
    store: u64,
}

impl Change {
    fn read(verb: &str, body: &Bytes) -> Result<Self, Refused> {
        fn read<T: DeserializeOwned>(body: &Bytes, shape: &str) -> Result<T, Refused> {
            serde_json::from_slice(body)
                .map_err(|error| Refused::request(format!("the body is not such as {shape}: {error}")))
        }
        let texts = |ids: BTreeSet<u64>| ids.into_iter().map(|id| id.to_string());
        let words = |verb: &str| vec![verb.to_owned()];
        Ok(match verb {
            "join" => {
                let join: Join = read(body, r#"{"groups": {"2": [4, 5, 6]}}"#)?;
                let mut words = words("JOIN");
                for (group, stores) in join.groups {
                    words.push(format!("{group}={}", texts(stores).collect::<Vec<_>>().join(",")));
                }
                Change::Placement(words)
            }
            "leave" => {
                let leave: Leave = read(body, r#"{"groups": [2]}"#)?;
                Change::Placement(words("LEAVE").into_iter().chain(texts(leave.groups)).collect())
            }
            "move" => {
                let of: Move = read(body, r#"{"shard": 3, "group": 2}"#)?;
                Change::Placement(vec!["MOVE".into(), of.shard.to_string(), of.group.to_string()])
            }
            "rebalance" => {
                if !matches!(read(body, "{}")?, Value::Object(fields) if fields.is_empty()) {
                    return Err(Refused::request("the body is not {}"));
                }
                Change::Placement(words("REBALANCE"))
            }
            "group-add" | "group-remove" => {
                let of: Regroup = read(body, r#"{"group": 2, "stores": [4, 5]}"#)?;
                let verb = if verb == "group-add" { "ADD" } else { "REMOVE" };
                let mut words = vec!["GROUP".into(), of.group.to_string(), verb.to_owned()];
                words.extend(texts(of.stores));
                Change::Placement(words)
            }
            "drain" | "undrain" | "remove" => {
                let of: OfStore = read(body, r#"{"store": 4}"#)?;
                Change::Store(vec![
                    "QUORATE".into(),
                    "STORE".into(),
                    verb.to_uppercase(),
                    of.store.to_string(),
                ])
            }
            _ => Change::None,
        })
    }
}
