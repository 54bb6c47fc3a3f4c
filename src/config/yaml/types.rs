//! The first of two readings of a YAML document: it finds the scalars that are booleans and numbers in
//! YAML 1.2.
//!
//! The parser gives either a scalar's value or its text. [`super::parse`] wants both, `3.10` for a key
//! that is a text and 3.1 for one that is a number: this reading gives the values, in the order in which
//! the second one meets their texts. It also finds invalid YAML and tags.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess,
    Visitor,
};

use super::Budget;

/// A boolean or number, as YAML 1.2 reads it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::config) enum Typed {
    Bool(bool),
    Int(i128),
    Float(f64),
}

/// The type of every node of a document, in order, aliases followed.
#[derive(Default)]
pub(super) struct Types(Vec<Option<Typed>>);

impl Types {
    /// Reads a document.
    pub(super) fn of<'de, D: Deserializer<'de>>(
        document: D,
        budget: &Budget,
    ) -> Result<Self, D::Error> {
        let types = RefCell::default();
        Seed {
            budget,
            types: &types,
        }
        .deserialize(document)?;
        Ok(Self(types.into_inner()))
    }
}

impl IntoIterator for Types {
    type Item = Option<Typed>;
    type IntoIter = std::vec::IntoIter<Option<Typed>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[derive(Clone, Copy)]
struct Seed<'b> {
    budget: &'b Budget,
    types: &'b RefCell<Vec<Option<Typed>>>,
}

impl Seed<'_> {
    fn push(self, typed: Option<Typed>) {
        self.types.borrow_mut().push(typed);
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.budget.spend(0)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.push(None);
        Ok(())
    }

    /// An empty document.
    fn visit_none<E>(self) -> Result<(), E> {
        self.push(None);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.push(Some(Typed::Bool(value)));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.push(Some(Typed::Int(value.into())));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.push(Some(Typed::Int(value.into())));
        Ok(())
    }

    fn visit_i128<E>(self, value: i128) -> Result<(), E> {
        self.push(Some(Typed::Int(value)));
        Ok(())
    }

    fn visit_u128<E>(self, value: u128) -> Result<(), E> {
        let value = i128::try_from(value).unwrap_or(i128::MAX);
        self.push(Some(Typed::Int(value)));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.push(Some(Typed::Float(value)));
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.push(None);
        self.budget.spend(value.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.push(None);
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.push(None);
        while entries.next_entry_seed(self, self)?.is_some() {}
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let (tag, _) = access.variant_seed(Tag)?;
        Err(A::Error::custom(format_args!(
            "the tag `!{tag}` has no meaning in hub.yaml"
        )))
    }
}

struct Tag;

impl<'de> DeserializeSeed<'de> for Tag {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}
