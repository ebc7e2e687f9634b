//! Asks a node over HTTP whether it is ready.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A node on this machine answers at once or is in trouble.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Asks `/readyz` of the node with this HTTP port on loopback. `Err` is the reason, in one line.
pub fn ready(http_port: u16) -> Result<(), String> {
    match get(http_port, "/readyz") {
        Ok((200, _)) => Ok(()),
        Ok((_, body)) => Err(body.trim().to_owned()),
        Err(error) => Err(format!("no answer on HTTP port {http_port}: {error}")),
    }
}

/// Status code and body of a page. Enough of HTTP/1.1 for a server of ours that closes when asked to.
pub fn get(http_port: u16, path: &str) -> io::Result<(u16, String)> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, http_port));
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{http_port}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(bad)?;
    Ok((code, body.to_owned()))
}
