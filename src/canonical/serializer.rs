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

#[derive(Clone, Copy, Default)]
pub(super) struct NodeSerializer {
    depth: usize,
}

impl NodeSerializer {
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

/// Implements methods of a serializer, each by one expression.
macro_rules! methods {
    ($($name:ident($self:ident $(, $value:ident: $type:ty)*) -> $output:ty { $body:expr })+) => {$(
        fn $name($self $(, $value: $type)*) -> Result<$output> {
            $body
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

    methods! {
        serialize_bool(self, v: bool) -> Node { Ok(Node::Bool(v)) }
        serialize_i8(self, v: i8) -> Node { self.serialize_i64(v.into()) }
        serialize_i16(self, v: i16) -> Node { self.serialize_i64(v.into()) }
        serialize_i32(self, v: i32) -> Node { self.serialize_i64(v.into()) }
        serialize_i64(self, v: i64) -> Node { Ok(Node::Signed(v)) }
        serialize_u8(self, v: u8) -> Node { self.serialize_u64(v.into()) }
        serialize_u16(self, v: u16) -> Node { self.serialize_u64(v.into()) }
        serialize_u32(self, v: u32) -> Node { self.serialize_u64(v.into()) }
        serialize_u64(self, v: u64) -> Node { Ok(Node::Unsigned(v)) }
        serialize_f32(self, v: f32) -> Node { self.serialize_f64(v.into()) }
        serialize_char(self, v: char) -> Node { Ok(Node::Text(v.into())) }
        serialize_str(self, v: &str) -> Node { Ok(Node::Text(v.into())) }
        serialize_bytes(self, _v: &[u8]) -> Node { Err(CanonicalError::new("it is bytes; encode them as text")) }
        serialize_none(self) -> Node { Ok(Node::Null) }
        serialize_unit(self) -> Node { Ok(Node::Null) }
        serialize_unit_struct(self, _name: &'static str) -> Node { Ok(Node::Null) }
        serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Node {
            self.serialize_str(variant)
        }
        serialize_seq(self, _len: Option<usize>) -> Items { self.items(None) }
        serialize_tuple(self, _len: usize) -> Items { self.items(None) }
        serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Items { self.items(None) }
        serialize_tuple_variant(
            self, _name: &'static str, _index: u32, variant: &'static str, _len: usize
        ) -> Items { self.nested()?.items(Some(variant)) }
        serialize_map(self, _len: Option<usize>) -> Fields { self.fields(None) }
        serialize_struct(self, _name: &'static str, _len: usize) -> Fields { self.fields(None) }
        serialize_struct_variant(
            self, _name: &'static str, _index: u32, variant: &'static str, _len: usize
        ) -> Fields { self.nested()?.fields(Some(variant)) }
    }

    fn serialize_i128(self, v: i128) -> Result<Node> {
        let signed = |_| i64::try_from(v).map(Node::Signed);
        let node = u64::try_from(v).map(Node::Unsigned).or_else(signed);
        node.map_err(|_| CanonicalError::new(format!("{v} does not fit 64 bits")))
    }

    fn serialize_u128(self, v: u128) -> Result<Node> {
        let node = u64::try_from(v).map(Node::Unsigned);
        node.map_err(|_| CanonicalError::new(format!("{v} does not fit 64 bits")))
    }

    fn serialize_f64(self, v: f64) -> Result<Node> {
        match v.is_finite() {
            true => Ok(Node::Float(v)),
            false => Err(CanonicalError::new(format!("{v} is not a finite number"))),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Node> {
        value.serialize(self)
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

/// Implements serde's kinds of arrays and structs, which differ only in their names.
macro_rules! compounds {
    ($($kind:ident for $type:ty { $method:ident($self:ident, $([$key:ident],)? $value:ident) $body:expr })+) => {$(
        impl ser::$kind for $type {
            type Ok = Node;
            type Error = CanonicalError;

            fn $method<T: Serialize + ?Sized>(&mut $self, $($key: &'static str,)? $value: &T) -> Result<()> {
                $body
            }

            fn end(self) -> Result<Node> {
                Ok(self.into_node())
            }
        }
    )+};
}

compounds! {
    SerializeSeq for Items { serialize_element(self, value) self.push(value) }
    SerializeTuple for Items { serialize_element(self, value) self.push(value) }
    SerializeTupleStruct for Items { serialize_field(self, value) self.push(value) }
    SerializeTupleVariant for Items { serialize_field(self, value) self.push(value) }
    SerializeStruct for Fields { serialize_field(self, [key], value) self.insert(key.to_owned(), value) }
    SerializeStructVariant for Fields { serialize_field(self, [key], value) self.insert(key.to_owned(), value) }
}
