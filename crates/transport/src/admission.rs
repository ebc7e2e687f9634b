//! Whom to talk to: the checks on a hello (P7).

use std::collections::BTreeMap;

use quorate_storage::{Identity, Incarnation, StoreId};

use crate::Channel;
use crate::greeting::{Hello, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Refusal, RefusalCode};
use crate::inquiry::UNBORN;

/// Which stores are bound to which incarnations, by earlier contacts.
pub(crate) type Bindings = BTreeMap<StoreId, Incarnation>;

/// Checks what the other side says about itself. `dialed` is whom this side meant to reach, if it dialed.
///
/// The order is from the general to the particular, so that the reason names the first thing to repair.
pub(crate) fn check(
    own: Identity,
    bindings: &Bindings,
    dialed: Option<(StoreId, Channel)>,
    versions: (u16, u16),
    hello: &Hello,
) -> Result<(), Refusal> {
    let refuse = |code, reason| {
        Err(Refusal {
            code,
            by: own,
            reason,
        })
    };
    let (theirs, store) = (hello.identity, hello.identity.store);
    if versions.0 > PROTOCOL_VERSION_MAX || versions.1 < PROTOCOL_VERSION_MIN {
        let reason = format!(
            "no protocol version in common: store {} speaks {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}, store \
             {store} speaks {} to {}",
            own.store, versions.0, versions.1
        );
        return refuse(RefusalCode::Version, reason);
    }
    if theirs.cluster != own.cluster {
        let reason = format!(
            "wrong cluster: store {} belongs to cluster {}, store {store} comes from cluster {}",
            own.store, own.cluster, theirs.cluster
        );
        return refuse(RefusalCode::Cluster, reason);
    }
    if store == own.store {
        let reason = format!(
            "store {store} is this store itself: an address leads back to it, or two nodes share an id"
        );
        return refuse(RefusalCode::Misdirected, reason);
    }
    if hello.target != own.store {
        let reason = format!(
            "wrong store: this is store {}, not store {}",
            own.store, hello.target
        );
        return refuse(RefusalCode::Misdirected, reason);
    }
    match dialed {
        Some((target, _)) if target != store => {
            let reason = format!("wrong store: the address of store {target} leads to store {store}");
            return refuse(RefusalCode::Misdirected, reason);
        }
        Some((_, channel)) if channel != hello.channel => {
            let reason = format!(
                "wrong channel: {channel:?} was asked for, {:?} answered",
                hello.channel
            );
            return refuse(RefusalCode::Misdirected, reason);
        }
        // One that is about to be formatted asks whoever is listed (`inquiry`).
        None if store < own.store && theirs.incarnation != UNBORN => {
            let reason = format!(
                "wrong direction: store {} dials store {store}, not the reverse",
                own.store
            );
            return refuse(RefusalCode::Misdirected, reason);
        }
        _ => {}
    }
    match bindings.get(&store) {
        Some(&known) if theirs.incarnation == UNBORN => {
            let reason = format!(
                "store {store} is known here as incarnation {known} of cluster {}: it was formatted before, and a \
                 store never comes back under its old id",
                own.cluster
            );
            refuse(RefusalCode::Incarnation, reason)
        }
        Some(&known) if known != theirs.incarnation => {
            let reason = format!(
                "store {store} is known here as incarnation {known}, not {}: its data directory was wiped or \
                 replaced; a store never comes back under its old id",
                theirs.incarnation
            );
            refuse(RefusalCode::Incarnation, reason)
        }
        _ => Ok(()),
    }
}

/// Whether being refused means that this store must stop. It does if our identity was refused, unless the
/// refusing side is not the store that we know by that id: a misdirected address, possibly after a change of
/// names, must not stop a healthy node.
pub(crate) fn fatal(bindings: &Bindings, dialed: Option<StoreId>, refusal: &Refusal) -> bool {
    let identity = matches!(refusal.code, RefusalCode::Cluster | RefusalCode::Incarnation);
    let stranger = [Some(refusal.by.store), dialed]
        .into_iter()
        .flatten()
        .any(|store| {
            bindings
                .get(&store)
                .is_some_and(|&known| known != refusal.by.incarnation)
        });
    identity && !stranger
}

