//! Values of a script outside of any script: what a request keeps in `req.vars` from one asking to the next,
//! and `hub.state`, over a reload of the policies too. Its caller says how large a copy may be.
//!
//! Unlike JSON it keeps what a Lua table can be: integers as keys, holes, a list with names beside it.

use serde::{Deserialize, Serialize};

/// The size of a value besides its text.
pub(crate) const EACH: usize = 32;

/// A boolean, a number, a string or a table of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plain {
    /// `true` or `false`.
    Boolean(bool),
    /// A number of Lua's integer kind.
    Integer(i64),
    /// Any other number. JSON has not all of them.
    #[serde(with = "bits")]
    Number(f64),
    /// Bytes, which need not be UTF-8.
    String(Vec<u8>),
    /// Keys and values, in no order.
    Table(Vec<(Plain, Plain)>),
}

impl Default for Plain {
    /// An empty table.
    fn default() -> Self {
        Self::Table(Vec::new())
    }
}

impl Plain {
    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        EACH + match self {
            Self::String(text) => text.len(),
            Self::Table(pairs) => {
                let pairs = pairs.iter();
                pairs.map(|(key, value)| key.bytes() + value.bytes()).sum()
            }
            Self::Boolean(_) | Self::Integer(_) | Self::Number(_) => 0,
        }
    }
}

/// A number as its bits.
mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(number.to_bits())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}
