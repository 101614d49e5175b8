//! What is wrong with a value, in the words of Go's `encoding/json`, which Docker's users see.
//!
//! `json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory of type int64`: the innermost struct, the
//! fields on the way from the body (keys of maps and places in lists are left out), and the type that was wanted. The types
//! of lists and maps are found by asking their visitor what it would read ([`Probe`]).

use std::fmt::{self, Display};

use serde::{
    de::{
        self, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

/// A value that does not fit.
#[derive(Debug)]
pub(crate) enum Error {
    /// It has another type.
    Mismatch {
        /// Go's word for what is there.
        value: String,
        /// Go's name for the type that is wanted.
        target: String,
        /// The innermost struct.
        of: Option<&'static str>,
        /// Fields, outermost first.
        path: Vec<String>,
    },
    /// Whatever else.
    Other(String),
}

impl Error {
    pub fn mismatch(value: impl Into<String>, target: impl Into<String>) -> Self {
        Self::Mismatch { value: value.into(), target: target.into(), of: None, path: Vec::new() }
    }

    /// The same, found in `field` of the struct `name`.
    pub fn within(mut self, name: &'static str, field: &str) -> Self {
        if let Self::Mismatch { of, path, .. } = &mut self {
            of.get_or_insert(name);
            path.insert(0, field.to_owned());
        }
        self
    }

    /// The same, where the innermost struct is called `name` in Go because it is embedded there.
    pub fn embedded_in(mut self, name: &'static str) -> Self {
        if let Self::Mismatch { of, path, .. } = &mut self
            && path.len() <= 1
        {
            *of = Some(name);
        }
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(text) => f.write_str(text),
            Self::Mismatch { value, target, of: Some(of), path } if !path.is_empty() => write!(
                f,
                "json: cannot unmarshal {value} into Go struct field {}.{} of type {target}",
                go_name(of),
                path.join(".")
            ),
            Self::Mismatch { value, target, .. } => {
                write!(f, "json: cannot unmarshal {value} into Go value of type {target}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(text: T) -> Self {
        Self::Other(text.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let value = match found {
            Unexpected::Bool(_) => "bool",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "number",
            Unexpected::Seq => "array",
            Unexpected::Map => "object",
            Unexpected::Str(_) => "string",
            _ => "value",
        };
        Self::mismatch(value, expected.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Go's word for a value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The name of a struct in Docker's sources.
fn go_name(name: &'static str) -> &'static str {
    match name {
        "Rest" => "CreateRequest",
        "EndpointIpamConfig" => "EndpointIPAMConfig",
        "IpamWire" => "IPAM",
        "PoolWire" => "IPAMConfig",
        other => other.strip_suffix("Wire").unwrap_or(other),
    }
}

/// The type of a struct, with its package.
pub(super) fn go_type(name: &'static str) -> String {
    let package = match name {
        "EndpointSettings" | "EndpointIpamConfig" | "NetworkingConfig" | "IpamWire" | "PoolWire" => "network",
        "PortBinding" => "nat",
        "Mount" | "BindOptions" | "VolumeOptions" | "TmpfsOptionsWire" => "mount",
        _ => "container",
    };
    format!("{package}.{}", go_name(name))
}

/// Asks a visitor which type it would read next, and gives it nothing.
pub(super) struct Probe<'a>(&'a mut String);

impl Probe<'_> {
    /// The type of a list's items.
    pub fn of_items<'de, V: Visitor<'de>>(visitor: V) -> String {
        let mut name = String::new();
        // It cannot succeed: its first item fails.
        drop(visitor.visit_seq(One(&mut name)));
        name
    }

    /// The type of a map's values.
    pub fn of_entries<'de, V: Visitor<'de>>(visitor: V) -> String {
        let mut name = String::new();
        drop(visitor.visit_map(One(&mut name)));
        name
    }

    fn is<T>(self, name: impl Into<String>) -> Result<T, Error> {
        *self.0 = name.into();
        Err(Error::Other(String::new()))
    }
}

struct One<'a>(&'a mut String);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        seed.deserialize(Probe(self.0)).map(Some)
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        seed.deserialize(StrDeserializer::new("")).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(Probe(self.0))
    }
}

macro_rules! named {
    ($($method:ident $name:literal,)*) => {$(
        fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
            self.is($name)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    named! {
        deserialize_any "struct {}", deserialize_str "string", deserialize_string "string", deserialize_bool "bool",
        deserialize_i64 "int64", deserialize_u16 "uint16", deserialize_u64 "uint64", deserialize_f64 "float64",
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.is(format!("[]{}", Self::of_items(visitor)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.is(format!("map[string]{}", Self::of_entries(visitor)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.is(go_type(name))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u32 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
        ignored_any
    }
}
