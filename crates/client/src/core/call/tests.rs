//! Commands through all that can happen to them, without sockets.

use super::*;
use crate::core::routes::Mode;

const MAX: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(10);

struct Bench {
    now: Instant,
    begun: Instant,
    routes: Routes,
    rng: Rng,
    call: Call,
}

impl Bench {
    fn new(effect: Effect) -> Self {
        let now = Instant::now();
        let seeds = ["a:1", "b:2", "c:3"].map(str::to_owned);
        let mut routes = Routes::new(&seeds, 0);
        routes.moved(5, "a:1", "b:2");
        Self {
            now,
            begun: now,
            routes,
            rng: Rng::new(1),
            call: Call::new(effect, Some(5), now + DEADLINE, MAX),
        }
    }

    /// Goes on until an attempt is to be sent; whether waits come between is the test's clock's affair.
    fn send(&mut self) -> (String, Mode, Duration) {
        loop {
            match self.call.next(self.now, &mut self.routes) {
                Step::Send { route, until } => return (route.addr, route.mode, until - self.now),
                Step::Sleep(at) => {
                    assert!(at > self.now && at <= self.begun + DEADLINE);
                    self.now = at;
                }
                step => panic!("{step:?}"),
            }
        }
    }

    fn end(&mut self) -> Result<Reply, Error> {
        loop {
            match self.call.next(self.now, &mut self.routes) {
                Step::End(result) => return result,
                Step::Sleep(at) => self.now = at,
                step => panic!("{step:?}"),
            }
        }
    }

    fn heard(&mut self, (addr, mode, _): (String, Mode, Duration), heard: Heard) {
        let route = Route { addr, mode };
        self.call
            .heard(heard, &route, self.now, &mut self.routes, &mut self.rng);
    }

    /// An attempt that ends so.
    fn attempt(&mut self, heard: Heard) -> String {
        let sent = self.send();
        let addr = sent.0.clone();
        self.heard(sent, heard);
        addr
    }
}

fn error(text: &str) -> Heard {
    Heard::Reply(Reply::Error(text.into()))
}

fn lost() -> Heard {
    Heard::Lost("reset".into())
}

const FORGOTTEN: &str =
    "UNKNOWN the shard has forgotten the session or this seq of it; the write did not run now";
const BUSY: &str = "NOTAPPLIED too many requests under way; the write was not applied";

#[test]
fn an_answer_ends_it_and_an_error_that_is_the_commands_own_does_too() {
    for effect in [Effect::Read, Effect::Once, Effect::Plain] {
        let mut bench = Bench::new(effect);
        let sent = bench.send();
        assert_eq!((&*sent.0, sent.1), ("a:1", Mode::Direct));
        assert_eq!(sent.2, if effect == Effect::Plain { DEADLINE } else { MAX });
        bench.heard(sent, Heard::Reply(Reply::Int(3)));
        assert_eq!(bench.end(), Ok(Reply::Int(3)));
        let mut bench = Bench::new(effect);
        bench.attempt(error("ERR value is not an integer or out of range"));
        assert!(matches!(bench.end(), Err(Error::Refused(error)) if error.code() == "ERR"));
    }
}

#[test]
fn a_break_leads_to_another_node_at_once_and_only_a_plain_write_stays_unknown() {
    for effect in [Effect::Read, Effect::Once] {
        let mut bench = Bench::new(effect);
        assert_eq!(bench.attempt(lost()), "a:1");
        let (addr, mode, _) = bench.send();
        assert_eq!((&*addr, mode, bench.now), ("b:2", Mode::Proxy, bench.begun));
    }
    let mut bench = Bench::new(Effect::Plain);
    bench.attempt(lost());
    assert!(matches!(bench.end(), Err(Error::Unknown { write: None, .. })));
    let mut bench = Bench::new(Effect::Plain);
    bench.attempt(Heard::NotSent("refused".into()));
    bench.attempt(error(BUSY));
    bench.attempt(Heard::Reply(Reply::Nil));
    assert_eq!(
        bench.end(),
        Ok(Reply::Nil),
        "attempts that certainly did not run are repeated"
    );
}

