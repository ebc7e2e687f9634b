//! A connection and the task that drives it: commands are written as they come, many in one call, and replies are
//! given to whoever waits for them, in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::mode_command;
use crate::core::call::Heard;
use crate::core::routes::Route;
use crate::resp;

/// Commands are taken while no more than this waits to be written.
const OUT_BYTES: usize = 256 * 1024;
/// Asked for in one read; more for replies that are larger.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Order {
    Send {
        frame: Vec<u8>,
        reply: oneshot::Sender<Heard>,
    },
    Close,
}

/// A handle. The connection ends when the last one is gone and everything is answered.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    orders: mpsc::UnboundedSender<Order>,
    begun: Instant,
    /// When bytes came last, in microseconds after `begun`.
    heard_us: Arc<AtomicU64>,
}

impl Connection {
    pub(super) async fn open(route: &Route) -> io::Result<Self> {
        let stream = TcpStream::connect(&route.addr).await?;
        stream.set_nodelay(true)?;
        let (orders, taken) = mpsc::unbounded_channel();
        let connection = Self {
            orders,
            begun: Instant::now(),
            heard_us: Arc::default(),
        };
        let mut driver = Driver {
            stream,
            taken: Some(taken),
            out: Vec::new(),
            written: 0,
            input: Vec::new(),
            filled: 0,
            waiting: VecDeque::new(),
            begun: connection.begun,
            heard_us: connection.heard_us.clone(),
        };
        resp::encode(&mut driver.out, mode_command(route.mode));
        driver.waiting.push_back(None);
        tokio::spawn(async move {
            let why = poll_fn(|cx| driver.poll(cx)).await;
            driver.end(&why);
        });
        Ok(connection)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Hands over a command; the error says that it was not sent.
    pub(super) fn send(&self, frame: Vec<u8>, reply: oneshot::Sender<Heard>) -> Result<(), Heard> {
        let order = Order::Send { frame, reply };
        let sent = self.orders.send(order);
        sent.map_err(|_| Heard::NotSent("the connection broke".to_owned()))
    }

    pub(super) fn has_heard_since(&self, moment: Instant) -> bool {
        let since_us = moment.saturating_duration_since(self.begun).as_micros() as u64;
        self.heard_us.load(Ordering::Relaxed) >= since_us.max(1)
    }

    /// Whoever waits hears that the connection broke.
    pub(super) fn close(&self) {
        let _ = self.orders.send(Order::Close); // it may be closed already
    }
}

/// The task's state. Invariant: one of `waiting` for each command of which a byte may have been written and whose
/// reply has not come; none for those whose reply nobody wants.
struct Driver {
    stream: TcpStream,
    /// None: the last handle is gone.
    taken: Option<mpsc::UnboundedReceiver<Order>>,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
    waiting: VecDeque<Option<oneshot::Sender<Heard>>>,
    begun: Instant,
    heard_us: Arc<AtomicU64>,
}

impl Driver {
    /// Ready with the reason why the connection ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        loop {
            let turn = self.take(cx).and_then(|took| {
                let wrote = self.write(cx)?;
                let read = self.read(cx)?;
                Ok(took || wrote || read)
            });
            match turn {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready("the node closed it".to_owned());
                }
                Err(error) => return Poll::Ready(error.to_string()),
                Ok(_) if self.taken.is_none() && self.waiting.is_empty() => {
                    return Poll::Ready("it is not used any more".to_owned());
                }
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
            }
        }
    }

    /// Takes commands, as many as are to be written now.
    fn take(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        while self.out.len() < OUT_BYTES
            && let Some(taken) = &mut self.taken
        {
            match taken.poll_recv(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.taken = None,
                Poll::Ready(Some(Order::Close)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the node does not answer",
                    ));
                }
                // Nobody waits for it any more, and it was not sent.
                Poll::Ready(Some(Order::Send { reply, .. })) if reply.is_closed() => {}
                Poll::Ready(Some(Order::Send { frame, reply })) => {
                    if self.out.is_empty() {
                        self.out = frame;
                    } else {
                        self.out.extend_from_slice(&frame);
                    }
                    self.waiting.push_back(Some(reply));
                    any = true;
                }
            }
        }
        Ok(any)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        while self.written < self.out.len() {
            match self.stream.poll_write_ready(cx)? {
                Poll::Pending => return Ok(any),
                Poll::Ready(()) => match self.stream.try_write(&self.out[self.written..]) {
                    Ok(bytes) => {
                        self.written += bytes;
                        any = true;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                },
            }
        }
        if self.out.capacity() > 4 * OUT_BYTES {
            self.out = Vec::new();
        }
        self.out.clear();
        self.written = 0;
        Ok(any)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        while self.stream.poll_read_ready(cx)?.is_ready() {
            // Doubling: a large reply is decoded again at each read, so there should be few of them.
            if self.input.len() - self.filled < READ_BYTES / 4 {
                self.input.resize(self.filled + READ_BYTES.max(self.filled), 0);
            }
            match self.stream.try_read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    self.filled += bytes;
                    any = true;
                    let heard_us = self.begun.elapsed().as_micros() as u64;
                    self.heard_us.store(heard_us, Ordering::Relaxed);
                    self.give()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// Gives the replies that are there to those who wait for them.
    fn give(&mut self) -> io::Result<()> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut at = 0;
        loop {
            let decoded = resp::decode(&self.input[at..self.filled]);
            let Some((reply, bytes)) = decoded.map_err(|_| wrong("the answer is not RESP"))? else {
                break;
            };
            at += bytes;
            match self.waiting.pop_front() {
                None => return Err(wrong("an answer came that nobody asked for")),
                Some(None) => {}
                Some(Some(waiting)) => {
                    let _ = waiting.send(Heard::Reply(reply)); // whoever waited may have given up
                }
            }
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        if self.filled == 0 && self.input.len() > 4 * READ_BYTES {
            self.input = Vec::new();
        }
        Ok(())
    }

    /// Tells everybody.
    fn end(&mut self, why: &str) {
        for waiting in self.waiting.drain(..).flatten() {
            let _ = waiting.send(Heard::Lost(why.to_owned()));
        }
        if let Some(taken) = &mut self.taken {
            taken.close();
            while let Ok(order) = taken.try_recv() {
                if let Order::Send { reply, .. } = order {
                    let _ = reply.send(Heard::NotSent(why.to_owned()));
                }
            }
        }
    }
}
