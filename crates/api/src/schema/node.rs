//! A CRD's schema compiled for validation.
//!
//! In: `openAPIV3Schema` of one version. Out: a tree in which every keyword that the Gateway API's CRDs use
//! is a typed field. A keyword that is not known here is an error and not a gap.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use regex_automata::meta::{BuildError, Regex};
use serde_json::{Map, Value};

use super::rules::{Rule, escaped_field_name};

/// Why a schema cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("{0}: unknown schema keyword {1:?}")]
    Keyword(String, String),
    #[error("{0}: {1} is not of the expected form")]
    Form(String, &'static str),
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Object, Self::Array, Self::String, Self::Integer, Self::Number, Self::Boolean]
            .into_iter()
            .find(|candidate| candidate.name() == name)
    }
}

/// What a text must be, beyond its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Int32,
    Int64,
    Ipv4,
    Ipv6,
    DateTime,
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Default)]
pub(super) enum ListType {
    #[default]
    Atomic,
    Set,
    /// With the fields that make the key of an element.
    Map(Vec<Box<str>>),
}

/// A regular expression, built when it is first needed and shared by all nodes that have the same one.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: Box<str>,
    regex: OnceLock<Result<Regex, Box<BuildError>>>,
}

impl Pattern {
    fn shared(text: &str) -> Arc<Self> {
        static PATTERNS: Mutex<BTreeMap<Box<str>, Arc<Pattern>>> = Mutex::new(BTreeMap::new());
        let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
        let pattern = || Arc::new(Self { text: text.into(), regex: OnceLock::new() });
        Arc::clone(patterns.entry(text.into()).or_insert_with(pattern))
    }

    /// Whether some part of `text` matches; an error if the pattern is none.
    pub(super) fn is_match(&self, text: &str) -> Result<bool, &BuildError> {
        match self.regex.get_or_init(|| build_regex(&self.text)) {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(error) => Err(error),
        }
    }
}

/// Builds a regular expression with small automata: the texts that it meets are short.
pub(super) fn build_regex(text: &str) -> Result<Regex, Box<BuildError>> {
    let config = Regex::config().hybrid_cache_capacity(64 * 1024).nfa_size_limit(Some(1 << 20));
    Regex::builder().configure(config).build(text).map_err(Box::new)
}

/// A declared field.
#[derive(Debug)]
pub(super) struct Property {
    pub(super) name: Box<str>,
    /// Its name in CEL, where some words are reserved.
    pub(super) cel_name: Box<str>,
    pub(super) node: Node,
}

/// One node of a schema.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) kind: Option<Type>,
    pub(super) nullable: bool,
    /// Sorted by name.
    pub(super) properties: Vec<Property>,
    pub(super) required: Vec<Box<str>>,
    /// The schema of the values of a map.
    pub(super) additional: Option<Box<Node>>,
    pub(super) preserve_unknown: bool,
    pub(super) items: Option<Box<Node>>,
    pub(super) list: ListType,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) min_properties: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) pattern: Option<Arc<Pattern>>,
    pub(super) format: Option<Format>,
    pub(super) enumeration: Vec<Value>,
    pub(super) default: Option<Value>,
    pub(super) one_of: Vec<Node>,
    pub(super) any_of: Vec<Node>,
    pub(super) all_of: Vec<Node>,
    pub(super) not: Option<Box<Node>>,
    pub(super) rules: Vec<Rule>,
    /// Whether this node or one below it has a default.
    pub(super) has_defaults: bool,
    /// Whether this node or one below it has rules.
    pub(super) has_rules: bool,
}

impl Node {
    /// Compiles a schema; `path` names it in errors.
    pub(super) fn compile(schema: &Value, path: &str) -> Result<Self, SchemaError> {
        let schema = schema.as_object().ok_or_else(|| SchemaError::Form(path.to_owned(), "the schema"))?;
        let mut node = Self::default();
        for (keyword, value) in schema {
            node.read_keyword(schema, keyword, value, path)?;
        }
        node.properties.sort_by(|a, b| a.name.cmp(&b.name));
        let below = || {
            let properties = node.properties.iter().map(|property| &property.node);
            properties.chain(node.items.as_deref()).chain(node.additional.as_deref())
        };
        node.has_defaults = below().any(|node| node.default.is_some() || node.has_defaults);
        node.has_rules = !node.rules.is_empty() || below().any(|node| node.has_rules);
        Ok(node)
    }

