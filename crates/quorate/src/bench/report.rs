//! What `bench` prints at the end.

use std::time::Duration;

use serde_json::json;

use super::plan::Plan;
use super::stats::Stats;

const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// One line of JSON; latencies are in microseconds.
pub(super) fn json(plan: &Plan, stats: &Stats, elapsed: Duration) -> String {
    let mut out = json!({
        "endpoints": plan.endpoints,
        "clients": plan.clients,
        "threads": plan.threads,
        "pipeline": plan.pipeline,
        "value_size": plan.value_size,
        "read_share": plan.read_share,
        "keys": plan.keys,
        "seconds": round(elapsed.as_secs_f64(), 3),
        "ops": stats.ops(),
        "reads": stats.reads,
        "writes": stats.writes,
        "misses": stats.misses,
        "ops_per_s": round(per_second(stats, elapsed), 1),
        "mean_us": round(stats.latency_ns.mean() / 1e3, 1),
        "max_us": round(stats.latency_ns.max() as f64 / 1e3, 1),
        "redirects": stats.redirects,
        "errors": stats.errors,
        "error_texts": stats.error_texts,
    });
    for (name, quantile) in PERCENTILES {
        out[format!("{}_us", name.replace('.', ""))] = json!(round(us(stats, quantile), 1));
    }
    out.to_string()
}

/// A few lines for people.
pub(super) fn text(plan: &Plan, stats: &Stats, elapsed: Duration) -> String {
    let mut out = format!(
        "{} operations in {:.2} s: {} reads ({} of absent keys), {} writes{}\n\
         {} clients, pipeline {}, {} keys, {}\n\n\
         throughput  {:.0} operations/s\nlatency    ",
        stats.ops(),
        elapsed.as_secs_f64(),
        stats.reads,
        stats.misses,
        stats.writes,
        plan.history
            .map_or_else(|| format!(" of {} bytes", plan.value_size), |_| String::new()),
        plan.clients,
        plan.pipeline,
        plan.keys,
        plan.endpoints.join(" "),
        per_second(stats, elapsed),
    );
    for (name, quantile) in PERCENTILES {
        out.push_str(&format!(" {name} {}  ", time(us(stats, quantile))));
    }
    out.push_str(&format!(" max {}\n", time(stats.latency_ns.max() as f64 / 1e3)));
    if stats.redirects > 0 {
        out.push_str(&format!("redirects   {}\n", stats.redirects));
    }
    out.push_str(&format!("errors      {}\n", stats.errors));
    let mut texts: Vec<_> = stats.error_texts.iter().collect();
    texts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    for (text, n) in texts {
        out.push_str(&format!("  {n:>9}  {text}\n"));
    }
    out
}

fn us(stats: &Stats, quantile: f64) -> f64 {
    stats.latency_ns.value_at_quantile(quantile) as f64 / 1e3
}

fn per_second(stats: &Stats, elapsed: Duration) -> f64 {
    stats.ops() as f64 / elapsed.as_secs_f64().max(1e-9)
}

fn time(us: f64) -> String {
    if us < 1000.0 {
        format!("{us:.0} us")
    } else if us < 1e6 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}
