//! Serializer into a tree with sorted keys; it rejects values without a canonical text.

use std::collections::BTreeMap;

use serde::ser::{self, Serialize, Serializer};

use super::CanonicalError;

type Result<T> = std::result::Result<T, CanonicalError>;

/// Maximum nesting depth; JSON parsers commonly stop at 128.
const MAX_DEPTH: usize = 100;

pub(super) enum Node {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Array(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

#[derive(Clone, Copy)]
pub(super) struct NodeSerializer {
    depth: usize,
}

impl NodeSerializer {
    pub(super) fn new() -> Self {
        Self { depth: 0 }
    }

    fn nested(self) -> Result<Self> {
        if self.depth == MAX_DEPTH {
            return Err(CanonicalError::new(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }

    fn items(self, variant: Option<&'static str>) -> Result<Items> {
        Ok(Items { inner: self.nested()?, items: Vec::new(), variant })
    }

    fn fields(self, variant: Option<&'static str>) -> Result<Fields> {
        Ok(Fields { inner: self.nested()?, fields: BTreeMap::new(), key: None, variant })
    }
}

/// Wraps a node as `{"Variant": node}` if there is a variant.
fn wrap_variant(variant: Option<&'static str>, node: Node) -> Node {
    match variant {
        Some(name) => Node::Object(BTreeMap::from([(name.to_owned(), node)])),
        None => node,
    }
}

/// Implements the serialization of numbers by that of a wider type.
macro_rules! widened {
    ($($narrow:ident($type:ty) => $wide:ident;)+) => {$(
        fn $narrow(self, v: $type) -> Result<Node> {
            self.$wide(v.into())
        }
    )+};
}

impl Serializer for NodeSerializer {
    type Ok = Node;
    type Error = CanonicalError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    widened! {
        serialize_i8(i8) => serialize_i64;
        serialize_i16(i16) => serialize_i64;
        serialize_i32(i32) => serialize_i64;
        serialize_u8(u8) => serialize_u64;
        serialize_u16(u16) => serialize_u64;
        serialize_u32(u32) => serialize_u64;
        serialize_f32(f32) => serialize_f64;
    }

    fn serialize_bool(self, v: bool) -> Result<Node> {
        Ok(Node::Bool(v))
    }

    fn serialize_i64(self, v: i64) -> Result<Node> {
        Ok(Node::Signed(v))
    }

    fn serialize_i128(self, v: i128) -> Result<Node> {
        if let Ok(v) = u64::try_from(v) {
            return Ok(Node::Unsigned(v));
        }
        let too_large = |_| CanonicalError::new(format!("{v} does not fit 64 bits"));
        i64::try_from(v).map(Node::Signed).map_err(too_large)
    }

    fn serialize_u64(self, v: u64) -> Result<Node> {
        Ok(Node::Unsigned(v))
    }

    fn serialize_u128(self, v: u128) -> Result<Node> {
        let too_large = |_| CanonicalError::new(format!("{v} does not fit 64 bits"));
        u64::try_from(v).map(Node::Unsigned).map_err(too_large)
    }

    fn serialize_f64(self, v: f64) -> Result<Node> {
        if !v.is_finite() {
            return Err(CanonicalError::new(format!("{v} is not a finite number")));
        }
        Ok(Node::Float(v))
    }

    fn serialize_char(self, v: char) -> Result<Node> {
        Ok(Node::Text(v.to_string()))
    }

    fn serialize_str(self, v: &str) -> Result<Node> {
        Ok(Node::Text(v.to_owned()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Node> {
        Err(CanonicalError::new("it is bytes; encode them as text"))
    }

    fn serialize_none(self) -> Result<Node> {
        Ok(Node::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Node> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Node> {
        Ok(Node::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Node> {
        Ok(Node::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Node> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Node> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Node> {
        let node = value.serialize(self.nested()?).map_err(|e| e.with_key(variant))?;
        Ok(wrap_variant(Some(variant), node))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items> {
        self.items(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<Items> {
        self.items(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items> {
        self.items(None)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Items> {
        self.nested()?.items(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields> {
        self.fields(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields> {
        self.fields(None)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Fields> {
        self.nested()?.fields(Some(variant))
    }
}

/// An array being serialized.
pub(super) struct Items {
    inner: NodeSerializer,
    items: Vec<Node>,
    variant: Option<&'static str>,
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let node = value.serialize(self.inner).map_err(|e| e.with_key(self.items.len().to_string()))?;
        self.items.push(node);
        Ok(())
    }

    fn into_node(self) -> Node {
        wrap_variant(self.variant, Node::Array(self.items))
    }
}

/// Implements serde's four kinds of arrays, which are all the same here.
macro_rules! array_kind {
    ($($kind:ident, $push:ident;)+) => {$(
        impl ser::$kind for Items {
            type Ok = Node;
            type Error = CanonicalError;

            fn $push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.push(value)
            }

            fn end(self) -> Result<Node> {
                Ok(self.into_node())
            }
        }
    )+};
}

array_kind! {
    SerializeSeq, serialize_element;
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

/// An object being serialized.
pub(super) struct Fields {
    inner: NodeSerializer,
    fields: BTreeMap<String, Node>,
    key: Option<String>,
    variant: Option<&'static str>,
}

impl Fields {
    fn insert<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<()> {
        let node = value.serialize(self.inner).map_err(|e| e.with_key(key.clone()))?;
        if self.fields.contains_key(&key) {
            return Err(CanonicalError::new("this key occurs twice").with_key(key));
        }
        self.fields.insert(key, node);
        Ok(())
    }

    fn into_node(self) -> Node {
        wrap_variant(self.variant, Node::Object(self.fields))
    }
}

impl ser::SerializeMap for Fields {
    type Ok = Node;
    type Error = CanonicalError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = Some(match key.serialize(self.inner)? {
            Node::Text(text) => text,
            Node::Signed(i) => i.to_string(),
            Node::Unsigned(u) => u.to_string(),
            _ => return Err(CanonicalError::new("a key is neither text nor an integer")),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let key = self.key.take().ok_or_else(|| CanonicalError::new("a value without a key"))?;
        self.insert(key, value)
    }

    fn end(self) -> Result<Node> {
        Ok(self.into_node())
    }
}

/// Implements serde's two kinds of structs, which are the same here.
macro_rules! struct_kind {
    ($($kind:ident;)+) => {$(
        impl ser::$kind for Fields {
            type Ok = Node;
            type Error = CanonicalError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<()> {
                self.insert(key.to_owned(), value)
            }

            fn end(self) -> Result<Node> {
                Ok(self.into_node())
            }
        }
    )+};
}

struct_kind! {
    SerializeStruct;
    SerializeStructVariant;
}