    fn read_keyword(
        &mut self,
        schema: &Map<String, Value>,
        keyword: &str,
        value: &Value,
        path: &str,
    ) -> Result<(), SchemaError> {
        let form = |what| SchemaError::Form(path.to_owned(), what);
        let count = || value.as_u64().map(Some).ok_or_else(|| form("a bound"));
        let number = || value.as_f64().map(Some).ok_or_else(|| form("a bound"));
        match keyword {
            "type" => self.kind = Some(value.as_str().and_then(Type::parse).ok_or_else(|| form("type"))?),
            "nullable" => self.nullable = value.as_bool().ok_or_else(|| form("nullable"))?,
            "properties" => self.properties = compile_properties(value, path)?,
            "required" => self.required = strings(value).ok_or_else(|| form("required"))?,
            "additionalProperties" => {
                self.additional = Some(Box::new(Self::compile(value, &format!("{path}[*]"))?));
            }
            "x-kubernetes-preserve-unknown-fields" => self.preserve_unknown = value.as_bool().unwrap_or(false),
            "items" => self.items = Some(Box::new(Self::compile(value, &format!("{path}[]"))?)),
            "minItems" => self.min_items = count()?,
            "maxItems" => self.max_items = count()?,
            "minLength" => self.min_length = count()?,
            "maxLength" => self.max_length = count()?,
            "minProperties" => self.min_properties = count()?,
            "maxProperties" => self.max_properties = count()?,
            "minimum" => self.minimum = number()?,
            "maximum" => self.maximum = number()?,
            "pattern" => self.pattern = Some(Pattern::shared(value.as_str().ok_or_else(|| form("pattern"))?)),
            "format" => self.format = Some(parse_format(value).ok_or_else(|| form("format"))?),
            "enum" => self.enumeration = value.as_array().ok_or_else(|| form("enum"))?.clone(),
            "default" => self.default = Some(value.clone()),
            "oneOf" => self.one_of = compile_branches(value, path)?,
            "anyOf" => self.any_of = compile_branches(value, path)?,
            "allOf" => self.all_of = compile_branches(value, path)?,
            "not" => self.not = Some(Box::new(Self::compile(value, path)?)),
            "x-kubernetes-list-type" => self.list = list_type(schema, value).ok_or_else(|| form("the list type"))?,
            "x-kubernetes-validations" => {
                let rules = value.as_array().ok_or_else(|| form("the rules"))?;
                self.rules = rules.iter().map(Rule::read).collect::<Option<_>>().ok_or_else(|| form("a rule"))?;
            }
            // Read with the list type; of no effect on validation.
            "x-kubernetes-list-map-keys" | "x-kubernetes-map-type" | "description" => {}
            // The types stand in `anyOf` beside it.
            "x-kubernetes-int-or-string" if schema.contains_key("anyOf") => {}
            unknown => return Err(SchemaError::Keyword(path.to_owned(), unknown.to_owned())),
        }
        Ok(())
    }

    /// The declared field of this name.
    pub(super) fn property(&self, name: &str) -> Option<&Property> {
        let at = self.properties.binary_search_by(|property| (*property.name).cmp(name)).ok()?;
        self.properties.get(at)
    }
}

fn compile_properties(value: &Value, path: &str) -> Result<Vec<Property>, SchemaError> {
    let properties = value.as_object().ok_or_else(|| SchemaError::Form(path.to_owned(), "properties"))?;
    properties
        .iter()
        .map(|(name, schema)| {
            Ok(Property {
                name: name.as_str().into(),
                cel_name: escaped_field_name(name).into(),
                node: Node::compile(schema, &format!("{path}.{name}"))?,
            })
        })
        .collect()
}

fn compile_branches(value: &Value, path: &str) -> Result<Vec<Node>, SchemaError> {
    let branches = value.as_array().ok_or_else(|| SchemaError::Form(path.to_owned(), "the branches"))?;
    branches.iter().map(|branch| Node::compile(branch, path)).collect()
}

fn parse_format(value: &Value) -> Option<Format> {
    Some(match value.as_str()? {
        "int32" => Format::Int32,
        "int64" => Format::Int64,
        "ipv4" => Format::Ipv4,
        "ipv6" => Format::Ipv6,
        "date-time" => Format::DateTime,
        _ => return None,
    })
}

fn list_type(schema: &Map<String, Value>, value: &Value) -> Option<ListType> {
    Some(match value.as_str()? {
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        "map" => ListType::Map(strings(schema.get("x-kubernetes-list-map-keys")?)?),
        _ => return None,
    })
}

fn strings(value: &Value) -> Option<Vec<Box<str>>> {
    value.as_array()?.iter().map(|item| item.as_str().map(Box::from)).collect()
}
