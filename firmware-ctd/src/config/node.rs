//! A value of a TOML document, with its text still borrowed from the file where it can be.

use std::borrow::Cow;

use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::{ErrorSink, Raw, Source, Span};

use super::value::Value;

/// A value that may have to wait until its section is known.
pub(super) enum Node<'t> {
    Bool(bool),
    Integer(i64),
    Text(Cow<'t, str>),
    List(Vec<Self>),
    Other(&'t str, &'static str),
}

/// A table where none may be.
pub(super) const TABLE: Node<'static> = Node::Other("{...}", "is a section");
/// A list where none may be.
pub(super) const LIST: Node<'static> = Node::Other("[...]", "is a list");

impl<'t> Node<'t> {
    /// The scalar at `span`; what is wrong with its form goes to `error`.
    pub(super) fn decode(
        source: Source<'t>,
        span: Span,
        encoding: Option<Encoding>,
        error: &mut dyn ErrorSink,
    ) -> Self {
        let Some(raw) = source.get(span) else { return LIST };
        let written = raw.as_str();
        let mut text = Cow::Borrowed("");
        match Raw::new_unchecked(written, encoding, span).decode_scalar(&mut text, error) {
            ScalarKind::String => Self::Text(text),
            ScalarKind::Boolean(flag) => Self::Bool(flag),
            ScalarKind::Integer(radix) => i64::from_str_radix(&text, radix.value())
                .map_or(Self::Other(written, "is out of range"), Self::Integer),
            ScalarKind::Float => Self::Other(written, "is a floating-point number"),
            ScalarKind::DateTime => Self::Other(written, "is a date"),
        }
    }

    /// The value; `items` are those of a list.
    pub(super) fn value<'v>(&'v self, items: &'v [Value<'v>]) -> Value<'v> {
        match self {
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Integer(number) => Value::Integer(*number),
            Self::Text(text) => Value::Text(text),
            Self::List(_) => Value::List(items),
            Self::Other(text, wrong) => Value::Other(text, wrong),
        }
    }

    /// The items of a list; nothing for other values.
    pub(super) fn items(&self) -> Vec<Value<'_>> {
        match self {
            Self::List(items) => items.iter().map(|item| item.value(&[])).collect(),
            _ => Vec::new(),
        }
    }
}
