//! Commands that have no method of their own.

use crate::client::{Client, Request};
use crate::core::call::Effect;
use crate::error::Error;
use crate::resp::Reply;

/// A command put together by hand, for [`Client::command`].
///
/// ```no_run
/// use quorate_client::{Client, Command};
/// use quorate_client::resp::Reply;
///
/// # async fn example(client: &Client) -> Result<(), quorate_client::Error> {
/// let set = Command::write("SETRANGE").key("greeting").arg("7").arg("moon");
/// assert_eq!(client.command(&set).await?, Reply::Int(11));
/// let read = Command::read("GETRANGE").key("greeting").arg("0").arg("4");
/// assert_eq!(client.command(&read).await?, Reply::Bulk(b"hello".to_vec()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    effect: Effect,
    args: Vec<Vec<u8>>,
    /// The position of the first key.
    key: Option<usize>,
}

impl Command {
    /// A command that changes nothing, so that it may be sent again.
    #[must_use]
    pub fn read(name: impl AsRef<[u8]>) -> Self {
        Self::new(Effect::Read, name)
    }

    /// A command that writes keys. It is sent under a session and runs once.
    #[must_use]
    pub fn write(name: impl AsRef<[u8]>) -> Self {
        Self::new(Effect::Once, name)
    }

    /// A command that changes something and cannot run under a session (`FLUSHALL`). It is sent again only after an
    /// attempt that certainly did not run.
    #[must_use]
    pub fn plain(name: impl AsRef<[u8]>) -> Self {
        Self::new(Effect::Plain, name)
    }

    fn new(effect: Effect, name: impl AsRef<[u8]>) -> Self {
        Self {
            effect,
            args: vec![name.as_ref().to_vec()],
            key: None,
        }
    }

    /// The next argument, a key. The first one says which node is asked; without any, a node is asked that serves or
    /// forwards for all.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = self.key.or(Some(self.args.len()));
        self.arg(key)
    }

    /// The next argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg.as_ref().to_vec());
        self
    }
}

impl Client {
    /// Runs any command of the server. The reply is never [`Reply::Error`] itself; inside an array it may be.
    ///
    /// # Errors
    ///
    /// As every command's: see [`Error`].
    pub async fn command(&self, command: &Command) -> Result<Reply, Error> {
        let args: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let request = Request {
            effect: command.effect,
            key: command.key.map(|at| args[at]),
            args: &args,
        };
        self.run(request).await
    }
}
