//! JSON values put together by code that exists once.
//!
//! [`json!`](crate::json!) looks like the macro of `serde_json`; a member costs one call, where that
//! one makes a key, a value, an entry and a check on the spot, and serialises what it is given.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::base::{Pid, ProcId, Signal, Stream, WallTime};

/// A value written as JSON. Keys are literals; values are JSON again or expressions of a type that
/// is [`ToJson`], which are borrowed.
#[macro_export]
macro_rules! json {
    (null) => { ::serde_json::Value::Null };
    ([ $($item:tt)* ]) => { ::serde_json::Value::Array($crate::json!(@items [] $($item)*)) };
    ({ $($member:tt)* }) => {{
        #[allow(unused_mut, reason = "an object may be empty")]
        let mut object = ::serde_json::Map::new();
        $crate::json!(@members object $($member)*);
        ::serde_json::Value::Object(object)
    }};

    (@items [ $($done:expr,)* ]) => { vec![$($done),*] };
    (@items [ $($done:expr,)* ] null $(, $($rest:tt)*)?) => {
        $crate::json!(@items [ $($done,)* $crate::json!(null), ] $($($rest)*)?)
    };
    (@items [ $($done:expr,)* ] [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::json!(@items [ $($done,)* $crate::json!([ $($inner)* ]), ] $($($rest)*)?)
    };
    (@items [ $($done:expr,)* ] { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json!(@items [ $($done,)* $crate::json!({ $($inner)* }), ] $($($rest)*)?)
    };
    (@items [ $($done:expr,)* ] $item:expr $(, $($rest:tt)*)?) => {
        $crate::json!(@items [ $($done,)* $crate::json::ToJson::to_json(&$item), ] $($($rest)*)?)
    };

    (@members $object:ident) => {};
    (@members $object:ident $name:tt: null $(, $($rest:tt)*)?) => {
        $crate::json!(@member $object $name, $crate::json!(null) $(, $($rest)*)?);
    };
    (@members $object:ident $name:tt: [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::json!(@member $object $name, $crate::json!([ $($inner)* ]) $(, $($rest)*)?);
    };
    (@members $object:ident $name:tt: { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json!(@member $object $name, $crate::json!({ $($inner)* }) $(, $($rest)*)?);
    };
    (@members $object:ident $name:tt: $value:expr $(, $($rest:tt)*)?) => {
        $crate::json::set(&mut $object, $name, &$value);
        $($crate::json!(@members $object $($rest)*);)?
    };
    (@member $object:ident $name:tt, $value:expr $(, $($rest:tt)*)?) => {
        $crate::json::enter(&mut $object, $name, $value);
        $($crate::json!(@members $object $($rest)*);)?
    };

    ($value:expr) => { $crate::json::ToJson::to_json(&$value) };
}

pub use crate::json;

/// Enters what `value` is in JSON.
#[inline(never)]
pub fn set<T: ToJson + ?Sized>(object: &mut Map<String, Value>, name: &str, value: &T) {
    enter(object, name, value.to_json());
}

/// Enters a value as it is.
#[inline(never)]
pub fn enter(object: &mut Map<String, Value>, name: &str, value: Value) {
    object.insert(name.to_owned(), value);
}

/// A JSON object of these members; of two with one name the last counts.
///
/// Put together one by one: collecting sorts, and brings the code of a sort for every kind of
/// iterator, 5 KB each.
pub fn object<N: Into<String>>(
    members: impl IntoIterator<Item = (N, Value)>,
) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, value) in members {
        object.insert(name.into(), value);
    }
    object
}

/// The integer that a number is, if it is one and exact: JavaScript's `1.0` and `1e3` are.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "whole and small enough")]
pub fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// A number, without `.0` if it is whole.
#[must_use]
pub fn number(number: f64) -> Value {
    whole(number).map_or_else(|| Value::from(number), Value::from)
}

/// What has a form in JSON.
pub trait ToJson {
    fn to_json(&self) -> Value;
}

impl ToJson for str {
    fn to_json(&self) -> Value {
        Value::String(self.to_owned())
    }
}

/// What is not UTF-8 is replaced.
impl ToJson for Path {
    fn to_json(&self) -> Value {
        Value::String(self.to_string_lossy().into_owned())
    }
}

macro_rules! by_value {
    ($($type:ty)*) => { $(
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                Value::from(*self)
            }
        }
    )* };
}

by_value!(bool u8 u16 u32 u64 usize i32 i64 f64);

macro_rules! by_reference {
    ($($type:ty)*) => { $(
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                (**self).to_json()
            }
        }
    )* };
}

by_reference!(String PathBuf Box<str> Rc<str> Rc<Path> Cow<'_, str>);

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }
}

impl<T: ToJson> ToJson for [T] {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(T::to_json).collect())
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
}

impl ToJson for Value {
    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl ToJson for Map<String, Value> {
    fn to_json(&self) -> Value {
        Value::Object(self.clone())
    }
}

impl ToJson for ProcId {
    fn to_json(&self) -> Value {
        self.0.to_json()
    }
}

impl ToJson for Pid {
    fn to_json(&self) -> Value {
        self.raw().to_json()
    }
}

impl ToJson for WallTime {
    fn to_json(&self) -> Value {
        self.0.to_json()
    }
}

impl ToJson for Stream {
    fn to_json(&self) -> Value {
        self.name().to_json()
    }
}

impl ToJson for Signal {
    fn to_json(&self) -> Value {
        Value::String(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_the_macro_of_serde_json_makes_them() {
        let (name, none, numbers) = ("web".to_owned(), None::<u32>, vec![1_u64, u64::MAX]);
        let inner = object([("a", Value::Null), ("a", Value::from(2))]);
        let ours = json!({
            "name": name, "none": none, "null": null, "numbers": numbers, "ratio": 0.5,
            "not a number": f64::NAN, "least": i64::MIN, "flag": name.is_empty(), "empty": {},
            "path": Path::new("/a"), "text": "\u{0}é", "inner": inner,
            "list": [null, [], {"deep": [1, [2], {}]}, name, Some("x"), 1 + 1,],
        });
        let theirs = serde_json::json!({
            "name": name, "none": none, "null": null, "numbers": numbers, "ratio": 0.5,
            "not a number": f64::NAN, "least": i64::MIN, "flag": name.is_empty(), "empty": {},
            "path": Path::new("/a"), "text": "\u{0}é", "inner": {"a": 2},
            "list": [null, [], {"deep": [1, [2], {}]}, name, Some("x"), 1 + 1,],
        });
        assert_eq!(ours, theirs);
        assert_eq!(json!([]), serde_json::json!([]));
        assert_eq!(json!(null), Value::Null);
        assert_eq!(json!("text"), Value::from("text"));
    }
}
