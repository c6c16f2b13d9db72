//! Canonical JSON: each value has exactly one text, whose digest identifies the value.
//!
//! The rules never change, since a change would alter every digest:
//!
//! | value | text |
//! |---|---|
//! | object | keys sorted by their UTF-8 bytes, no white space; a duplicate key is an error |
//! | integer | decimal digits; what fits neither `i64` nor `u64` is an error |
//! | float | the shortest decimal that reads back as the same `f64`, always with a point or an exponent: `0.3`, `1.0`, `1e-6`, `1e16`. Positional from 1e-5 up to 1e16, scientific elsewhere. `-0.0` is `0.0`. NaN and infinities are errors. An `f32` is first widened to `f64` |
//! | string | UTF-8; escaped are only `"`, `\` and control characters (`\b \t \n \f \r`, else `\u00xx`); no Unicode normalisation |
//! | `None`, `()` | `null` |
//! | enum variant | `"Name"`, or `{"Name": value}` |
//!
//! An integer and a float are different values: `1` and `1.0` have different texts. Bytes are an
//! error; encode them as text.

mod serializer;

use std::fmt::Write as _;

use serde::Serialize;
use thiserror::Error;

use self::serializer::{Node, NodeSerializer};

/// Error for a value without a canonical text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no canonical JSON for the value at `{}`: {problem}", self.location())]
pub struct CanonicalError {
    /// Keys and indices that lead to the value, innermost first.
    path: Vec<String>,
    problem: String,
}

impl CanonicalError {
    fn new(problem: impl Into<String>) -> Self {
        Self { path: Vec::new(), problem: problem.into() }
    }

    fn with_key(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }

    /// Returns the keys and indices that lead to the value, outermost first, joined by dots; `.`
    /// for the whole value.
    pub fn location(&self) -> String {
        if self.path.is_empty() {
            return ".".to_owned();
        }
        self.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

impl serde::ser::Error for CanonicalError {
    fn custom<T: std::fmt::Display>(problem: T) -> Self {
        Self::new(problem.to_string())
    }
}

/// Serializes `value` as canonical JSON.
pub fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let node = value.serialize(NodeSerializer::default())?;
    let mut text = String::new();
    write_node(&mut text, &node);
    Ok(text.into_bytes())
}

/// Writes a node. The serializer bounds the depth, and with it this recursion.
fn write_node(text: &mut String, node: &Node) {
    match node {
        Node::Null => text.push_str("null"),
        Node::Bool(b) => text.push_str(if *b { "true" } else { "false" }),
        Node::Signed(i) => write_display(text, i),
        Node::Unsigned(u) => write_display(text, u),
        // Rust's `Debug` format of an `f64` follows the rule of the table above; a test checks it.
        Node::Float(f) => write_display(text, format_args!("{:?}", if *f == 0.0 { 0.0 } else { *f })),
        Node::Text(s) => write_string(text, s),
        Node::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                write_node(text, item);
            }
            text.push(']');
        }
        Node::Object(fields) => {
            text.push('{');
            for (i, (key, item)) in fields.iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                write_string(text, key);
                text.push(':');
                write_node(text, item);
            }
            text.push('}');
        }
    }
}

fn write_display(text: &mut String, value: impl std::fmt::Display) {
    write!(text, "{value}").expect("writing to a String does not fail");
}