#[test]
fn hints_are_followed_at_once_but_not_for_ever() {
    let mut bench = Bench::new(Effect::Once);
    for to in ["b:2", "c:3", "a:1"] {
        bench.attempt(error(&format!("MOVED 5 {to}")));
        let (addr, mode, _) = bench.send();
        assert_eq!((&*addr, mode, bench.now), (to, Mode::Direct, bench.begun));
    }
    for round in 0.. {
        let before = bench.now;
        bench.attempt(error("MOVED 5 b:2"));
        bench.send();
        if bench.now > before {
            break;
        }
        assert!(round < 3, "nodes that disagree are given time");
    }
}

#[test]
fn what_is_known_at_the_deadline_is_told() {
    let mut bench = Bench::new(Effect::Once);
    while bench.now < bench.begun + DEADLINE - MAX {
        bench.attempt(error(BUSY));
    }
    bench.now = bench.begun + DEADLINE;
    let busy = Reason::Server(BUSY.into());
    assert_eq!(bench.end(), Err(Error::NotApplied(busy.clone())));

    let mut bench = Bench::new(Effect::Once);
    bench.attempt(Heard::Silence(MAX));
    bench.attempt(error(BUSY));
    bench.now = bench.begun + DEADLINE;
    let found = bench.end();
    assert!(
        matches!(
            &found,
            Err(Error::Unknown {
                reason: Reason::Silence { .. },
                ..
            })
        ),
        "one attempt may have run, whatever the last one met: {found:?}"
    );

    let mut bench = Bench::new(Effect::Read);
    bench.attempt(lost());
    bench.attempt(error("CLUSTERDOWN shard 1 has no leader"));
    bench.now = bench.begun + DEADLINE;
    let reason = Reason::Server("CLUSTERDOWN shard 1 has no leader".into());
    assert_eq!(bench.end(), Err(Error::Unavailable(reason)));

    let mut bench = Bench::new(Effect::Once);
    bench.now += DEADLINE;
    assert_eq!(bench.end(), Err(Error::NotApplied(Reason::NoTime)));
}

#[test]
fn a_session_that_is_forgotten_is_replaced_only_if_nothing_can_have_run() {
    for refusal in [
        FORGOTTEN,
        "ERR the session was opened in the future by more than 300 s",
    ] {
        let mut bench = Bench::new(Effect::Once);
        bench.attempt(error(BUSY));
        bench.attempt(error(refusal));
        loop {
            match bench.call.next(bench.now, &mut bench.routes) {
                Step::Sleep(at) => bench.now = at,
                Step::Reopen => break,
                step => panic!("{step:?}"),
            }
        }
        bench.attempt(Heard::Reply(Reply::Int(1)));
        assert_eq!(bench.end(), Ok(Reply::Int(1)));

        let mut bench = Bench::new(Effect::Once);
        bench.attempt(lost());
        bench.attempt(error(refusal));
        let found = bench.end();
        assert!(matches!(&found, Err(Error::Unknown { .. })), "{found:?}");
    }
}

#[test]
fn a_write_that_was_settled_elsewhere_is_certainly_not_applied() {
    let mut bench = Bench::new(Effect::Once);
    bench.attempt(lost());
    bench.attempt(error(
        "NOTAPPLIED a STATUS of this session and number settled that it never runs; the write was not applied",
    ));
    assert_eq!(bench.end(), Err(Error::NotApplied(Reason::NeverRuns)));
}

#[test]
fn failures_in_a_row_are_spaced_out() {
    let mut bench = Bench::new(Effect::Read);
    let mut attempts = 0;
    while bench.now < bench.begun + DEADLINE - Duration::from_secs(1) {
        bench.attempt(error("CLUSTERDOWN no"));
        attempts += 1;
    }
    assert!((30..100).contains(&attempts), "{attempts} attempts in 9 s");
}
