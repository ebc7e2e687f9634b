//! From what was given to what holds: defaults, and every value's range.

use std::net::SocketAddr;

use quorate_storage::StoreId;

use super::{
    Bootstrap, ByteSize, ConfigError, ConfigLayer, HostPort, HostPorts, LabelList, Members, RoleList,
    ServerConfig,
};

impl ServerConfig {
    /// Fills in the defaults and checks every value. Resolves host names of the three listening addresses.
    pub fn resolve(layer: ConfigLayer) -> Result<Self, ConfigError> {
        let data = layer.data.ok_or(ConfigError::Missing {
            what: "the data directory",
            cure: "give --data DIR, QUORATE_DATA or `data` in the file",
        })?;
        let shards = within("shards", layer.shards.unwrap_or(8), 1, 1024)?;
        let replicas = within("replicas", layer.replicas.unwrap_or(3), 1, 9)?;
        let bootstrap = bootstrap(
            layer.bootstrap,
            layer.bootstrap_token,
            layer.store_id,
            (shards, replicas),
        )?;
        if layer.store_id == Some(0) {
            return Err(invalid("store_id", 0, "store ids are counted from 1"));
        }

        if bootstrap.is_some() && layer.join.is_some() {
            let rule = "a new store either joins a cluster or forms one with --bootstrap";
            return Err(invalid(
                "join",
                layer.join.map_or_else(String::new, |join| join.to_string()),
                rule,
            ));
        }

        let listen = bindable("listen", layer.listen, 7001)?;
        let peer = bindable("peer", layer.peer, 7101)?;
        let http = bindable("http", layer.http, 7201)?;
        for (name, addr, other) in [
            ("peer", peer, listen),
            ("http", http, listen),
            ("http", http, peer),
        ] {
            if addr == other {
                return Err(invalid(
                    name,
                    addr,
                    "it is used for another of the three addresses already",
                ));
            }
        }
        let own_peer = bootstrap.as_ref().and_then(|b: &Bootstrap| {
            b.members
                .iter()
                .find(|m| Some(m.store) == layer.store_id)
                .map(|m| m.peer.clone())
        });

        let heartbeat_ticks = within("heartbeat_ticks", layer.heartbeat_ticks.unwrap_or(2), 1, 333)?;
        let election_ticks = layer.election_ticks.unwrap_or(10);
        if election_ticks < 3 * heartbeat_ticks || election_ticks > 1000 {
            let rule = format!(
                "it must be from {} (three heartbeats, so that one lost heartbeat starts no election) to 1000",
                3 * heartbeat_ticks
            );
            return Err(ConfigError::Invalid {
                name: "election_ticks",
                value: election_ticks.to_string(),
                rule,
            });
        }
        let clock_drift_max = layer.clock_drift_max.unwrap_or(0.01);
        if !(0.0..=0.5).contains(&clock_drift_max) {
            return Err(invalid(
                "clock_drift_max",
                clock_drift_max,
                "it must be a share from 0 to 0.5",
            ));
        }
        let log_segment_bytes = size(
            "log_segment_bytes",
            layer.log_segment_bytes,
            64 << 20,
            1 << 20,
            1 << 30,
        )?;
        let log_retention_bytes = size(
            "log_retention_bytes",
            layer.log_retention_bytes,
            1 << 30,
            2 * log_segment_bytes,
            1 << 50,
        )?;

        Ok(Self {
            data,
            store_id: layer.store_id.map(StoreId),
            bootstrap,
            join: layer.join.map_or_else(Vec::new, |HostPorts(nodes)| nodes),
            labels: layer.label.map(|LabelList(labels)| labels).unwrap_or_default(),
            roles: layer.roles.map(|RoleList(roles)| roles).unwrap_or_default(),
            shards,
            replicas,
            listen,
            peer,
            http,
            advertise_listen: advertised("advertise_listen", layer.advertise_listen, listen)?,
            advertise_peer: advertised("advertise_peer", layer.advertise_peer.or(own_peer), peer)?,
            advertise_http: advertised("advertise_http", layer.advertise_http, http)?,
            redis_mode: layer.redis_mode.unwrap_or_default(),
            frame_bytes_max: size(
                "frame_bytes_max",
                layer.frame_bytes_max,
                64 << 20,
                64 << 10,
                64 << 20,
            )? as usize,
            connections_max: within(
                "connections_max",
                layer.connections_max.unwrap_or(10_000),
                1,
                1_000_000,
            )? as usize,
            pipeline_depth_max: within(
                "pipeline_depth_max",
                layer.pipeline_depth_max.unwrap_or(1024),
                1,
                65_536,
            )? as usize,
            request_timeout_ms: within(
                "request_timeout_ms",
                layer.request_timeout_ms.unwrap_or(5000),
                100,
                600_000,
            )?,
            session_ttl_s: within(
                "session_ttl_s",
                layer.session_ttl_s.unwrap_or(86_400),
                600,
                2_592_000,
            )?,
            sessions_max_per_shard: within(
                "sessions_max_per_shard",
                layer.sessions_max_per_shard.unwrap_or(100_000),
                100,
                10_000_000,
            )?,
            session_bytes_max_per_shard: size(
                "session_bytes_max_per_shard",
                layer.session_bytes_max_per_shard,
                64 << 20,
                1 << 20,
                16 << 30,
            )?,
            tick_ms: within("tick_ms", layer.tick_ms.unwrap_or(50), 5, 1000)?,
            heartbeat_ticks,
            election_ticks,
            leases: layer.leases.unwrap_or(true),
            clock_drift_max,
            log_segment_bytes,
            log_retention_bytes_per_shard: size(
                "log_retention_bytes_per_shard",
                layer.log_retention_bytes_per_shard,
                16 << 20,
                64 << 10,
                64 << 30,
            )?,
            log_retention_bytes,
            snapshot_bytes_per_second: size(
                "snapshot_bytes_per_second",
                layer.snapshot_bytes_per_second,
                8 << 20,
                0,
                1 << 40,
            )?,
            split_bytes: size("split_bytes", layer.split_bytes, 4 << 30, 0, 1 << 50)?,
            low_space_bytes: size("low_space_bytes", layer.low_space_bytes, 256 << 20, 0, 1 << 50)?,
            schedule: layer.schedule.unwrap_or(true),
            replace_after_s: within(
                "replace_after_s",
                layer.replace_after_s.unwrap_or(1800),
                30,
                2_592_000,
            )?,
            log_sync: layer.log_sync.unwrap_or_default(),
            log_level: layer.log_level.unwrap_or_else(|| "info".to_owned()),
            log_format: layer.log_format.unwrap_or_default(),
        })
    }
}

