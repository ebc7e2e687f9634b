//! Walks over the keys of many shards, a page at a time.

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Query, ScanPosition};
use quorate_store::{ClientOutcome, Refusal, RouteMode, Target};

use super::ClientContext;
use super::failure::{self, Text};
use super::gather::Part;
use crate::resp::Writer;

/// The slot behind the last.
pub(super) const SLOTS: u16 = 16384;

/// What a walk is for.
#[derive(Debug)]
pub(super) enum Aim {
    /// One page and the cursor behind it (SCAN).
    Page(Vec<Bytes>),
    /// All keys (KEYS).
    Keys(Vec<Bytes>),
    /// Their number (DBSIZE).
    Count(u64),
}

/// A walk over `[from, end_slot)`.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) aim: Aim,
    /// Where the next page begins; at `end_slot` the walk is over.
    pub(super) from: ScanPosition,
    pub(super) end_slot: u16,
    /// Keys to look at per request.
    pub(super) limit: u32,
    pub(super) pattern: Option<Bytes>,
    pub(super) mode: RouteMode,
    /// The end of what the request under way covers.
    pub(super) page_end_slot: u16,
}

/// How a walk goes on.
pub(super) enum Next {
    /// With this request.
    Request(Part),
    /// It is over.
    Done,
    /// It cannot be finished.
    Failed(Text),
}

impl Walk {
    pub(super) fn new(aim: Aim, mode: RouteMode, limit: u32) -> Self {
        Walk {
            aim,
            from: ScanPosition::default(),
            end_slot: SLOTS,
            limit,
            pattern: None,
            mode,
            page_end_slot: 0,
        }
    }

    /// The request for the next page.
    pub(super) fn next(&mut self, ctx: &ClientContext<'_>) -> Next {
        let route = ctx
            .node
            .covered(self.mode)
            .find(|route| route.end_slot > self.from.slot);
        let route = route.filter(|route| route.start_slot.max(self.from.slot) < self.end_slot);
        let Some(route) = route else {
            // In proxy mode every slot has a shard, or this node does not know the shards yet.
            return match self.mode {
                RouteMode::Proxy if self.from.slot < self.end_slot => no_shard(),
                _ => {
                    self.from = ScanPosition {
                        slot: self.end_slot,
                        hash: 0,
                    };
                    Next::Done
                }
            };
        };
        if route.start_slot > self.from.slot {
            match self.mode {
                RouteMode::Proxy => return no_shard(),
                RouteMode::Redirect => {
                    self.from = ScanPosition {
                        slot: route.start_slot,
                        hash: 0,
                    }
                }
            }
        }
        self.page_end_slot = route.end_slot.min(self.end_slot);
        let query = Query::Scan {
            from: self.from,
            end_slot: self.page_end_slot,
            limit: self.limit,
            pattern: self.pattern.clone(),
            count_only: matches!(self.aim, Aim::Count(_)),
        };
        Next::Request(Part {
            target: Target::Slot(self.from.slot),
            body: ForwardBody::Read(query),
        })
    }

    /// Takes a page.
    pub(super) fn take(&mut self, outcome: ClientOutcome, ctx: &ClientContext<'_>) -> Next {
        let behind = ScanPosition {
            slot: self.page_end_slot,
            hash: 0,
        };
        match outcome {
            ClientOutcome::Done(Answer::Page { next, keys, count }) => {
                let next = next.unwrap_or(behind);
                if next <= self.from {
                    return Next::Failed(failure::unavailable("the scan made no progress"));
                }
                self.from = next;
                match &mut self.aim {
                    Aim::Page(page) => *page = keys,
                    Aim::Keys(all) => all.extend(keys),
                    Aim::Count(total) => *total += count,
                }
            }
            ClientOutcome::Done(Answer::Error(error)) => return Next::Failed(error.to_string().into_bytes()),
            ClientOutcome::Done(_) => {
                return Next::Failed(failure::unavailable("the shard gave no page"));
            }
            // No longer led here: the client gets these keys from the new leader.
            ClientOutcome::Redirect { .. } => self.from = behind,
            ClientOutcome::NotApplied(refusal) => return Next::Failed(failure::unavailable(refusal)),
            ClientOutcome::Unknown(reason) => {
                return Next::Failed(failure::unavailable(failure::unknown_reason(reason)));
            }
        }
        // A shard that had nothing is passed over, so that a nearly empty key space does not answer with a page
        // of nothing for each shard.
        let passed = self.from == behind;
        if let Aim::Page(page) = &self.aim
            && !(passed && page.is_empty())
        {
            // The cursor tells that it is over as soon as it is, sparing the client an empty page.
            let left = ctx
                .node
                .covered(self.mode)
                .any(|route| route.end_slot > self.from.slot);
            if !left && self.mode == RouteMode::Redirect {
                self.from = ScanPosition {
                    slot: self.end_slot,
                    hash: 0,
                };
            }
            return Next::Done;
        }
        self.next(ctx)
    }

    /// Writes what was found.
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        let keys = match &self.aim {
            Aim::Count(total) => return writer.int(i64::try_from(*total).unwrap_or(i64::MAX)),
            Aim::Keys(keys) => keys,
            Aim::Page(keys) => {
                writer.array(2);
                writer.bulk_int(if self.from.slot >= self.end_slot {
                    0
                } else {
                    cursor(self.from)
                });
                keys
            }
        };
        writer.array(keys.len());
        keys.iter().for_each(|key| writer.bulk(key));
    }
}

fn no_shard() -> Next {
    Next::Failed(failure::unavailable(Refusal::NoShard))
}

/// A position as SCAN's cursor. Only the start is 0, and no page ends there.
pub(super) fn cursor(position: ScanPosition) -> u64 {
    u64::from(position.slot) << 32 | u64::from(position.hash)
}

/// The position of a cursor; one behind the last slot has no keys any more.
pub(super) fn position(cursor: u64) -> ScanPosition {
    let slot = u16::try_from(cursor >> 32).unwrap_or(SLOTS).min(SLOTS);
    ScanPosition {
        slot,
        hash: cursor as u32,
    }
}
