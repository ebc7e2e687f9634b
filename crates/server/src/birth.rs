//! How an empty directory becomes a store: as one of the first members, by joining a cluster, or alone.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_client::plain::Client;
use quorate_client::resp::Reply;
use quorate_controller::Controller;
use quorate_proto::{Admission, decode_admission};
use quorate_storage::engine::Engine;
use quorate_storage::{ClusterId, Identity, Incarnation, StoreId};
use quorate_store::{Bootstrap, Store};
use quorate_transport::{Inquiry, inquire};

use crate::config::{self, ServerConfig};
use crate::data_dir::DataDir;
use crate::run::{Opened, RunError, open, random_u128};

/// How long a peer may take to say whether it knows a store that is about to be formatted.
const INQUIRY_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a new store asks for an id: the cluster may be about to start, too.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// How long one node may take to answer it.
const JOIN_ATTEMPT: Duration = Duration::from_secs(6);
/// Between two rounds of questions.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// Makes an empty directory a store's: the first state in the engine, then in the log, both durable, then the identity
/// (P4). Nothing is sent before, except the question for an id.
pub(crate) fn format(dir: &DataDir, config: &ServerConfig) -> Result<Opened, RunError> {
    let incarnation = Incarnation(random_u128()?);
    if !config.join.is_empty() {
        return join(dir, config, dir.joining_as(incarnation)?);
    }
    let (first, identity) = match (&config.bootstrap, config.store_id) {
        (Some(bootstrap), Some(store)) => {
            check_first_roles(&first_state(bootstrap.cluster_id(), bootstrap), store, config)?;
            ask_peers(&config.data, bootstrap, store)?;
            let cluster = bootstrap.cluster_id();
            let identity = Identity {
                cluster,
                store,
                incarnation,
            };
            (first_state(cluster, bootstrap), identity)
        }
        (None, None) => {
            let identity = Identity {
                cluster: ClusterId(random_u128()?),
                store: StoreId(1),
                incarnation,
            };
            let first = Bootstrap {
                cluster: identity.cluster,
                stores: vec![identity.store],
                shards: config.shards as u16,
                replicas: config.replicas as u8,
            };
            check_first_roles(&first, identity.store, config)?;
            tracing::info!("no --bootstrap and no --join: this store begins a cluster of its own");
            (first, identity)
        }
        // P7: an id is not taken from a flag.
        (None, Some(_)) | (Some(_), None) => return Err(dir.no_bootstrap().into()),
    };
    formatted(dir, config, identity, Some(&first))
}

/// What a first member holds at first must be what it is there for. Alone, it holds everything until others come.
fn check_first_roles(first: &Bootstrap, own: StoreId, config: &ServerConfig) -> Result<(), RunError> {
    let roles = config.roles;
    let holds_controller = first.members()[0].iter().any(|(_, store)| *store == own);
    let lacks = if holds_controller && !roles.controller {
        Some(
            "it is to hold the controller's shard: the first node alone, and the first three of --bootstrap, do",
        )
    } else if first.stores.len() > 1 && !roles.store {
        Some(
            "every member of --bootstrap holds shards with data at first; begin with one node, which may have the \
             controller role alone, and let the others --join",
        )
    } else {
        None
    };
    match lacks {
        Some(reason) => Err(RunError::FirstRoles {
            dir: config.data.clone(),
            roles,
            reason,
        }),
        None => Ok(()),
    }
}

/// Formats the directory. `first`: what the store begins with, if it is one of the first.
fn formatted(
    dir: &DataDir,
    config: &ServerConfig,
    identity: Identity,
    first: Option<&Bootstrap>,
) -> Result<Opened, RunError> {
    dir.begin_format()?;
    let mut opened = open(dir, identity, config)?;
    let engine_failed = |source| RunError::Engine {
        dir: dir.engine(),
        source,
    };
    match first {
        Some(first) => first
            .write(&mut opened.engine, identity.store, &mut Controller::default())
            .map_err(engine_failed)?,
        None => Store::format(&mut opened.engine)?,
    }
    opened.engine.durability().make_durable().map_err(engine_failed)?;
    if let Some(first) = first {
        opened.log.write(&first.log_batch(identity.store))?;
        opened.log.sync()?;
    }
    dir.end_format(&identity)?;
    drop(opened);
    tracing::info!(store = identity.store.0, cluster = %identity.cluster, "store formatted");
    open(dir, identity, config)
}

