//! Definitions as JSON objects, field by field: what the state file has, and what two definitions
//! differ in.
//!
//! A table of names beside the type (`record!`) in place of derived code, of which every field
//! costs some hundred bytes. What is empty is left out; a field that is missing keeps its default,
//! so that a state file of an older version can be read.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::base::Signal;
use crate::supervisor::spec::{AppSpec, Environment, Words};

/// A value on its way into JSON, borrowed where it can be.
#[derive(Debug, PartialEq)]
pub enum Datum<'a> {
    /// Not written.
    Nothing,
    Flag(bool),
    Number(i64),
    /// Of 64 bits without a sign.
    Large(u64),
    Text(&'a str),
    Owned(String),
    List(Vec<Self>),
    Object(Vec<(&'a str, Self)>),
}

impl Serialize for Datum<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Large(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Owned(text) => serializer.serialize_str(text),
            Self::List(list) => serializer.collect_seq(list),
            Self::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(name, datum)| (name, datum)))
            }
        }
    }
}

/// What a field of a definition can be.
pub trait Plain: Sized {
    fn show(&self) -> Datum<'_>;
    /// `None`: it is something else.
    fn read(value: &Value) -> Option<Self>;
}

/// The fields of a type by their names. Gives it `fields` and `set`.
macro_rules! record {
    ($type:ident { $($field:ident $(as $name:literal)?),+ $(,)? }) => {
        impl $type {
            /// Each field by its name.
            pub(super) fn fields<'a>(&'a self, tell: &mut dyn FnMut(&'static str, Datum<'a>)) {
                $(tell(record!(@name $field $($name)?), self.$field.show());)+
            }

            /// Sets a field; a name that is not known says nothing. `None`: the value is wrong.
            pub(super) fn set(&mut self, name: &str, value: &Value) -> Option<()> {
                match name {
                    $(record!(@name $field $($name)?) => self.$field = Plain::read(value)?,)+
                    _ => {}
                }
                Some(())
            }
        }
    };
    (nested $type:ident $fields:tt) => {
        record!($type $fields);

        impl Plain for $type {
            fn show(&self) -> Datum<'_> {
                let mut fields = Vec::new();
                self.fields(&mut |name, datum| {
                    if datum != Datum::Nothing {
                        fields.push((name, datum));
                    }
                });
                if fields.is_empty() { Datum::Nothing } else { Datum::Object(fields) }
            }

            fn read(value: &Value) -> Option<Self> {
                let mut all = Self::default();
                for (name, value) in value.as_object()? {
                    all.set(name, value)?;
                }
                Some(all)
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}
pub(super) use record;

/// An enum as words.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word for it in files.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Plain for $type {
            fn show(&self) -> Datum<'_> {
                Datum::Text(self.word())
            }

            fn read(value: &Value) -> Option<Self> {
                match value.as_str()? {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use words;

impl Plain for bool {
    fn show(&self) -> Datum<'_> {
        Datum::Flag(*self)
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

macro_rules! numbers {
    ($($type:ty)+) => {$(
        impl Plain for $type {
            fn show(&self) -> Datum<'_> {
                Datum::Number(i64::from(*self))
            }

            fn read(value: &Value) -> Option<Self> {
                Self::try_from(value.as_i64()?).ok()
            }
        }
    )+};
}

numbers!(u8 u32 i32);

impl Plain for u64 {
    fn show(&self) -> Datum<'_> {
        Datum::Large(*self)
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

/// As whole milliseconds.
impl Plain for Duration {
    fn show(&self) -> Datum<'_> {
        Datum::Large(u64::try_from(self.as_millis()).unwrap_or(u64::MAX))
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_u64().map(Self::from_millis)
    }
}

impl Plain for Signal {
    fn show(&self) -> Datum<'_> {
        Datum::Owned(self.to_string())
    }

    fn read(value: &Value) -> Option<Self> {
        Self::parse(value.as_str()?)
    }
}

macro_rules! texts {
    ($($type:ty)+) => {$(
        impl Plain for $type {
            fn show(&self) -> Datum<'_> {
                Datum::Text(self)
            }

            fn read(value: &Value) -> Option<Self> {
                value.as_str().map(Self::from)
            }
        }
    )+};
}

texts!(String Rc<str> Box<str>);

/// Resolved definitions have UTF-8 paths only.
fn path(path: &Path) -> Datum<'_> {
    path.to_str().map_or_else(|| Datum::Owned(path.to_string_lossy().into_owned()), Datum::Text)
}

impl Plain for PathBuf {
    fn show(&self) -> Datum<'_> {
        path(self)
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(Self::from)
    }
}

impl Plain for Rc<Path> {
    fn show(&self) -> Datum<'_> {
        path(self)
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(|text| Path::new(text).into())
    }
}

impl<T: Plain> Plain for Option<T> {
    fn show(&self) -> Datum<'_> {
        self.as_ref().map_or(Datum::Nothing, T::show)
    }

    fn read(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::read(value).map(Some) }
    }
}

impl<T: Plain> Plain for Box<T> {
    fn show(&self) -> Datum<'_> {
        T::show(self)
    }

    fn read(value: &Value) -> Option<Self> {
        T::read(value).map(Self::new)
    }
}

fn list<'a>(items: impl Iterator<Item = Datum<'a>>) -> Datum<'a> {
    let list: Vec<_> = items.collect();
    if list.is_empty() { Datum::Nothing } else { Datum::List(list) }
}

impl<T: Plain> Plain for Vec<T> {
    fn show(&self) -> Datum<'_> {
        list(self.iter().map(T::show))
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::read).collect()
    }
}

impl Plain for Words {
    fn show(&self) -> Datum<'_> {
        list(self.iter().map(Datum::Text))
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(Value::as_str).collect()
    }
}

impl Plain for Environment {
    fn show(&self) -> Datum<'_> {
        let all: Vec<_> = self.iter().map(|(name, value)| (name, Datum::Text(value))).collect();
        if all.is_empty() { Datum::Nothing } else { Datum::Object(all) }
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_object()?.iter().map(|(name, value)| Some((name, value.as_str()?))).collect()
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Environment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(&value).ok_or_else(|| D::Error::custom("an environment is wrong"))
    }
}

impl Serialize for AppSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = Vec::with_capacity(64);
        self.each_field(&mut |name, datum| {
            if datum != Datum::Nothing {
                all.push((name, datum));
            }
        });
        Datum::Object(all).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AppSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut spec = Self::default();
        for (name, value) in Map::<String, Value>::deserialize(deserializer)? {
            spec.set_field(&name, &value)
                .ok_or_else(|| D::Error::custom(format_args!("'{name}' is wrong")))?;
        }
        if spec.name.is_empty() || spec.script.is_empty() {
            return Err(D::Error::custom("a definition has no name or no script"));
        }
        Ok(spec)
    }
}
