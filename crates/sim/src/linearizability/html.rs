//! Draws why a history is illegal: one HTML page without external resources or scripts. A row for each client
//! (more where operations overlap), a bar for each operation. Time runs to the right by rank, not to scale, so
//! that short operations can be read beside long ones; an axis tells the times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Verdict;
use super::explain::{Explanation, Part};
use super::history::{Operation, Outcome};

/// Operations outside the core that are drawn at most; the nearest ones are chosen.
const CONTEXT_MAX: usize = 300;
/// Pixels of a chart with few moments.
const WIDTH: usize = 1200;
/// Pixels of a lane.
const LANE: usize = 30;
/// Pixels for the clients' names.
const MARGIN: usize = 110;

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1c2330;--bg:#fff;--line:#d5dae3;--window:#fff3d6;--core:#bcd9ff;--core-line:#1f6fd6;\
--stuck:#ffc9c4;--stuck-line:#c8261b;--context:#eef0f4;--dim:#667}\
@media(prefers-color-scheme:dark){:root{--fg:#e4e8f0;--bg:#161a22;--line:#343b49;--window:#3a3320;--core:#1d3f6b;\
--core-line:#6aa9ff;--stuck:#6b2420;--stuck-line:#ff8d84;--context:#262c38;--dim:#9aa3b5}}\
body{font:14px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:24px}\
h1{font-size:20px}h2{font-size:16px;margin-top:32px}\
pre{background:var(--context);padding:12px;overflow-x:auto;border-radius:6px}\
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px}\
.chart{position:relative}\
.name,.tick{position:absolute;color:var(--dim);font-size:12px;white-space:nowrap}\
.name{left:0;padding:4px 8px;width:94px;overflow:hidden;text-overflow:ellipsis}\
.row{position:absolute;left:0;right:0;border-top:1px solid var(--line)}\
.window{position:absolute;background:var(--window)}\
.tick{border-left:1px solid var(--line);padding-left:4px}\
.op{position:absolute;box-sizing:border-box;height:24px;line-height:20px;padding:1px 5px;border:1px solid var(--line);\
border-radius:4px;background:var(--context);color:var(--dim);font-size:12px;white-space:nowrap;overflow:hidden;\
text-overflow:ellipsis}\
.core{background:var(--core);border-color:var(--core-line);color:var(--fg)}\
.stuck{background:var(--stuck);border-color:var(--stuck-line);color:var(--fg)}\
.open{border-right:none;border-radius:4px 0 0 4px;\
-webkit-mask-image:linear-gradient(to right,#000 70%,transparent);mask-image:linear-gradient(to right,#000 70%,transparent)}\
.op:hover{overflow:visible;z-index:9;width:auto!important;min-width:min-content;color:var(--fg);-webkit-mask-image:none;mask-image:none}\
.key span{display:inline-block;margin-right:16px}.key .op{position:static;display:inline-block;margin-right:6px}";

/// A page with a section for each verdict.
#[must_use]
pub fn html(verdicts: &[(String, Verdict)]) -> String {
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page += "<title>Linearizability</title><style>";
    page += STYLE;
    page += "</style></head><body>\n<h1>Linearizability</h1>\n";
    for (name, verdict) in verdicts {
        let _ = writeln!(
            page,
            "<h2>{}: {}</h2>",
            escape(name),
            escape(&verdict.to_string())
        );
        if let Verdict::NotLinearizable(explanation) = verdict {
            section(&mut page, explanation);
        }
    }
    page += "</body></html>\n";
    page
}

fn section(page: &mut String, explanation: &Explanation) {
    let _ = writeln!(page, "<pre>{}</pre>", escape(&explanation.to_string()));
    *page += "<p class=\"key\"><span><span class=\"op core\">operation</span>its outcome is part of the contradiction\
              </span><span><span class=\"op stuck\">operation</span>would have to be next, and cannot be</span><span>\
              <span class=\"op\">operation</span>its outcome makes no difference</span><span><span class=\"op open\">\
              operation</span>outcome unknown: may take effect at any later time or never</span>\
              <span>#n: its place in the longest order that fits</span><span>Point at a bar for its times.</span></p>\n";
    let drawn = choose(explanation);
    let hidden = explanation.operations.len() - drawn.len();
    if hidden > 0 {
        let _ = writeln!(
            page,
            "<p>{hidden} further operations around these are not drawn.</p>"
        );
    }
    chart(page, explanation, &drawn);
}

/// What is drawn, as positions: all that the explanation speaks of, and the rest by nearness to the end.
fn choose(explanation: &Explanation) -> Vec<usize> {
    let operations = &explanation.operations;
    let mut chosen: BTreeSet<usize> = explanation.order.iter().copied().collect();
    chosen.extend((0..operations.len()).filter(|at| operations[*at].1 == Part::Core));
    let others: Vec<usize> = (0..operations.len()).filter(|at| !chosen.contains(at)).collect();
    chosen.extend(others.into_iter().rev().take(CONTEXT_MAX));
    chosen.into_iter().collect()
}

fn chart(page: &mut String, explanation: &Explanation, drawn: &[usize]) {
    let operations: Vec<&Operation> = drawn.iter().map(|at| &explanation.operations[*at].0).collect();
    let moments: BTreeSet<u64> = operations
        .iter()
        .flat_map(|operation| [Some(operation.invoked), operation.ended()])
        .flatten()
        .collect();
    let ranks: BTreeMap<u64, usize> = moments.iter().copied().zip(0..).collect();
    // Moments that an operation has are all in the table.
    let step = (WIDTH / (moments.len() + 3)).clamp(52, 130);
    let x = |moment: u64| MARGIN + ranks.get(&moment).copied().unwrap_or(0) * step;
    let right = MARGIN + (moments.len() + 3) * step;
    let (lanes, lanes_of) = lanes(&operations);
    let top = 24;
    let height = top + lanes.len() * LANE + 8;

    let _ = write!(
        page,
        "<div class=\"scroll\"><div class=\"chart\" style=\"width:{right}px;height:{height}px\">"
    );
    let (first, last) = explanation.window;
    let _ = writeln!(
        page,
        "<div class=\"window\" style=\"left:{}px;width:{}px;top:0;height:{height}px\"></div>",
        x(first),
        x(last).saturating_sub(x(first)).max(2)
    );
    for (rank, moment) in moments.iter().enumerate().step_by(4) {
        let _ = writeln!(
            page,
            "<div class=\"tick\" style=\"left:{}px;top:0;height:{height}px\">{}</div>",
            MARGIN + rank * step,
            escape(&explanation.unit.show(*moment))
        );
    }
    let mut named = None;
    for (lane, client) in lanes.iter().enumerate() {
        if named != Some(*client) {
            named = Some(*client);
            let y = top + lane * LANE;
            let _ = writeln!(
                page,
                "<div class=\"row\" style=\"top:{y}px\"></div><div class=\"name\" style=\"top:{y}px\">client {client}</div>"
            );
        }
    }
    for ((at, operation), lane) in drawn.iter().zip(&operations).zip(lanes_of) {
        let left = x(operation.invoked);
        let end = operation.ended().map_or(right, x);
        bar(
            page,
            explanation,
            *at,
            (
                left,
                top + lane * LANE + 3,
                end.saturating_sub(left).max(step - 4),
            ),
        );
    }
    *page += "</div></div>\n";
}

/// The client of each lane, and the lane of each operation: one behind the other, where there is room.
fn lanes(operations: &[&Operation]) -> (Vec<u64>, Vec<usize>) {
    let clients: BTreeSet<u64> = operations.iter().map(|operation| operation.client).collect();
    let mut lanes = Vec::new();
    let mut lanes_of = vec![0; operations.len()];
    for client in clients {
        // By lane of this client: when it is free again.
        let mut free_at: Vec<Option<u64>> = Vec::new();
        let begin = lanes.len();
        for (operation, lane) in operations.iter().zip(&mut lanes_of) {
            if operation.client != client {
                continue;
            }
            let fits = |free: &Option<u64>| free.is_some_and(|free| free <= operation.invoked);
            let at = free_at.iter().position(fits).unwrap_or(free_at.len());
            if at == free_at.len() {
                free_at.push(None);
                lanes.push(client);
            }
            free_at[at] = operation.ended();
            *lane = begin + at;
        }
    }
    (lanes, lanes_of)
}

fn bar(page: &mut String, explanation: &Explanation, at: usize, (left, top, width): (usize, usize, usize)) {
    let (operation, part) = &explanation.operations[at];
    let mut class = String::from("op");
    if explanation.stuck.contains(&at) {
        class += " stuck";
    } else if *part == Part::Core {
        class += " core";
    }
    if operation.outcome == Outcome::Unknown {
        class += " open";
    }
    let place = explanation.order.iter().position(|other| *other == at);
    let number = place.map_or_else(String::new, |place| format!("#{} ", place + 1));
    let label = format!("{number}{} → {}", operation.command, operation.outcome);
    let ended = operation
        .ended()
        .map_or_else(|| "no answer".into(), |at| explanation.unit.show(at));
    let title = format!(
        "{operation}\n{} to {ended}",
        explanation.unit.show(operation.invoked)
    );
    let _ = writeln!(
        page,
        "<div class=\"{class}\" style=\"left:{left}px;top:{top}px;width:{width}px\" title=\"{}\">{}</div>",
        escape(&title),
        escape(&label)
    );
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}