fn bootstrap(
    members: Option<Members>,
    token: Option<String>,
    store_id: Option<u64>,
    (shards, replicas): (u32, u32),
) -> Result<Option<Bootstrap>, ConfigError> {
    let Some(Members(members)) = members else {
        return Ok(None);
    };
    let token = token.filter(|t| !t.is_empty()).ok_or(ConfigError::Missing {
        what: "the bootstrap token",
        cure: "--bootstrap needs --bootstrap-token TEXT, the same on every member, another one for every cluster",
    })?;
    let own = store_id.ok_or(ConfigError::Missing {
        what: "the store id",
        cure: "--bootstrap needs --store-id ID, to say which of the members this is",
    })?;
    if !members.iter().any(|m| m.store == own) {
        let listed: Vec<String> = members.iter().map(|m| m.store.to_string()).collect();
        let rule = format!("--bootstrap lists only {}", listed.join(", "));
        return Err(ConfigError::Invalid {
            name: "store_id",
            value: own.to_string(),
            rule,
        });
    }
    Ok(Some(Bootstrap {
        members,
        token,
        shards,
        replicas,
    }))
}

fn invalid(name: &'static str, value: impl ToString, rule: &str) -> ConfigError {
    ConfigError::Invalid {
        name,
        value: value.to_string(),
        rule: rule.to_owned(),
    }
}

fn within(name: &'static str, value: u32, min: u32, max: u32) -> Result<u32, ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Invalid {
        name,
        value: value.to_string(),
        rule: format!("it must be from {min} to {max}"),
    })
}

fn size(
    name: &'static str,
    value: Option<ByteSize>,
    default: u64,
    min: u64,
    max: u64,
) -> Result<u64, ConfigError> {
    // A default below a minimum that depends on another setting follows it.
    let value = value.unwrap_or(ByteSize(default.max(min)));
    if (min..=max).contains(&value.0) {
        return Ok(value.0);
    }
    let rule = format!("it must be from {} to {}", ByteSize(min), ByteSize(max));
    Err(ConfigError::Invalid {
        name,
        value: value.to_string(),
        rule,
    })
}

fn bindable(name: &'static str, value: Option<HostPort>, port: u16) -> Result<SocketAddr, ConfigError> {
    let value = value.unwrap_or_else(|| HostPort {
        host: "127.0.0.1".to_owned(),
        port,
    });
    let found = value
        .resolve()
        .map_err(|error| invalid(name, &value, &format!("it does not resolve: {error}")))?;
    found
        .first()
        .copied()
        .ok_or_else(|| invalid(name, &value, "the name has no address"))
}

