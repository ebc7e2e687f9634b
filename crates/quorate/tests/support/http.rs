//! What a node of the tests answers by HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::Node;

/// Status and JSON.
pub fn http(node: &Node, method: &str, path: &str, body: &str) -> (u16, Value) {
    let kind = "Content-Type: application/json\r\n";
    let (status, text) = send(node, method, path, kind, body);
    (
        status,
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {text}: {error}")),
    )
}

/// Status and body of the answer to a request with these further headers.
pub fn send(node: &Node, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", node.http)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
