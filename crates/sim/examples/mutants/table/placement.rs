//! The controller and its schedulers.

use super::*;

pub(super) const MUTANTS: &[Mutant] = &[
    mutant(
        "controller",
        "ids-begin-anew-at-a-start",
        ALL,
        "design 6: a process starts with the ids that the cluster began with, and gives them again when it leads",
        "ids are given once and rise",
    ),
    mutant(
        "controller",
        "registered-under-the-id-of-another",
        ALL,
        "P7: whoever comes under the id of a store that is known by another incarnation is taken in",
        "a store's id belongs to one incarnation",
    ),
    mutant(
        "controller",
        "second-bootstrap-accepted",
        ALL,
        "PS-08: a cluster that has begun begins again",
        "a cluster begins once",
    ),
    mutant(
        "controller",
        "stale-heartbeat-accepted",
        ALL,
        "HB-12: what a shard's leader said before a split, a membership change or an election replaces what was said after",
        "the shard map never goes back",
    ),
    mutant(
        "controller",
        "timestamps-of-an-earlier-term",
        ALL,
        "B-10: the controller's leader gives timestamps out of the window of the leader before it",
        "timestamps are given once and rise",
    ),
    mutant(
        "controller",
        "map-kept-over-an-election",
        ALL,
        "design 6: the controller's leader takes what it heard when it led before for what it hears now",
        "the controller's leader knows only what it heard in its",
    ),
    mutant(
        "schedulers",
        "order-of-an-old-epoch-carried-out",
        PLACEMENT,
        "design 6: a shard's leader carries out what was ordered of an earlier version of the shard",
        "shard",
    ),
    mutant(
        "schedulers",
        "scheduled-before-it-was-heard",
        PLACEMENT,
        "design 6: the controller's new leader plans before it has heard of every slot",
        "shard",
    ),
    mutant(
        "schedulers",
        "replaced-although-half-are-down",
        PLACEMENT,
        "design 6: stores are replaced while half of them or more look down",
        "half",
    ),
    mutant(
        "schedulers",
        "more-at-a-time-than-allowed",
        PLACEMENT,
        "B-08: more shards change, or more replicas come to a store, than the limits say",
        "more",
    ),
    mutant(
        "schedulers",
        "split-not-recorded",
        SPLITS,
        "design 6: a new shard is in no config, so in no group",
        "the shard map is right once faults have ended",
    ),
];
