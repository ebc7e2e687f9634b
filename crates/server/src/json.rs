//! What a node lists in replies of the Redis protocol, as JSON: for tools that speak with it.

use quorate_client::resp::Reply;
use serde_json::{Map, Value, json};

/// A row: names and values in turns; none if the reply is something else.
#[must_use]
pub fn row(reply: &Reply) -> Option<Map<String, Value>> {
    let Reply::Array(fields) = reply else {
        return None;
    };
    if fields.len() % 2 != 0 {
        return None;
    }
    let field = |pair: &[Reply]| match &pair[0] {
        Reply::Bulk(name) => Some((String::from_utf8_lossy(name).into_owned(), value(&pair[1]))),
        _ => None,
    };
    fields.chunks_exact(2).map(field).collect()
}

/// A list of rows; none if the reply is something else.
#[must_use]
pub fn rows(reply: &Reply) -> Option<Vec<Map<String, Value>>> {
    match reply {
        Reply::Array(list) => list.iter().map(row).collect(),
        _ => None,
    }
}

fn value(reply: &Reply) -> Value {
    match reply {
        Reply::Simple(text) | Reply::Error(text) => json!(text),
        Reply::Int(number) => json!(number),
        Reply::Bulk(bytes) => json!(String::from_utf8_lossy(bytes)),
        Reply::Nil => Value::Null,
        // Lists of lists are rows.
        Reply::Array(items) if matches!(items.first(), Some(Reply::Array(_))) => {
            let rows = rows(reply).into_iter().flatten();
            rows.map(Value::Object).collect()
        }
        Reply::Array(items) => items.iter().map(value).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.into())
    }

    #[test]
    fn rows_hold_values_lists_and_rows() {
        let inner = Reply::Array(vec![
            bulk("group"),
            Reply::Int(1),
            bulk("stores"),
            Reply::Array(vec![]),
        ]);
        let outer = Reply::Array(vec![
            bulk("config"),
            Reply::Int(7),
            bulk("groups"),
            Reply::Array(vec![inner]),
            bulk("stores"),
            Reply::Array(vec![Reply::Int(3), Reply::Nil]),
        ]);
        let found = row(&outer).map(Value::Object);
        let wanted = json!({"config": 7, "groups": [{"group": 1, "stores": []}], "stores": [3, null]});
        assert_eq!(found, Some(wanted));
        assert_eq!(rows(&Reply::Array(vec![outer])).map(|rows| rows.len()), Some(1));
        for other in [Reply::Nil, Reply::Int(1), Reply::Array(vec![bulk("odd")])] {
            assert_eq!(row(&other), None, "{other:?}");
        }
        assert_eq!(rows(&Reply::Array(vec![Reply::Int(1)])), None);
    }
}