#[cfg(test)]
mod tests {
    use quorate_storage::ClusterId;

    use super::*;

    fn identity(cluster: u128, store: u64, incarnation: u128) -> Identity {
        Identity {
            cluster: ClusterId(cluster),
            store: StoreId(store),
            incarnation: Incarnation(incarnation),
        }
    }

    fn hello(identity: Identity, target: u64) -> Hello {
        Hello {
            identity,
            process: 1,
            target: StoreId(target),
            channel: Channel::Raft,
            client_address: String::new(),
            http_address: String::new(),
        }
    }

    #[test]
    fn each_mistake_has_its_reason() {
        let own = identity(9, 2, 20);
        let bindings = Bindings::from([(StoreId(3), Incarnation(30))]);
        let raft = |store| Some((StoreId(store), Channel::Raft));
        let bulk = Some((StoreId(1), Channel::Bulk));
        let cases = [
            (None, (1, 1), hello(identity(9, 3, 30), 2), None),
            (None, (1, 7), hello(identity(9, 4, 40), 2), None),
            (raft(1), (1, 1), hello(identity(9, 1, 10), 2), None),
            (
                None,
                (2, 7),
                hello(identity(9, 3, 30), 2),
                Some((RefusalCode::Version, "speaks 2 to 7")),
            ),
            (
                None,
                (1, 1),
                hello(identity(8, 3, 30), 2),
                Some((RefusalCode::Cluster, "wrong cluster")),
            ),
            (
                None,
                (1, 1),
                hello(identity(9, 2, 20), 2),
                Some((RefusalCode::Misdirected, "itself")),
            ),
            (
                None,
                (1, 1),
                hello(identity(9, 3, 30), 1),
                Some((RefusalCode::Misdirected, "not store 1")),
            ),
            (
                None,
                (1, 1),
                hello(identity(9, 1, 10), 2),
                Some((RefusalCode::Misdirected, "wrong direction")),
            ),
            (
                raft(1),
                (1, 1),
                hello(identity(9, 3, 30), 2),
                Some((RefusalCode::Misdirected, "leads to store 3")),
            ),
            (
                bulk,
                (1, 1),
                hello(identity(9, 1, 10), 2),
                Some((RefusalCode::Misdirected, "wrong channel")),
            ),
            (
                None,
                (1, 1),
                hello(identity(9, 3, 31), 2),
                Some((RefusalCode::Incarnation, "wiped or replaced")),
            ),
            (None, (1, 1), hello(identity(9, 1, 0), 2), None),
            (
                None,
                (1, 1),
                hello(identity(9, 3, 0), 2),
                Some((RefusalCode::Incarnation, "formatted before")),
            ),
        ];
        for (dialed, versions, hello, expected) in cases {
            match (check(own, &bindings, dialed, versions, &hello), expected) {
                (Ok(()), None) => {}
                (Err(refusal), Some((code, words))) => {
                    assert!(
                        refusal.code == code && refusal.reason.contains(words),
                        "{refusal:?}"
                    );
                }
                (result, expected) => panic!("{result:?} instead of {expected:?} for {hello:?}"),
            }
        }
    }

    #[test]
    fn only_a_refused_identity_is_fatal_and_only_by_whom_we_know() {
        let bindings = Bindings::from([(StoreId(1), Incarnation(10))]);
        let refusal = |code, by| Refusal {
            code,
            by,
            reason: String::new(),
        };
        let known = identity(9, 1, 10);
        assert!(fatal(&bindings, None, &refusal(RefusalCode::Incarnation, known)));
        assert!(
            fatal(
                &bindings,
                None,
                &refusal(RefusalCode::Cluster, identity(8, 4, 40))
            ),
            "first contact"
        );
        assert!(!fatal(
            &bindings,
            None,
            &refusal(RefusalCode::Incarnation, identity(9, 1, 11))
        ));
        assert!(!fatal(
            &bindings,
            Some(StoreId(1)),
            &refusal(RefusalCode::Cluster, identity(8, 4, 40))
        ));
        assert!(!fatal(&bindings, None, &refusal(RefusalCode::Version, known)));
        assert!(!fatal(&bindings, None, &refusal(RefusalCode::Misdirected, known)));
    }
}
