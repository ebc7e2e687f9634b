//! The commands within commands.

use super::table::CommandSpec;
use super::{client_command, cluster, command_info, config};

/// Subcommands of CLIENT, sorted by name.
pub(super) static CLIENT: &[CommandSpec] = &[
    CommandSpec::new("client|getname", 2, client_command::getname)
        .flags("noscript loading stale")
        .acl("@slow @connection")
        .about("connection", "2.6.9", "Get the current connection name"),
    CommandSpec::new("client|help", 2, client_command::help)
        .flags("loading stale")
        .acl("@slow @connection")
        .about(
            "connection",
            "5.0.0",
            "Show helpful text about the different subcommands",
        ),
    CommandSpec::new("client|id", 2, client_command::id)
        .flags("noscript loading stale")
        .acl("@slow @connection")
        .about(
            "connection",
            "5.0.0",
            "Returns the client ID for the current connection",
        ),
    CommandSpec::new("client|info", 2, client_command::info)
        .flags("noscript loading stale")
        .acl("@slow @connection")
        .tips("nondeterministic_output")
        .about(
            "connection",
            "6.2.0",
            "Returns information about the current client connection.",
        ),
    CommandSpec::new("client|list", -2, client_command::list)
        .flags("admin noscript loading stale")
        .acl("@admin @slow @dangerous @connection")
        .tips("nondeterministic_output")
        .about("connection", "2.4.0", "Get the list of client connections"),
    CommandSpec::new("client|no-evict", 3, client_command::no_evict)
        .flags("admin noscript loading stale")
        .acl("@admin @slow @dangerous @connection")
        .about(
            "connection",
            "7.0.0",
            "Set client eviction mode for the current connection",
        ),
    CommandSpec::new("client|no-touch", 3, client_command::no_evict)
        .flags("noscript loading stale")
        .acl("@slow @connection")
        .about(
            "connection",
            "7.2.0",
            "Controls whether commands sent by the client affect the LRU/LFU of accessed keys",
        ),
    CommandSpec::new("client|reply", 3, client_command::reply)
        .flags("noscript loading stale")
        .acl("@slow @connection")
        .about(
            "connection",
            "3.2.0",
            "Instruct the server whether to reply to commands",
        ),
    CommandSpec::new("client|setinfo", 4, client_command::setinfo)
        .flags("noscript loading stale")
        .acl("@slow @connection")
        .about("connection", "7.2.0", "Set client or connection specific info"),
    CommandSpec::new("client|setname", 3, client_command::setname)
        .flags("noscript loading stale")
        .acl("@slow @connection")
        .about("connection", "2.6.9", "Set the current connection name"),
];

/// Subcommands of CLUSTER, sorted by name.
pub(super) static CLUSTER: &[CommandSpec] = &[
    CommandSpec::new("cluster|countkeysinslot", 3, cluster::countkeysinslot)
        .alone()
        .flags("stale")
        .acl("@slow")
        .about(
            "cluster",
            "3.0.0",
            "Return the number of local keys in the specified hash slot",
        ),
    CommandSpec::new("cluster|help", 2, cluster::help)
        .flags("loading stale")
        .acl("@slow")
        .about(
            "cluster",
            "5.0.0",
            "Show helpful text about the different subcommands",
        ),
    CommandSpec::new("cluster|info", 2, cluster::info)
        .flags("stale")
        .acl("@slow")
        .tips("nondeterministic_output")
        .about("cluster", "3.0.0", "Provides info about Redis Cluster node state"),
    CommandSpec::new("cluster|keyslot", 3, cluster::keyslot)
        .flags("stale")
        .acl("@slow")
        .about("cluster", "3.0.0", "Returns the hash slot of the specified key"),
    CommandSpec::new("cluster|myid", 2, cluster::myid)
        .flags("stale")
        .acl("@slow")
        .about("cluster", "3.0.0", "Return the node id"),
    CommandSpec::new("cluster|nodes", 2, cluster::nodes)
        .flags("stale")
        .acl("@slow")
        .tips("nondeterministic_output")
        .about("cluster", "3.0.0", "Get Cluster config for the node"),
    CommandSpec::new("cluster|shards", 2, cluster::shards)
        .flags("stale")
        .acl("@slow")
        .tips("nondeterministic_output")
        .about("cluster", "7.0.0", "Get array of cluster slots to node mappings"),
    CommandSpec::new("cluster|slots", 2, cluster::slots)
        .flags("stale")
        .acl("@slow")
        .tips("nondeterministic_output")
        .about("cluster", "3.0.0", "Get array of Cluster slot to node mappings"),
];

/// Subcommands of COMMAND, sorted by name.
pub(super) static COMMAND: &[CommandSpec] = &[
    CommandSpec::new("command|count", 2, command_info::count)
        .flags("loading stale")
        .acl("@slow @connection")
        .about("server", "2.8.13", "Get total number of Redis commands"),
    CommandSpec::new("command|docs", -2, command_info::docs)
        .flags("loading stale")
        .acl("@slow @connection")
        .tips("nondeterministic_output_order")
        .about(
            "server",
            "7.0.0",
            "Get array of specific Redis command documentation",
        ),
    CommandSpec::new("command|getkeys", -4, command_info::getkeys)
        .flags("loading stale")
        .acl("@slow @connection")
        .about("server", "2.8.13", "Extract keys given a full Redis command"),
    CommandSpec::new("command|help", 2, command_info::help)
        .flags("loading stale")
        .acl("@slow @connection")
        .about(
            "server",
            "5.0.0",
            "Show helpful text about the different subcommands",
        ),
    CommandSpec::new("command|info", -2, command_info::info)
        .flags("loading stale")
        .acl("@slow @connection")
        .tips("nondeterministic_output_order")
        .about(
            "server",
            "2.8.13",
            "Get array of specific Redis command details, or all when no argument is given.",
        ),
    CommandSpec::new("command|list", -2, command_info::list)
        .flags("loading stale")
        .acl("@slow @connection")
        .tips("nondeterministic_output_order")
        .about("server", "7.0.0", "Get an array of Redis command names"),
];

/// Subcommands of CONFIG, sorted by name.
pub(super) static CONFIG: &[CommandSpec] = &[
    CommandSpec::new("config|get", -3, config::get)
        .flags("admin noscript loading stale")
        .acl("@admin @slow @dangerous")
        .about("server", "2.0.0", "Get the values of configuration parameters"),
    CommandSpec::new("config|help", 2, config::help)
        .flags("loading stale")
        .acl("@slow")
        .about(
            "server",
            "5.0.0",
            "Show helpful text about the different subcommands",
        ),
    CommandSpec::new("config|resetstat", 2, config::resetstat)
        .flags("admin noscript loading stale")
        .acl("@admin @slow @dangerous")
        .about("server", "2.0.0", "Reset the stats returned by INFO"),
    CommandSpec::new("config|rewrite", 2, config::rewrite)
        .flags("admin noscript loading stale")
        .acl("@admin @slow @dangerous")
        .about(
            "server",
            "2.8.0",
            "Rewrite the configuration file with the in memory configuration",
        ),
    CommandSpec::new("config|set", -4, config::set)
        .flags("admin noscript loading stale")
        .acl("@admin @slow @dangerous")
        .tips("request_policy:all_nodes response_policy:all_succeeded")
        .about(
            "server",
            "2.0.0",
            "Set configuration parameters to the given values",
        ),
];
