//! The commands.

use super::subcommand_list::{CLIENT, CLUSTER, COMMAND, CONFIG};
use super::table::{CommandSpec, container};
use super::{cluster, command_info, connection, keys, multi, once, quorate, scan, server_info, strings};

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
    CommandSpec::new("cas", -4, strings::compare_and_set)
        .flags("write denyoom fast")
        .acl("@write @string @fast")
        .keys(1, 1, 1)
        .key_flags("RW access update")
        .about("string", "1.0.0", "Set a key's value if it holds an expected one"),
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
        .about("generic", "1.0.0", "Open a session, run a write in it at most once, or tell whether one ran"),
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
