//! Rows, for people and for programs.

use serde_json::{Map, Value};

use crate::cli::Failure;

/// As JSON, or as a table with the fields' names above.
pub(super) fn print(rows: Vec<Map<String, Value>>, json: bool) -> Result<(), Failure> {
    if json {
        println!("{:#}", Value::from_iter(rows.into_iter().map(Value::Object)));
    } else {
        print!("{}", text(&rows));
    }
    Ok(())
}

/// A line for each row, below one with the fields' names; nothing without rows.
pub(super) fn text(rows: &[Map<String, Value>]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let names: Vec<String> = first.keys().cloned().collect();
    let mut table = vec![names.clone()];
    for row in rows {
        table.push(names.iter().map(|name| cell(row.get(name))).collect());
    }
    let mut text = String::new();
    for row in &table {
        let cells = row.iter().enumerate().map(|(at, cell)| {
            let width = table
                .iter()
                .map(|row| row[at].chars().count())
                .max()
                .unwrap_or_default();
            format!("{cell:>width$}")
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| cell(Some(item))).collect();
            items.join(",")
        }
        Some(other) => other.to_string(),
    }
}
