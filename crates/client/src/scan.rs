//! Walking over all keys.

use bytes::Bytes;

use crate::client::{Client, Request};
use crate::commands::unexpected;
use crate::core::call::Effect;
use crate::error::Error;
use crate::resp::Reply;

/// A walk over the keys, page by page; made by [`Client::scan`].
#[derive(Clone, Debug)]
pub struct Scan {
    client: Client,
    pattern: Option<Vec<u8>>,
    /// None: at the end.
    cursor: Option<Vec<u8>>,
}

impl Client {
    /// A walk over all keys. A key that exists from beginning to end is found exactly once; one that comes or goes
    /// meanwhile may be found or not.
    ///
    /// ```no_run
    /// # async fn example(client: &quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// let mut scan = client.scan().matching("user:*");
    /// while let Some(keys) = scan.next_page().await? {
    ///     println!("{keys:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn scan(&self) -> Scan {
        Scan {
            client: self.clone(),
            pattern: None,
            cursor: Some(b"0".to_vec()),
        }
    }
}

impl Scan {
    /// Only keys that match a glob, as in Redis.
    #[must_use]
    pub fn matching(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.pattern = Some(pattern.as_ref().to_vec());
        self
    }

    /// The next keys; none at the end. A page may be empty before the end. After an error the same page may be asked
    /// for again.
    ///
    /// # Errors
    ///
    /// As every read's: see [`Error`].
    pub async fn next_page(&mut self) -> Result<Option<Vec<Bytes>>, Error> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        let mut args: Vec<&[u8]> = vec![b"SCAN", cursor, b"COUNT", b"1000"];
        if let Some(pattern) = &self.pattern {
            args.extend([&b"MATCH"[..], pattern]);
        }
        let request = Request {
            effect: Effect::Read,
            key: None,
            args: &args,
        };
        let reply = self.client.run(request).await?;
        let Reply::Array(parts) = reply else {
            return Err(unexpected(&reply));
        };
        let Ok([Reply::Bulk(next), Reply::Array(keys)]) = <[Reply; 2]>::try_from(parts) else {
            return Err(unexpected(&Reply::Nil));
        };
        self.cursor = (next != b"0").then_some(next);
        let keys = keys.into_iter().filter_map(|key| match key {
            Reply::Bulk(key) => Some(Bytes::from(key)),
            _ => None,
        });
        Ok(Some(keys.collect()))
    }
}
