//! The HTTP endpoint: `/metrics`, `/healthz`, `/readyz`, `/status`, and the controller below `/v1`.
//!
//! It runs on a thread and a single-threaded runtime of its own and knows the node only through [`Shared`], and as a client
//! of it ([`Node`]): a slow or hostile HTTP client cannot delay the reactor.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

mod api;

pub use api::Node;

use crate::metrics::prometheus;
use crate::status::Shared;

/// A running endpoint. Dropping it stops it.
#[derive(Debug)]
pub struct HttpHandle {
    addr: SocketAddr,
    /// Dropped to stop; `None` once that has been done.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpHandle {
    /// Where it listens; tells the port that the system chose when it was asked for port 0.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for HttpHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// Binds `addr` and serves. Fails at once when the address cannot be bound, so that the caller can say so.
pub fn spawn(addr: SocketAddr, shared: Arc<Shared>, node: Node) -> io::Result<HttpHandle> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            // Not a graceful shutdown: that would wait for clients that keep their connections open.
            tokio::select! {
                served = std::future::IntoFuture::into_future(axum::serve(listener, router(shared).merge(api::router(node)))) => served,
                _ = stopped => Ok(()),
            }
        });
        // Not to wait for what the node was asked last.
        runtime.shutdown_background();
        if let Err(error) = served {
            tracing::error!(%error, "http endpoint stopped");
        }
    })?;
    Ok(HttpHandle {
        addr,
        stop: Some(stop),
        thread: Some(thread),
    })
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        prometheus(&shared),
    )
        .into_response()
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let ready = shared.ready();
    let body = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": shared.uptime_s(),
        "ready": ready.is_ok(),
        "not_ready_because": ready.err(),
        "node": shared.status().as_deref(),
    });
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body:#}\n"),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::status::{NodeStatus, ShardRole, ShardRow};

    fn fetch(addr: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn pages_answer_and_the_port_is_free_after_the_drop() {
        let shared = Shared::new();
        let nobody = Node::new(SocketAddr::from(([127, 0, 0, 1], 1)), 100);
        let http = spawn(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            shared.clone(),
            nobody.clone(),
        )
        .unwrap();
        let addr = http.addr();
        assert!(fetch(addr, "/healthz").starts_with("HTTP/1.1 200"));
        let before = fetch(addr, "/readyz");
        assert!(
            before.starts_with("HTTP/1.1 503") && before.contains("starting"),
            "{before}"
        );
        shared.publish(NodeStatus {
            cluster: "00ff".to_owned(),
            store: 3,
            shards: vec![ShardRow {
                shard: 0,
                start_slot: None,
                end_slot: None,
                role: ShardRole::Leader,
                term: 1,
                leader: Some(3),
                commit: 1,
                applied: 1,
                last_index: 1,
                log_bytes: 0,
                lease_held: true,
                rebuild: None,
            }],
            ..NodeStatus::default()
        });
        assert!(fetch(addr, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(fetch(addr, "/metrics").contains("quorate_shard_lease_held_bool{shard=\"0\"} 1\n"));
        let status = fetch(addr, "/status");
        assert!(
            status.contains("\"role\": \"leader\"") && status.contains("\"store\": 3"),
            "{status}"
        );
        assert!(fetch(addr, "/nothing").starts_with("HTTP/1.1 404"));

        let stores = fetch(addr, "/v1/stores");
        assert!(
            stores.starts_with("HTTP/1.1 503") && stores.contains("cannot connect"),
            "{stores}"
        );

        assert!(spawn(addr, shared, nobody).is_err(), "the port is in use");
        // A client that keeps its connection open does not delay the stop.
        let _idle = std::net::TcpStream::connect(addr).unwrap();
        drop(http);
        assert!(std::net::TcpStream::connect(addr).is_err());
    }
}
