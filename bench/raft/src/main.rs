//! The Raft core beside raft-rs 0.7, doing the same work in the same harness: three members in one thread, storage in
//! memory, 128-byte commands, everything committed and applied on all three.
//!
//! ```text
//! cargo run --release                                    # all tables; instructions need valgrind
//! cargo run --release -- instructions|allocations|throughput
//! cargo run --release -- run quorate store each 16 shared 16384     # one run, to profile
//! ```

mod allocations;
mod cluster;
mod quorate;
mod raft_rs;
mod runs;
mod tables;

use cluster::Source;
use runs::Run;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((run, entries)) = Run::parse(&arguments) {
        let taken = run.take(entries);
        println!(
            "{entries} entries, {:.0}/s, {:.2} allocations each",
            entries as f64 / taken.seconds,
            taken.allocations as f64 / entries as f64
        );
        return;
    }
    let wanted = |section: &str| arguments.is_empty() || arguments == [section];
    let known = ["instructions", "allocations", "throughput"];
    if !known.into_iter().any(wanted) {
        eprintln!("unknown arguments {arguments:?}: expected none, or one of {known:?}, or `run …`");
        std::process::exit(2);
    }
    for source in [Source::Owned, Source::Shared] {
        if wanted("instructions") {
            tables::instructions(source);
        }
        if wanted("allocations") {
            tables::allocations(source);
        }
        if wanted("throughput") {
            tables::throughput(source);
        }
    }
}
