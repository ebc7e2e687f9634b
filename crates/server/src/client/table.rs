//! The table of commands, with what COMMAND tells of each.
//!
//! Arity, flags, categories and key positions are those of Redis 7.0, because cluster clients compute from
//! them where a command goes.

use super::failure::{self, Failure, Text};
use super::{
    ClientContext, ClientSession, Handled, Handler, client_command, cluster, command_info, config,
    connection, keys, multi, once, quorate, scan, server_info, strings,
};
use crate::resp::Args;

/// A command.
pub(super) struct CommandSpec {
    /// In lower case; of a subcommand `container|subcommand`.
    pub(super) name: &'static str,
    /// Number of arguments, the name included; negative: at least.
    pub(super) arity: i32,
    pub(super) run: Handler,
    /// Separated by blanks, like the next two.
    pub(super) flags: &'static str,
    pub(super) acl: &'static str,
    pub(super) tips: &'static str,
    /// First key, last key (negative: from the end) and step; zeros without keys.
    pub(super) keys: (i32, i32, i32),
    pub(super) key_flags: &'static str,
    pub(super) key_notes: &'static str,
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) subcommands: &'static [CommandSpec],
    /// It concerns all keys, so that it must have the connection to itself.
    pub(super) alone: bool,
}

impl CommandSpec {
    const fn new(name: &'static str, arity: i32, run: Handler) -> Self {
        CommandSpec {
            name,
            arity,
            run,
            flags: "",
            acl: "",
            tips: "",
            keys: (0, 0, 0),
            key_flags: "",
            key_notes: "",
            group: "",
            since: "",
            summary: "",
            subcommands: &[],
            alone: false,
        }
    }

    const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    const fn flags(mut self, flags: &'static str) -> Self {
        self.flags = flags;
        self
    }

    const fn acl(mut self, acl: &'static str) -> Self {
        self.acl = acl;
        self
    }

    const fn tips(mut self, tips: &'static str) -> Self {
        self.tips = tips;
        self
    }

    const fn keys(mut self, first: i32, last: i32, step: i32) -> Self {
        self.keys = (first, last, step);
        self
    }

    const fn key_flags(mut self, key_flags: &'static str) -> Self {
        self.key_flags = key_flags;
        self
    }

    const fn key_notes(mut self, key_notes: &'static str) -> Self {
        self.key_notes = key_notes;
        self
    }

    const fn about(mut self, group: &'static str, since: &'static str, summary: &'static str) -> Self {
        self.group = group;
        self.since = since;
        self.summary = summary;
        self
    }

    const fn subcommands(mut self, subcommands: &'static [CommandSpec]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// Whether a request of this many arguments is well-formed.
    pub(super) fn arity_fits(&self, arguments: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            arguments >= wanted
        } else {
            arguments == wanted
        }
    }
}

/// Longest name in the table.
const NAME_BYTES_MAX: usize = 32;

/// The command of this name; a subcommand's is `container|subcommand`.
pub(super) fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let spec = find_in(COMMANDS, "", parts.next()?)?;
    match parts.next() {
        None => Some(spec),
        Some(subcommand) => find_in(spec.subcommands, spec.name, subcommand),
    }
}

fn find_in(table: &'static [CommandSpec], container: &str, name: &[u8]) -> Option<&'static CommandSpec> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut lower = [0u8; NAME_BYTES_MAX];
    let lower = &mut lower[..name.len()];
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    // A subcommand's name in the table begins with its container's and a bar.
    let skip = if container.is_empty() {
        0
    } else {
        container.len() + 1
    };
    let at = table
        .binary_search_by(|spec| spec.name.as_bytes()[skip..].cmp(lower))
        .ok()?;
    Some(&table[at])
}

