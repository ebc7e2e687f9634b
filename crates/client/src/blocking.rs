//! The same client for programs without a runtime: every method waits.

use crate::{Error, Options, Reason};

/// A [`Client`](crate::Client) with a runtime of its own, on the caller's thread.
///
/// [`run`](Client::run) gives all of the asynchronous client's methods:
///
/// ```no_run
/// use quorate_client::{Options, blocking::Client};
///
/// # fn main() -> Result<(), quorate_client::Error> {
/// let client = Client::connect(["127.0.0.1:7001"], Options::default())?;
/// client.run(async |client| client.set("greeting", "hello").await)?;
/// let sum = client.run(async |client| client.increment("visits", 1).await)?;
/// # let _ = sum;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    // Before the runtime: its connections end first.
    client: crate::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// As [`Client::connect_with`](crate::Client::connect_with).
    ///
    /// # Errors
    ///
    /// As there; also when the system has no more of what a runtime needs.
    pub fn connect<A: Into<String>>(
        nodes: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Unavailable(Reason::Runtime(error.to_string())))?;
        let client = runtime.block_on(crate::Client::connect_with(nodes, options))?;
        Ok(Self { client, runtime })
    }

    /// Runs what `work` does with the client, and waits for it.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    ///
    /// # Panics
    ///
    /// Inside of an asynchronous task.
    pub fn run<T>(&self, work: impl AsyncFnOnce(&crate::Client) -> Result<T, Error>) -> Result<T, Error> {
        self.runtime.block_on(work(&self.client))
    }
}