/// What others are told must be an address that they can use: `0.0.0.0` is good for listening only.
fn advertised(
    name: &'static str,
    value: Option<HostPort>,
    bound: SocketAddr,
) -> Result<HostPort, ConfigError> {
    let value = value.unwrap_or_else(|| bound.into());
    match value.host.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err(invalid(
            name,
            &value,
            "others cannot connect to that: give the address or name by which they reach this node",
        )),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> ConfigLayer {
        ConfigLayer {
            data: Some("d".into()),
            ..ConfigLayer::default()
        }
    }

    fn from_toml(text: &str) -> Result<ServerConfig, String> {
        let dir = std::env::temp_dir().join(format!("quorate-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!(
            "{:x}.toml",
            text.len() * 31 + text.bytes().map(usize::from).sum::<usize>()
        ));
        std::fs::write(&path, text).unwrap();
        let loaded = ServerConfig::load(layer(), Some(&path)).map_err(|e| e.to_string());
        std::fs::remove_file(&path).unwrap();
        loaded
    }

    #[test]
    fn defaults_are_valid() {
        let config = ServerConfig::resolve(layer()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7001");
        assert_eq!(config.advertise_http.to_string(), "127.0.0.1:7201");
        assert_eq!(config.frame_bytes_max, 64 << 20);
        assert!(config.leases);
    }

    #[test]
    fn flags_come_before_the_file() {
        let config = from_toml("tick_ms = 20\nshards = 4\ndata = \"other\"\nleases = false\n").unwrap();
        assert_eq!((config.tick_ms, config.data.to_str()), (20, Some("d")));
        assert!(!config.leases);
    }

    #[test]
    fn the_file_names_what_it_does_not_know() {
        let error = from_toml("tick_ms = 20\nheartbeat_tics = 3\n").unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("heartbeat_tics"),
            "{error}"
        );
        let error = from_toml("log_segment_bytes = \"many\"\n").unwrap_err();
        assert!(
            error.contains("line 1") && error.contains("not a size"),
            "{error}"
        );
        let error = from_toml("tick_ms = \"fast\"\n").unwrap_err();
        assert!(error.contains("tick_ms") || error.contains("line 1"), "{error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }

    #[test]
    fn values_out_of_range_say_what_would_be_right() {
        for (text, why) in [
            ("shards = 0", "from 1 to 1024"),
            ("tick_ms = 1", "from 5 to 1000"),
            ("replace_after_s = 5", "from 30 to 2592000"),
            ("election_ticks = 5", "from 6 (three heartbeats"),
            ("clock_drift_max = 0.9", "0 to 0.5"),
            ("frame_bytes_max = 1", "from 64KiB to 64MiB"),
            ("log_retention_bytes = \"64MiB\"", "from 128MiB"),
            ("listen = \"0.0.0.0:7001\"", "others cannot connect"),
            ("peer = \"127.0.0.1:7001\"", "used for another"),
            ("bootstrap = \"1=127.0.0.1:7101\"", "--bootstrap-token"),
            ("join = \"here\"", "not HOST:PORT"),
            ("roles = \"store,leader\"", "`leader` is not a role"),
            (
                "join = \"127.0.0.1:7001\"\nbootstrap = \"1=127.0.0.1:7101\"\nbootstrap_token = \"t\"\nstore_id = 1",
                "either joins",
            ),
            (
                "bootstrap = \"1=127.0.0.1:7101\"\nbootstrap_token = \"t\"",
                "--store-id",
            ),
            (
                "bootstrap = \"1=127.0.0.1:7101\"\nbootstrap_token = \"t\"\nstore_id = 2",
                "lists only 1",
            ),
        ] {
            let error = from_toml(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn members_agree_on_the_cluster_id() {
        let cut = |members: &str, token: &str, shards, replicas| {
            let Members(members) = members.parse().unwrap();
            Bootstrap {
                members,
                token: token.to_owned(),
                shards,
                replicas,
            }
            .cluster_id()
        };
        let of = |members: &str, token: &str, shards| cut(members, token, shards, 3);
        let id = of("1=a:1,2=b:2,3=c:3", "x", 8);
        assert_eq!(
            id,
            of("3=c:33,1=a:11,2=b:22", "x", 8),
            "order and addresses do not count"
        );
        assert_ne!(id, of("1=a:1,2=b:2,3=c:3", "y", 8));
        assert_ne!(id, of("1=a:1,2=b:2", "x", 8));
        assert_ne!(id, of("1=a:1,2=b:2,3=c:3", "x", 16));
        assert_ne!(id, cut("1=a:1,2=b:2,3=c:3", "x", 8, 2));
        assert_eq!(
            id,
            cut("1=a:1,2=b:2,3=c:3", "x", 8, 5),
            "there is no choice who holds what"
        );
        // Existing data directories hold this: if it changes, they are refused.
        assert_eq!(id, of("1=a:1,2=b:2,3=c:3", "x", 8));
    }

    #[test]
    fn the_own_entry_of_the_bootstrap_is_advertised() {
        let config = ServerConfig::resolve(ConfigLayer {
            store_id: Some(2),
            bootstrap: Some("1=one:7101,2=two:7101".parse().unwrap()),
            bootstrap_token: Some("t".to_owned()),
            peer: Some("0.0.0.0:7101".parse().unwrap()),
            ..layer()
        })
        .unwrap();
        assert_eq!(config.advertise_peer.to_string(), "two:7101");
    }
}
