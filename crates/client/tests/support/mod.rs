//! A node that does what a test says, over a real socket.

#![allow(unreachable_pub, reason = "part of a test program")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use quorate_client::resp::{Reply, decode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a node does with a command.
#[derive(Clone, Debug)]
pub enum Act {
    /// Replies with these bytes.
    Say(String),
    /// Closes the connection.
    Break,
    /// Replies when this many further commands have come on the connection.
    SayAfter(usize, String),
    /// Says nothing, ever.
    Hang,
}

/// Decides what a node does with a command: its words.
pub type Script = Arc<Mutex<dyn FnMut(&[String]) -> Act + Send>>;

/// Commands, each with the number of its connection.
pub type Seen = Arc<Mutex<Vec<(usize, Vec<String>)>>>;

pub struct FakeNode {
    pub addr: String,
    /// All but those that open sessions, set modes or read the map.
    pub seen: Seen,
}

pub fn ok() -> Act {
    Act::Say("+OK\r\n".into())
}

impl FakeNode {
    /// Starts a node that says it leads every slot, opens sessions, and leaves the rest to the script.
    pub async fn start(script: impl FnMut(&[String]) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, script).await
    }

    pub async fn start_on(
        listener: TcpListener,
        script: impl FnMut(&[String]) -> Act + Send + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Script = Arc::new(Mutex::new(script));
        let (port, kept) = (listener.local_addr().unwrap().port(), seen.clone());
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, seen) = (script.clone(), kept.clone());
                tokio::spawn(serve(stream, connection, port, script, seen));
            }
        });
        Self { addr, seen }
    }

    pub fn commands(&self) -> Vec<Vec<String>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, words)| words.clone()).collect()
    }
}

async fn serve(mut stream: TcpStream, connection: usize, port: u16, script: Script, seen: Seen) {
    let mut sessions = 0u32;
    let mut input = Vec::new();
    let mut later: VecDeque<(usize, String)> = VecDeque::new();
    loop {
        while let Some((Reply::Array(words), bytes)) = decode(&input).unwrap() {
            input.drain(..bytes);
            let words: Vec<String> = words
                .into_iter()
                .map(|word| match word {
                    Reply::Bulk(word) => String::from_utf8_lossy(&word).into_owned(),
                    other => panic!("{other:?}"),
                })
                .collect();
            let two: Vec<&str> = words.iter().take(2).map(String::as_str).collect();
            let act = match two[..] {
                ["QUORATE", "MODE"] => ok(),
                ["CLUSTER", "SLOTS"] => {
                    let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n");
                    Act::Say(slots)
                }
                ["ONCE", "OPEN"] => {
                    sessions += 1;
                    Act::Say(format!("$32\r\n{port:016x}{connection:08x}{sessions:08x}\r\n"))
                }
                _ => {
                    seen.lock().unwrap().push((connection, words.clone()));
                    (script.lock().unwrap())(&words)
                }
            };
            for (left, _) in &mut later {
                *left = left.saturating_sub(1);
            }
            match act {
                Act::Break => return,
                Act::Hang => std::future::pending().await,
                // Replies keep the order of the commands.
                Act::Say(text) => later.push_back((0, text)),
                Act::SayAfter(more, text) => later.push_back((more, text)),
            }
            while let Some((0, _)) = later.front() {
                let (_, text) = later.pop_front().unwrap();
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The session, the seq and the acknowledgement of a write, and its own words.
pub fn once(words: &[String]) -> (String, u64, u64, Vec<String>) {
    assert_eq!((&*words[0], &*words[3]), ("ONCE", "ACK"), "{words:?}");
    let number = |at: usize| words[at].parse().unwrap();
    (words[1].clone(), number(2), number(4), words[5..].to_vec())
}