/// What every member of the first membership begins with.
pub(crate) fn first_state(cluster: ClusterId, bootstrap: &config::Bootstrap) -> Bootstrap {
    Bootstrap {
        cluster,
        stores: bootstrap
            .members
            .iter()
            .map(|member| StoreId(member.store))
            .collect(),
        shards: bootstrap.shards as u16,
        replicas: bootstrap.replicas as u8,
    }
}

/// Asks the cluster for an id, and becomes that store.
fn join(dir: &DataDir, config: &ServerConfig, incarnation: Incarnation) -> Result<Opened, RunError> {
    let began = Instant::now();
    let mut last = String::new();
    while began.elapsed() < JOIN_PATIENCE {
        for node in &config.join {
            match ask_to_join(&node.to_string(), config, incarnation) {
                Ok(admission) => {
                    let peers = admission.stores.iter().map(|store| {
                        let address = String::from_utf8_lossy(&store.peer).into_owned();
                        (store.store, address)
                    });
                    dir.remember_peers(&peers.collect())?;
                    let identity = Identity {
                        cluster: admission.cluster,
                        store: admission.store,
                        incarnation,
                    };
                    return formatted(dir, config, identity, None);
                }
                Err(reason) => {
                    tracing::info!(%node, reason, "not joined yet");
                    last = format!("{node}: {reason}");
                }
            }
        }
        thread::sleep(JOIN_PAUSE);
    }
    Err(RunError::Join {
        dir: config.data.clone(),
        reason: last,
    })
}

/// One question to one node. To ask again does no harm: an incarnation gets one id.
fn ask_to_join(node: &str, config: &ServerConfig, incarnation: Incarnation) -> Result<Admission, String> {
    let mut client = Client::connect(node, JOIN_ATTEMPT).map_err(|error| error.to_string())?;
    let mut words = vec![
        "QUORATE".to_owned(),
        "JOIN".to_owned(),
        incarnation.to_string(),
        config.advertise_listen.to_string(),
        config.advertise_peer.to_string(),
        config.advertise_http.to_string(),
        config.roles.to_string(),
    ];
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let labels = config.labels.iter();
    words.extend(labels.map(|(name, value)| format!("{}={}", text(name), text(value))));
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    match client.command(&words) {
        Ok(Reply::Bulk(bytes)) => decode_admission(&bytes.into()).map_err(|error| error.to_string()),
        Ok(Reply::Error(text)) => Err(text),
        Ok(other) => Err(format!("an answer that is not one: {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// P7: an empty directory becomes a store only if no listed peer knows that store already. Peers that cannot be
/// reached are no obstacle, or no cluster could ever begin; should one of them know it, it refuses it later.
fn ask_peers(dir: &Path, bootstrap: &config::Bootstrap, own: StoreId) -> Result<(), RunError> {
    let members = bootstrap
        .members
        .iter()
        .map(|member| (StoreId(member.store), &member.peer));
    let asked: Vec<_> = members
        .filter(|(peer, _)| *peer != own)
        .map(|(peer, address)| {
            let (cluster, address) = (bootstrap.cluster_id(), address.clone());
            let said = thread::spawn({
                let address = address.clone();
                move || inquire(&address.resolve()?, cluster, own, peer, INQUIRY_PATIENCE)
            });
            (peer, address, said)
        })
        .collect();
    for (peer, address, said) in asked {
        let said = said
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the inquiry died")));
        match said {
            Ok(Inquiry::Unknown) => {}
            Ok(Inquiry::Refused(reason)) => {
                return Err(RunError::Bootstrap {
                    dir: dir.to_owned(),
                    peer,
                    addr: address.to_string(),
                    reason,
                });
            }
            Err(error) => tracing::info!(%peer, %address, %error, "peer cannot be asked before formatting"),
        }
    }
    Ok(())
}