/// The command that a request asks for, if there is such a one and the number of arguments fits.
pub(super) fn resolve(args: &Args) -> Result<&'static CommandSpec, Text> {
    let Some(mut spec) = find_in(COMMANDS, "", args.get(0)) else {
        return Err(failure::unknown_command(args.get(0), args.iter().skip(1)));
    };
    if args.len() > 1 && !spec.subcommands.is_empty() {
        let subcommand = find_in(spec.subcommands, spec.name, args.get(1));
        spec = subcommand.ok_or_else(|| failure::unknown_subcommand(spec.name, args.get(1)))?;
    }
    if spec.arity_fits(args.len()) {
        Ok(spec)
    } else {
        Err(Failure::Arity(spec.name).to_string().into_bytes())
    }
}

/// Containers do nothing by themselves; a request that names no subcommand has too few arguments.
fn container(_session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    Err(Failure::Syntax)
}

/// Every command, sorted by name.
pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("append", 3, strings::append)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW insert")
        .about("string", "2.0.0", "Append a value to a key"),
    CommandSpec::new("asking", 1, cluster::accept)
        .flags("fast")
        .acl("@fast @connection")
        .about("cluster", "3.0.0", "Sent by cluster clients after an -ASK redirect"),
    CommandSpec::new("auth", -2, connection::auth)
        .flags("noscript loading stale fast no_auth allow_busy")
        .acl("@fast @connection")
        .about("connection", "1.0.0", "Authenticate to the server"),
    CommandSpec::new("client", -2, container)
        .acl("@slow")
        .about("connection", "2.4.0", "A container for client connection commands")
        .subcommands(CLIENT),
    CommandSpec::new("cluster", -2, container)
        .acl("@slow")
        .about("cluster", "3.0.0", "A container for cluster commands")
        .subcommands(CLUSTER),
    CommandSpec::new("command", -1, command_info::all)
        .flags("loading stale")
        .acl("@slow @connection")
        .tips("nondeterministic_output_order")
        .about("server", "2.8.13", "Get array of Redis command details")
        .subcommands(COMMAND),
    CommandSpec::new("config", -2, container)
        .acl("@slow")
        .about("server", "2.0.0", "A container for server configuration commands")
        .subcommands(CONFIG),
    CommandSpec::new("dbsize", 1, scan::dbsize)
        .alone()
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .tips("request_policy:all_shards response_policy:agg_sum")
        .about("server", "1.0.0", "Return the number of keys in the selected database"),
    CommandSpec::new("debug", -2, server_info::debug)
        .flags("admin noscript loading stale")
        .acl("@admin @slow @dangerous")
        .about("server", "1.0.0", "A container for debugging commands"),
    CommandSpec::new("decr", 2, strings::decr)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .about("string", "1.0.0", "Decrement the integer value of a key by one"),
    CommandSpec::new("decrby", 3, strings::decrby)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .about("string", "1.0.0", "Decrement the integer value of a key by the given number"),
    CommandSpec::new("del", -2, multi::delete)
        .flags("write")
        .acl("@keyspace @write @slow")
        .keys(1, -1, 1)
        .key_flags("RM delete")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .about("generic", "1.0.0", "Delete a key"),
    CommandSpec::new("echo", 2, connection::echo)
        .flags("loading stale fast")
        .acl("@fast @connection")
        .about("connection", "1.0.0", "Echo the given string"),
    CommandSpec::new("exists", -2, multi::exists)
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .keys(1, -1, 1)
        .key_flags("RO")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .about("generic", "1.0.0", "Determine if a key exists"),
    CommandSpec::new("expire", -3, keys::expire)
        .flags("write fast")
        .acl("@keyspace @write @fast")
        .keys(1, 1, 1)
        .key_flags("RW update")
        .about("generic", "1.0.0", "Set a key's time to live in seconds"),
    CommandSpec::new("expireat", -3, keys::expireat)
        .flags("write fast")
        .acl("@keyspace @write @fast")
        .keys(1, 1, 1)
        .key_flags("RW update")
        .about("generic", "1.2.0", "Set the expiration for a key as a UNIX timestamp"),
    CommandSpec::new("expiretime", 2, keys::expiretime)
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .keys(1, 1, 1)
        .key_flags("RO access")
        .about("generic", "7.0.0", "Get the expiration Unix timestamp for a key"),
    CommandSpec::new("flushall", -1, scan::flush)
        .alone()
        .flags("write")
        .acl("@keyspace @write @slow @dangerous")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .about("server", "1.0.0", "Remove all keys from all databases"),
    CommandSpec::new("flushdb", -1, scan::flush)
        .alone()
        .flags("write")
        .acl("@keyspace @write @slow @dangerous")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .about("server", "1.0.0", "Remove all keys from the current database"),
    CommandSpec::new("get", 2, strings::get)
        .flags("readonly fast")
        .acl("@read @string @fast")
        .keys(1, 1, 1)
        .key_flags("RO access")
        .about("string", "1.0.0", "Get the value of a key"),
    CommandSpec::new("getdel", 2, strings::getdel)
        .flags("write fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access delete")
        .about("string", "6.2.0", "Get the value of a key and delete the key"),
    CommandSpec::new("getex", -2, strings::getex)
        .flags("write fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .key_notes("RW and UPDATE because it changes the TTL")
        .about("string", "6.2.0", "Get the value of a key and optionally set its expiration"),
    CommandSpec::new("getrange", 4, strings::getrange)
        .flags("readonly")
        .acl("@read @string @slow")
        .keys(1, 1, 1)
        .key_flags("RO access")
        .about("string", "2.4.0", "Get a substring of the string stored at a key"),
    CommandSpec::new("getset", 3, strings::getset)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .about("string", "1.0.0", "Set the string value of a key and return its old value"),
    CommandSpec::new("hello", -1, connection::hello)
        .flags("noscript loading stale fast no_auth allow_busy")
        .acl("@fast @connection")
        .about("connection", "6.0.0", "Handshake with Redis"),
    CommandSpec::new("incr", 2, strings::incr)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .about("string", "1.0.0", "Increment the integer value of a key by one"),
    CommandSpec::new("incrby", 3, strings::incrby)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .about("string", "1.0.0", "Increment the integer value of a key by the given amount"),
    CommandSpec::new("incrbyfloat", 3, strings::incrbyfloat)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .about("string", "2.6.0", "Increment the float value of a key by the given amount"),
    CommandSpec::new("info", -1, server_info::info)
        .flags("loading stale")
        .acl("@slow @dangerous")
        .tips("nondeterministic_output request_policy:all_shards response_policy:special")
        .about("server", "1.0.0", "Get information and statistics about the server"),
    CommandSpec::new("keys", 2, scan::keys)
        .alone()
        .flags("readonly")
        .acl("@keyspace @read @slow @dangerous")
        .tips("request_policy:all_shards nondeterministic_output_order")
        .about("generic", "1.0.0", "Find all keys matching the given pattern"),
    CommandSpec::new("mget", -2, multi::mget)
        .flags("readonly fast")
        .acl("@read @string @fast")
        .keys(1, -1, 1)
        .key_flags("RO access")
        .tips("request_policy:multi_shard")
        .about("string", "1.0.0", "Get the values of all the given keys"),
    CommandSpec::new("mset", -3, multi::mset)
        .flags("write denyoom")
        .acl("@write @string @slow")
        .keys(1, -1, 2)
        .key_flags("OW update")
        .tips("request_policy:multi_shard response_policy:all_succeeded")
        .about("string", "1.0.1", "Set multiple keys to multiple values"),
    CommandSpec::new("msetnx", -3, multi::msetnx)
        .flags("write denyoom")
        .acl("@write @string @slow")
        .keys(1, -1, 2)
        .key_flags("OW insert")
        .tips("request_policy:multi_shard response_policy:agg_min")
        .about("string", "1.0.1", "Set multiple keys to multiple values, only if none of the keys exist"),
    CommandSpec::new("once", -2, once::once)
        .flags("write denyoom movablekeys")
        .acl("@write @slow")
        .about("generic", "1.0.0", "Open a session, or run a write in it at most once"),
    CommandSpec::new("persist", 2, keys::persist)
        .flags("write fast")
        .acl("@keyspace @write @fast")
        .keys(1, 1, 1)
        .key_flags("RW update")
        .about("generic", "2.2.0", "Remove the expiration from a key"),
    CommandSpec::new("pexpire", -3, keys::pexpire)
        .flags("write fast")
        .acl("@keyspace @write @fast")
        .keys(1, 1, 1)
        .key_flags("RW update")
        .about("generic", "2.6.0", "Set a key's time to live in milliseconds"),
    CommandSpec::new("pexpireat", -3, keys::pexpireat)
        .flags("write fast")
        .acl("@keyspace @write @fast")
        .keys(1, 1, 1)
        .key_flags("RW update")
        .about("generic", "2.6.0", "Set the expiration for a key as a UNIX timestamp specified in milliseconds"),
    CommandSpec::new("pexpiretime", 2, keys::pexpiretime)
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .keys(1, 1, 1)
        .key_flags("RO access")
        .about("generic", "7.0.0", "Get the expiration Unix timestamp for a key in milliseconds"),
    CommandSpec::new("ping", -1, connection::ping)
        .flags("fast")
        .acl("@fast @connection")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .about("connection", "1.0.0", "Ping the server"),
    CommandSpec::new("psetex", 4, strings::psetex)
        .flags("write denyoom")
        .acl("@write @string @slow")
        .keys(1, 1, 1)
        .key_flags("OW update")
        .about("string", "2.6.0", "Set the value and expiration in milliseconds of a key"),
    CommandSpec::new("pttl", 2, keys::pttl)
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .keys(1, 1, 1)
        .key_flags("RO access")
        .tips("nondeterministic_output")
        .about("generic", "2.6.0", "Get the time to live for a key in milliseconds"),
    CommandSpec::new("quit", -1, connection::quit)
        .flags("noscript loading stale fast no_auth allow_busy")
        .acl("@fast @connection")
        .about("connection", "1.0.0", "Close the connection"),
    CommandSpec::new("quorate", -2, quorate::quorate)
        .flags("noscript stale")
        .acl("@slow @connection")
        .about("connection", "1.0.0", "Ask about this node or set how this connection is served"),
    CommandSpec::new("readonly", 1, cluster::accept)
        .flags("loading stale fast")
        .acl("@fast @connection")
        .about("cluster", "3.0.0", "Enables read queries for a connection to a cluster replica node"),
    CommandSpec::new("readwrite", 1, cluster::accept)
        .flags("loading stale fast")
        .acl("@fast @connection")
        .about("cluster", "3.0.0", "Disables read queries for a connection to a cluster replica node"),
    CommandSpec::new("reset", 1, connection::reset)
        .flags("noscript loading stale fast no_auth allow_busy")
        .acl("@fast @connection")
        .about("connection", "6.2.0", "Reset the connection"),
    CommandSpec::new("scan", -2, scan::scan)
        .alone()
        .flags("readonly")
        .acl("@keyspace @read @slow")
        .tips("nondeterministic_output request_policy:special")
        .about("generic", "2.8.0", "Incrementally iterate the keys space"),
    CommandSpec::new("select", 2, connection::select)
        .flags("loading stale fast")
        .acl("@fast @connection")
        .about("connection", "1.0.0", "Change the selected database for the current connection"),
    CommandSpec::new("set", -3, strings::set)
        .flags("write denyoom")
        .acl("@write @string @slow")
        .keys(1, 1, 1)
        .key_flags("RW access update variable_flags")
        .key_notes("RW and ACCESS due to the optional `GET` argument")
        .about("string", "1.0.0", "Set the string value of a key"),
    CommandSpec::new("setex", 4, strings::setex)
        .flags("write denyoom")
        .acl("@write @string @slow")
        .keys(1, 1, 1)
        .key_flags("OW update")
        .about("string", "2.0.0", "Set the value and expiration of a key"),
    CommandSpec::new("setnx", 3, strings::setnx)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("OW insert")
        .about("string", "1.0.0", "Set the value of a key, only if the key does not exist"),
    CommandSpec::new("setrange", 4, strings::setrange)
        .flags("write denyoom")
        .acl("@write @string @slow")
        .keys(1, 1, 1)
        .key_flags("RW update")
        .about("string", "2.2.0", "Overwrite part of a string at key starting at the specified offset"),
    CommandSpec::new("strlen", 2, strings::strlen)
        .flags("readonly fast")
        .acl("@read @string @fast")
        .keys(1, 1, 1)
        .key_flags("RO")
        .about("string", "2.2.0", "Get the length of the value stored in a key"),
    CommandSpec::new("substr", 4, strings::getrange)
        .flags("readonly")
        .acl("@read @string @slow")
        .keys(1, 1, 1)
        .key_flags("RO access")
        .about("string", "1.0.0", "Get a substring of the string stored at a key"),
    CommandSpec::new("time", 1, server_info::time)
        .flags("loading stale fast")
        .acl("@fast")
        .tips("nondeterministic_output")
        .about("server", "2.6.0", "Return the current server time"),
    CommandSpec::new("touch", -2, multi::exists)
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .keys(1, -1, 1)
        .key_flags("RO")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .about("generic", "3.2.1", "Alters the last access time of a key(s). Returns the number of existing keys specified."),
    CommandSpec::new("ttl", 2, keys::ttl)
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .keys(1, 1, 1)
        .key_flags("RO access")
        .tips("nondeterministic_output")
        .about("generic", "1.0.0", "Get the time to live for a key in seconds"),
    CommandSpec::new("type", 2, keys::type_of)
        .flags("readonly fast")
        .acl("@keyspace @read @fast")
        .keys(1, 1, 1)
        .key_flags("RO")
        .about("generic", "1.0.0", "Determine the type stored at key"),
    CommandSpec::new("unlink", -2, multi::delete)
        .flags("write fast")
        .acl("@keyspace @write @fast")
        .keys(1, -1, 1)
        .key_flags("RM delete")
        .tips("request_policy:multi_shard response_policy:agg_sum")
        .about("generic", "4.0.0", "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking."),
    CommandSpec::new("wait", 3, server_info::wait)
        .flags("noscript")
        .acl("@slow @connection")
        .tips("request_policy:all_shards response_policy:agg_min")
        .about("generic", "3.0.0", "Wait for the synchronous replication of all the write commands sent in the context of the current connection"),
];

/// Subcommands of CLIENT, sorted by name.
static CLIENT: &[CommandSpec] = &[
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
static CLUSTER: &[CommandSpec] = &[
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
static COMMAND: &[CommandSpec] = &[
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
static CONFIG: &[CommandSpec] = &[
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_complete() {
        let sorted = |table: &[CommandSpec]| table.is_sorted_by(|a, b| a.name < b.name);
        assert!(sorted(COMMANDS));
        for spec in COMMANDS {
            assert!(sorted(spec.subcommands), "{}", spec.name);
            assert!(!spec.summary.is_empty() && !spec.acl.is_empty(), "{}", spec.name);
            for subcommand in spec.subcommands {
                assert!(
                    subcommand.name.starts_with(&format!("{}|", spec.name)),
                    "{}",
                    subcommand.name
                );
                assert!(std::ptr::eq(
                    find(subcommand.name.as_bytes()).unwrap(),
                    subcommand
                ));
            }
            assert!(std::ptr::eq(
                find(spec.name.to_uppercase().as_bytes()).unwrap(),
                spec
            ));
        }
        assert!(find(b"nope").is_none() && find(b"client|nope").is_none() && find(b"").is_none());
        assert!(find(&[b'a'; 1000]).is_none());
    }
}
