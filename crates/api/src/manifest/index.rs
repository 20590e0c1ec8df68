//! The place of each field of a document: built only when something is wrong with it.

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::compose::parser_options;
use super::{Position, scalar};
use crate::schema::Segment;

/// How many values are indexed; what comes later is found at its nearest indexed ancestor.
const MAX_PLACES: usize = 2_000_000;

/// Where a value stands, and what is in it. Lines and columns count from the document's start.
#[derive(Debug)]
pub(super) struct Place {
    value: Position,
    /// Where its key stands; for an element of a list, the element.
    key: Position,
    children: Children,
}

#[derive(Debug)]
enum Children {
    None,
    Map(Vec<(Box<str>, Place)>),
    List(Vec<Place>),
}

impl Place {
    /// The places of a document's fields. What cannot be parsed is left out.
    pub(super) fn of_document(text: &str) -> Self {
        let start = Position { line: 1, column: 1 };
        let mut builder = Builder {
            stack: vec![Self { value: start, key: start, children: Children::List(Vec::new()) }],
            keys: vec![None],
        };
        let events = Parser::new_from_str_with_options(text, parser_options()).map_while(Result::ok);
        events.take(MAX_PLACES).for_each(|(event, span)| builder.add(&event, span));
        builder.finish(start)
    }

    /// The place at the end of `path`, or of the last step that exists.
    pub(super) fn find(&self, path: &[&Segment], of_key: bool) -> Position {
        let mut place = self;
        let mut is_found = true;
        for segment in path {
            let next = match (&place.children, segment) {
                (Children::Map(entries), Segment::Field(name) | Segment::Key(name)) => {
                    entries.iter().find(|(key, _)| key == name).map(|(_, place)| place)
                }
                (Children::List(items), Segment::Index(index)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else {
                is_found = false;
                break;
            };
            place = next;
        }
        // A scalar is the culprit itself; of a map or a list, its key is what can be read best.
        let is_scalar = matches!(place.children, Children::None);
        if is_found && is_scalar && !of_key { place.value } else { place.key }
    }
}

struct Builder {
    /// The open collections, outermost first; the first is the stream.
    stack: Vec<Place>,
    /// For each open collection, the key whose value comes next.
    keys: Vec<Option<(Box<str>, Position)>>,
}

impl Builder {
    fn add(&mut self, event: &Event<'_>, span: Span) {
        match event {
            Event::Scalar(text, style, ..) => self.scalar(text, *style, position(span)),
            Event::Alias(_) => self.value(position(span), Children::None),
            Event::SequenceStart(..) => self.open(position(span), Children::List(Vec::new())),
            Event::MappingStart(..) => self.open(position(span), Children::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => {}
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Position) {
        let in_map = matches!(self.stack.last().map(|place| &place.children), Some(Children::Map(_)));
        match self.keys.last_mut() {
            Some(key @ None) if in_map => *key = Some((key_name(text, style), at)),
            _ => self.value(at, Children::None),
        }
    }

    fn open(&mut self, at: Position, children: Children) {
        self.stack.push(Place { value: at, key: at, children });
        self.keys.push(None);
    }

    fn close(&mut self) {
        if self.stack.len() > 1
            && let Some(place) = self.stack.pop()
        {
            self.keys.pop();
            self.value(place.value, place.children);
        }
    }

    fn value(&mut self, at: Position, children: Children) {
        let (Some(parent), Some(key)) = (self.stack.last_mut(), self.keys.last_mut()) else {
            return;
        };
        match &mut parent.children {
            Children::Map(entries) => match key.take() {
                Some((name, place)) => entries.push((name, Place { value: at, key: place, children })),
                // A key that is a collection.
                None => *key = Some(("".into(), at)),
            },
            Children::List(items) => items.push(Place { value: at, key: at, children }),
            Children::None => {}
        }
    }

    fn finish(mut self, start: Position) -> Place {
        while self.stack.len() > 1 {
            self.close();
        }
        match self.stack.pop().map(|stream| stream.children) {
            Some(Children::List(mut documents)) if !documents.is_empty() => documents.swap_remove(0),
            _ => Place { value: start, key: start, children: Children::None },
        }
    }
}

/// A key as JSON has it: `on` is `true`.
fn key_name(text: &str, style: ScalarStyle) -> Box<str> {
    let resolved = if matches!(style, ScalarStyle::Plain) { scalar::resolve(text) } else { None };
    match resolved {
        Some(Value::Bool(value)) => value.to_string().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        _ => text.into(),
    }
}

pub(super) fn position(span: Span) -> Position {
    Position { line: span.start.line() as u32, column: span.start.col() as u32 + 1 }
}
