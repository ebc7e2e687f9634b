//! `get`, `put`, `append`, `delete`: one command through the client library.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use clap::Args;
use quorate_client::blocking::Client;
use quorate_client::resp::Reply;
use quorate_client::{Command, Error, Options};

use crate::cli::{Failure, UNKNOWN};
use crate::output;

/// Whom to ask.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Nodes to ask, HOST:PORT, separated by commas; one that answers is enough
    #[arg(
        long,
        env = "QUORATE_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7001",
        value_name = "ADDRS"
    )]
    pub endpoints: Vec<String>,
    /// How long to try before giving up; longer than the server's own request timeout, so that it can explain
    #[arg(long, default_value_t = 6000, value_name = "MS")]
    pub timeout_ms: u64,
}

/// `get KEY`
#[derive(Args, Debug)]
#[command(after_help = "Prints exactly the value's bytes, and a line end only if the output is a terminal.")]
pub struct GetArgs {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
}

/// `put KEY VALUE`
#[derive(Args, Debug)]
pub struct PutArgs {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
    /// The value; - reads it from standard input, any bytes
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// `append KEY VALUE`
#[derive(Args, Debug)]
#[command(after_help = "Prints the length of the new value in bytes.")]
pub struct AppendArgs {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
    /// What to append; - reads it from standard input, any bytes
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// `delete KEY…`
#[derive(Args, Debug)]
#[command(after_help = "Prints how many of the keys existed. Deleting an absent key is not an error.")]
pub struct DeleteArgs {
    #[command(flatten)]
    target: Target,
    /// The keys
    #[arg(required = true)]
    keys: Vec<String>,
}

/// Prints the value; exit code 1 if the key is absent.
pub fn get(args: GetArgs) -> Result<(), Failure> {
    match connect(&args.target)?.run(async |client| client.get(&args.key).await)? {
        Some(value) => {
            print_value(&value).unwrap_or_else(|error| output::not_taken(&error));
            Ok(())
        }
        None => Err(Failure::new(format!("no such key: {}", args.key))),
    }
}

/// Sets the key.
pub fn put(args: PutArgs) -> Result<(), Failure> {
    let value = value(args.value)?;
    connect(&args.target)?.run(async |client| client.set(&args.key, &value).await)?;
    println!("OK");
    Ok(())
}

/// Appends to the key.
pub fn append(args: AppendArgs) -> Result<(), Failure> {
    let value = value(args.value)?;
    let length = connect(&args.target)?.run(async |client| client.append(&args.key, &value).await)?;
    println!("{length}");
    Ok(())
}

/// Deletes the keys; in a cluster they may be anywhere.
pub fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let client = connect(&args.target)?;
    let mut deleted = 0;
    for key in &args.keys {
        deleted += u64::from(client.run(async |client| client.delete(key).await)?);
    }
    println!("{deleted}");
    Ok(())
}

/// Whether a command may be sent again when it is not known whether it ran.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Write,
}

/// Asks any node something that concerns no key.
pub(crate) fn ask(target: &Target, effect: Effect, words: &[&[u8]]) -> Result<Reply, Failure> {
    let begun = match effect {
        Effect::Read => Command::read(words[0]),
        Effect::Write => Command::plain(words[0]),
    };
    let command = words[1..].iter().fold(begun, Command::arg);
    Ok(connect(target)?.run(async |client| client.command(&command).await)?)
}

fn connect(target: &Target) -> Result<Client, Failure> {
    if target.endpoints.is_empty() {
        return Err(Failure::usage("--endpoints is empty"));
    }
    let deadline = Duration::from_millis(target.timeout_ms.max(1));
    let options = Options::default().deadline(deadline).connect_max(deadline);
    Client::connect(&target.endpoints, options)
        .map_err(|error| Failure::new(format!("no node answers: {error}")))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Failure::new(error.to_string());
        if let Error::Unknown { write, .. } = error {
            failure.code = UNKNOWN;
            if let Some(write) = write {
                failure.message += &format!("; `ONCE STATUS {write}` settles it");
            }
        }
        failure
    }
}

fn value(text: String) -> Result<Vec<u8>, Failure> {
    if text != "-" {
        return Ok(text.into_bytes());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read the value from standard input: {error}")))?;
    Ok(bytes)
}

fn print_value(value: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(value)?;
    if out.is_terminal() {
        out.write_all(b"\n")?;
    }
    out.flush()
}

pub(crate) fn unexpected(reply: &Reply) -> Failure {
    Failure::new(format!(
        "the server gave an answer that does not fit the command: {reply:?}"
    ))
}