/// Writes a string. The JSON library escapes as the table above says; a test checks it.
fn write_string(text: &mut String, value: &str) {
    write_display(text, serde_json::Value::from(value));
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn text<T: Serialize + ?Sized>(value: &T) -> String {
        String::from_utf8(to_canonical(value).unwrap()).unwrap()
    }

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Preset {
        ReleasedCode,
        Custom { lambda: f64, scope: Option<&'static str> },
        Pair(u8, i64),
        One(bool),
    }

    #[derive(Serialize)]
    struct Parameters {
        zeta: u64,
        alpha: Vec<Preset>,
        rate: f32,
        none: Option<u8>,
        unit: (),
    }

    #[test]
    fn golden_text() {
        let parameters = Parameters {
            zeta: u64::MAX,
            alpha: vec![
                Preset::ReleasedCode,
                Preset::Custom { lambda: 1.0, scope: None },
                Preset::Pair(7, i64::MIN),
                Preset::One(true),
            ],
            rate: 0.5,
            none: None,
            unit: (),
        };
        assert_eq!(
            text(&parameters),
            "{\"alpha\":[\"released_code\",{\"custom\":{\"lambda\":1.0,\"scope\":null}},{\"pair\":[7,-9223372036854775808]},\
             {\"one\":true}],\"none\":null,\"rate\":0.5,\"unit\":null,\"zeta\":18446744073709551615}"
        );
    }

    #[test]
    fn the_rule_for_floats_is_pinned() {
        let cases: [(f64, &str); 16] = [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-5, "1e-5"),
            (1e-4, "0.0001"),
            (9.999e-5, "9.999e-5"),
            (1e-6, "1e-6"),
            (1e15, "1000000000000000.0"),
            (9007199254740993.0, "9007199254740992.0"),
            (1e16, "1e16"),
            (1.5e300, "1.5e300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::from(0.3f32), "0.30000001192092896"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(&value), expected);
        }
        assert_eq!(text(&0.3f32), "0.30000001192092896");
    }

    #[test]
    fn strings_escape_as_little_as_json_allows() {
        assert_eq!(
            text("a\"\\/\u{8}\t\n\u{c}\r\u{1}\u{1f}\u{7f}é\u{2028}😀"),
            "\"a\\\"\\\\/\\b\\t\\n\\f\\r\\u0001\\u001f\u{7f}é\u{2028}😀\""
        );
    }

    #[test]
    fn keys_sort_by_bytes() {
        let map: HashMap<&str, u8> =
            [("b", 1), ("B", 2), ("é", 3), ("", 4), ("ab", 5), ("😀", 6), ("\u{ffff}", 7)].into();
        assert_eq!(text(&map), "{\"\":4,\"B\":2,\"ab\":5,\"b\":1,\"é\":3,\"\u{ffff}\":7,\"😀\":6}");
        assert_eq!(text(&BTreeMap::from([(10, "a"), (9, "b")])), "{\"10\":\"a\",\"9\":\"b\"}");
    }

    #[test]
    fn errors_name_the_location() {
        let groups = [1.0, f64::NAN].map(|lambda| BTreeMap::from([("lambda", lambda)]));
        let nan = BTreeMap::from([("groups", groups)]);
        assert_eq!(
            to_canonical(&nan).unwrap_err().to_string(),
            "no canonical JSON for the value at `groups.1.lambda`: NaN is not a finite number"
        );
        assert!(to_canonical(&f32::INFINITY).unwrap_err().to_string().contains("`.`: inf"));
        assert!(to_canonical(&u128::MAX).is_err());
        assert!(to_canonical(&i128::MIN).is_err());
        assert_eq!(text(&(i128::from(i64::MIN), u128::from(u64::MAX))), "[-9223372036854775808,18446744073709551615]");
        assert!(to_canonical(&BTreeMap::from([((1, 2), 3)])).unwrap_err().to_string().contains("key"));
        assert!(to_canonical(&Fields(vec![("a", 1), ("a", 2)])).unwrap_err().to_string().contains("twice"));
        assert!(to_canonical(&Bytes).is_err());
        let mut deep = json!(1);
        for _ in 0..1000 {
            deep = json!([deep]);
        }
        assert!(to_canonical(&deep).unwrap_err().to_string().contains("nested"));
    }

    /// An object with its fields in this order, even if a key occurs twice.
    struct Fields<'a>(Vec<(&'a str, i64)>);
    impl Serialize for Fields<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().copied())
        }
    }

    struct Bytes;
    impl Serialize for Bytes {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(b"ab")
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            proptest::num::f64::NORMAL.prop_map(Value::from),
            (-1000i32..1000).prop_map(|i| Value::from(f64::from(i) / 8.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_back_as_the_same_value(value in any_json()) {
            let bytes = to_canonical(&value).unwrap();
            let back: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(to_canonical(&back).unwrap(), bytes);
        }

        #[test]
        fn the_order_of_keys_does_not_matter(fields in prop::collection::hash_map(any::<String>(), any::<i64>(), 0..20), seed: u64) {
            let mut order: Vec<(&str, i64)> = fields.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            order.sort_by_key(|(key, _)| *blake3::hash(format!("{seed}{key}").as_bytes()).as_bytes());
            prop_assert_eq!(to_canonical(&Fields(order)).unwrap(), to_canonical(&fields).unwrap());
        }
    }
}
