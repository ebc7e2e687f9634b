//! A replicated key-value store over a line protocol: `SET key value`, `GET key`, `DEL key`, `STATUS`.
//!
//! kv ID DIRECTORY CLIENT-ADDRESS 1=HOST:PORT 2=HOST:PORT 3=HOST:PORT

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use quorate_node::{
    ClusterId, Config, Directory, NodeId, Replicated, Start, StateMachine, SubmitError, Transport,
};

/// The state: the same on all members, because it does the same with the same commands.
#[derive(Default)]
struct Kv(BTreeMap<String, String>);

impl StateMachine for Kv {
    /// What a command answers.
    type Output = String;

    fn apply(&mut self, command: &[u8]) -> String {
        let text = String::from_utf8_lossy(command);
        let mut words = text.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("SET"), Some(key), Some(value)) => {
                self.0.insert(key.into(), value.into());
                "OK".into()
            }
            (Some("DEL"), Some(key), None) => match self.0.remove(key) {
                Some(_) => "1".into(),
                None => "0".into(),
            },
            _ => "ERROR not a command".into(),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0
            .iter()
            .map(|(key, value)| format!("{key} {value}\n"))
            .collect::<String>()
            .into_bytes()
    }

    fn restore(&mut self, snapshot: &[u8]) {
        let text = String::from_utf8_lossy(snapshot);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        self.0 = pairs.map(|(key, value)| (key.into(), value.into())).collect();
    }
}

fn answer(kv: &Replicated<Kv>, line: &str) -> String {
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some(key)) => match kv.read(|state| state.0.get(key).cloned()) {
            Ok(value) => value.map_or("NONE".into(), |value| format!("VALUE {value}")),
            Err(error) => format!("ERROR {error}"),
        },
        (Some("SET" | "DEL"), Some(_)) => match kv.submit(line.to_owned()) {
            Ok(answer) => answer,
            // Not applied: it may be sent to the leader.
            Err(error @ SubmitError::NotStarted(_)) => match error.hint() {
                Some(leader) => format!("ASK {leader}"),
                None => format!("RETRY {error}"),
            },
            Err(SubmitError::NotApplied) => "RETRY not applied".into(),
            // It may be applied or not: sending it again could do it twice.
            Err(error) => format!("UNKNOWN {error}"),
        },
        (Some("STATUS"), None) => {
            let status = kv.handle().status();
            format!(
                "{:?} term {} applied {} digest {:08x}",
                status.role,
                status.term,
                kv.applied(),
                kv.read_stale(|state| crc32c::crc32c(&state.snapshot()))
            )
        }
        _ => "ERROR commands are SET key value, GET key, DEL key, STATUS".into(),
    }
}

fn serve(kv: &Replicated<Kv>, client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut out = client.try_clone()?;
    for line in BufReader::new(client).lines() {
        let answer = answer(kv, line?.trim_end());
        out.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [id, directory, client, members @ ..] = &args[..] else {
        return Err("usage: kv ID DIRECTORY CLIENT-ADDRESS 1=HOST:PORT 2=HOST:PORT 3=HOST:PORT".into());
    };
    let id = NodeId(id.parse()?);
    let mut voters = BTreeMap::new();
    for member in members {
        let (id, address) = member.split_once('=').ok_or("members are ID=HOST:PORT")?;
        voters.insert(NodeId(id.parse()?), address.to_owned());
    }
    let own = voters.get(&id).ok_or("this member is not in the list")?.clone();

    let config = Config::new(ClusterId(0x6b76), id, Start::Bootstrap { voters });
    let kv = Replicated::spawn(
        config,
        Transport::bind(own)?,
        Directory::new(directory),
        Kv::default(),
        1 << 20,
    )?;
    let kv = Arc::new(kv);
    let listener = TcpListener::bind(client.as_str())?;
    println!("member {id} listens for clients at {}", listener.local_addr()?);
    for client in listener.incoming() {
        let (client, kv) = (client?, Arc::clone(&kv));
        std::thread::spawn(move || serve(&kv, client));
    }
    Ok(())
}
