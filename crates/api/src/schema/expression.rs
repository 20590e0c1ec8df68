//! CEL expressions, evaluated straight on JSON.
//!
//! In: the syntax tree that the CEL parser made of a rule. Out: the same expression with variables as slots,
//! fields as names and regular expressions compiled, which evaluates without copying the object. It knows
//! the part of CEL that the Gateway API's rules use; [`Expression::lower`] refuses the rest, and the rule goes
//! to kube-cel then. Meaning: <https://github.com/google/cel-spec/blob/master/doc/langdef.md>; functions:
//! <https://kubernetes.io/docs/reference/using-api/cel/>.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use kube_cel::cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use regex_automata::meta::Regex;
use serde_json::{Map, Value};

use super::node::build_regex;
use super::rules::unescaped_field_name;

/// How many steps one evaluation may take. The CRDs bound their lists so that no rule comes near; what is
/// beyond is refused like a rule that does not hold.
const MAX_STEPS: u32 = 10_000_000;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EvalError(Box<str>);

impl EvalError {
    pub(super) fn new(message: &str) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule's expression.
#[derive(Debug)]
pub(super) struct Expression(Node);

impl Expression {
    /// `None` if the expression uses something that is not known here.
    pub(super) fn lower(expression: &IdedExpr) -> Option<Self> {
        let mut scope = vec!["self", "oldSelf"];
        lower(expression, &mut scope).map(Self)
    }

    /// Whether the rule holds for `value`.
    pub(super) fn evaluate(&self, value: &Value, old: Option<&Value>) -> Result<bool, EvalError> {
        let old = old.map_or_else(|| Err(EvalError::new("oldSelf is not known")), |old| Ok(Datum::of(old)));
        let mut machine = Machine { slots: vec![Ok(Datum::of(value)), old], steps: 0 };
        machine.evaluate(&self.0)?.as_bool()
    }
}

#[derive(Debug)]
enum Node {
    Literal(Literal),
    Slot(usize),
    /// `operand.field`
    Field(Box<Node>, Box<str>),
    /// `has(operand.field)`
    Has(Box<Node>, Box<str>),
    Index(Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    Not(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    /// Condition, then, else.
    Choice(Box<[Node; 3]>),
    Equal(Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    Add(Box<[Node; 2]>),
    List(Vec<Node>),
    Size(Box<Node>),
    Text(TextTest, Box<[Node; 2]>),
    Matches(Box<Node>, Box<Regex>),
    Split(Box<[Node; 2]>),
    Substring(Box<[Node; 2]>),
    Duration(Box<Node>),
    IsIp(Box<Node>),
    /// `@not_strictly_false` of the macros.
    NotFalse(Box<Node>),
    Loop(Box<Loop>),
}

#[derive(Debug)]
enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Text(Box<str>),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

/// A comprehension: what `all`, `exists`, `exists_one`, `filter` and `map` are made of.
#[derive(Debug)]
struct Loop {
    range: Node,
    start: Node,
    condition: Node,
    step: Node,
    result: Node,
}

fn lower<'e>(expression: &'e IdedExpr, scope: &mut Vec<&'e str>) -> Option<Node> {
    Some(match &expression.expr {
        Expr::Literal(literal) => Node::Literal(match literal {
            LiteralValue::Null => Literal::Null,
            LiteralValue::Boolean(value) => Literal::Bool(*value.inner()),
            LiteralValue::Int(value) => Literal::Int(*value.inner()),
            LiteralValue::String(value) => Literal::Text(value.inner().into()),
            _ => return None,
        }),
        Expr::Ident(name) => Node::Slot(scope.iter().rposition(|known| known == name)?),
        Expr::Select(select) => {
            let operand = Box::new(lower(&select.operand, scope)?);
            let field = unescaped_field_name(&select.field).into();
            if select.test { Node::Has(operand, field) } else { Node::Field(operand, field) }
        }
        Expr::List(list) if list.optional_indices.is_empty() => {
            Node::List(list.elements.iter().map(|element| lower(element, scope)).collect::<Option<_>>()?)
        }
        Expr::Comprehension(comprehension) => Node::Loop(Box::new(lower_loop(comprehension, scope)?)),
        Expr::Call(call) => {
            let operands = call.target.as_deref().into_iter().chain(&call.args);
            let operands = operands.map(|operand| lower(operand, scope)).collect::<Option<Vec<_>>>()?;
            lower_call(&call.func_name, call.target.is_some(), operands)?
        }
        _ => return None,
    })
}

fn lower_loop<'e>(comprehension: &'e ComprehensionExpr, scope: &mut Vec<&'e str>) -> Option<Loop> {
    if comprehension.iter_var2.is_some() {
        return None;
    }
    let range = lower(&comprehension.iter_range, scope)?;
    let start = lower(&comprehension.accu_init, scope)?;
    let depth = scope.len();
    scope.push(&comprehension.accu_var);
    scope.push(&comprehension.iter_var);
    let parts =
        [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result].map(|part| lower(part, scope));
    scope.truncate(depth);
    let [condition, step, result] = parts;
    Some(Loop { range, start, condition: condition?, step: step?, result: result? })
}

fn lower_call(function: &str, is_method: bool, operands: Vec<Node>) -> Option<Node> {
    let operands = match <[Node; 3]>::try_from(operands) {
        Ok(three) => return (function == operators::CONDITIONAL).then(|| Node::Choice(Box::new(three))),
        Err(operands) => operands,
    };
    let two = match <[Node; 2]>::try_from(operands) {
        Ok(two) => Box::new(two),
        Err(operands) => return lower_unary(function, operands),
    };
    Some(match (function, is_method) {
        (operators::LOGICAL_AND, _) => Node::And(two),
        (operators::LOGICAL_OR, _) => Node::Or(two),
        (operators::EQUALS, _) => Node::Equal(two),
        (operators::NOT_EQUALS, _) => Node::Not(Box::new(Node::Equal(two))),
        (operators::LESS, _) => Node::Compare(Comparison::Less, two),
        (operators::LESS_EQUALS, _) => Node::Compare(Comparison::LessOrEqual, two),
        (operators::GREATER, _) => Node::Compare(Comparison::Greater, two),
        (operators::GREATER_EQUALS, _) => Node::Compare(Comparison::GreaterOrEqual, two),
        (operators::ADD, _) => Node::Add(two),
        (operators::INDEX, _) => Node::Index(two),
        (operators::IN, _) => Node::In(two),
        ("contains", true) => Node::Text(TextTest::Contains, two),
        ("startsWith", true) => Node::Text(TextTest::StartsWith, two),
        ("endsWith", true) => Node::Text(TextTest::EndsWith, two),
        ("split", true) => Node::Split(two),
        ("substring", true) => Node::Substring(two),
        ("matches", true) => {
            let [text, pattern] = *two;
            let Node::Literal(Literal::Text(pattern)) = pattern else {
                return None;
            };
            Node::Matches(Box::new(text), Box::new(build_regex(&pattern).ok()?))
        }
        _ => return None,
    })
}

fn lower_unary(function: &str, operands: Vec<Node>) -> Option<Node> {
    let [operand] = <[Node; 1]>::try_from(operands).ok()?;
    let operand = Box::new(operand);
    Some(match function {
        operators::LOGICAL_NOT => Node::Not(operand),
        operators::NOT_STRICTLY_FALSE => Node::NotFalse(operand),
        "size" => Node::Size(operand),
        "duration" => Node::Duration(operand),
        "isIP" => Node::IsIp(operand),
        _ => return None,
    })
}

/// A value during evaluation; lists and maps of the object stay where they are.
#[derive(Clone, Debug)]
enum Datum<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    OwnedText(String),
    Items(&'a [Value]),
    List(Vec<Datum<'a>>),
    Map(&'a Map<String, Value>),
    /// In nanoseconds.
    Duration(i64),
}

type Evaluated<'a> = Result<Datum<'a>, EvalError>;

impl<'a> Datum<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::Items(items),
            Value::Object(fields) => Self::Map(fields),
        }
    }

    fn as_bool(&self) -> Result<bool, EvalError> {
        match self {
            Self::Bool(value) => Ok(*value),
            _ => Err(EvalError::new("a boolean is expected")),
        }
    }

    fn as_text(&self) -> Result<&str, EvalError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::OwnedText(text) => Ok(text),
            _ => Err(EvalError::new("a string is expected")),
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Items(a), Self::Items(b)) => a == b,
            (Self::Items(a), Self::List(b)) | (Self::List(b), Self::Items(a)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Datum::of(a).equals(b))
            }
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            _ => self.compare(other).is_ok_and(Ordering::is_eq),
        }
    }

    fn compare(&self, other: &Self) -> Result<Ordering, EvalError> {
        let unordered = || EvalError::new("values that have no order are compared");
        match (self, other) {
            (Self::Int(a), Self::Int(b)) | (Self::Duration(a), Self::Duration(b)) => Ok(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).ok_or_else(unordered),
            (Self::Int(a), Self::Float(b)) => (*a as f64).partial_cmp(b).ok_or_else(unordered),
            (Self::Float(a), Self::Int(b)) => a.partial_cmp(&(*b as f64)).ok_or_else(unordered),
            (Self::Bool(a), Self::Bool(b)) => Ok(a.cmp(b)),
            _ => match (self.as_text(), other.as_text()) {
                (Ok(a), Ok(b)) => Ok(a.cmp(b)),
                _ => Err(unordered()),
            },
        }
    }

    fn size(&self) -> Result<i64, EvalError> {
        let size = match self {
            Self::Text(text) => text.chars().count(),
            Self::OwnedText(text) => text.chars().count(),
            Self::Items(items) => items.len(),
            Self::List(items) => items.len(),
            Self::Map(fields) => fields.len(),
            _ => return Err(EvalError::new("size() of a value that has none")),
        };
        Ok(size as i64)
    }
}

struct Machine<'a> {
    slots: Vec<Evaluated<'a>>,
    steps: u32,
}

impl<'a> Machine<'a> {
    fn evaluate(&mut self, node: &'a Node) -> Evaluated<'a> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(EvalError::new("the rule takes too many steps"));
        }
        Ok(match node {
            Node::Literal(Literal::Null) => Datum::Null,
            Node::Literal(Literal::Bool(value)) => Datum::Bool(*value),
            Node::Literal(Literal::Int(value)) => Datum::Int(*value),
            Node::Literal(Literal::Text(text)) => Datum::Text(text),
            Node::Slot(slot) => return self.slots[*slot].clone(),
            Node::Field(operand, field) => return field_of(&self.evaluate(operand)?, field),
            Node::Has(operand, field) => match self.evaluate(operand)? {
                Datum::Map(fields) => Datum::Bool(fields.contains_key(&**field)),
                _ => return Err(EvalError::new("has() of a value without fields")),
            },
            Node::Index(pair) => {
                let [list, index] = self.evaluate_pair(pair)?;
                return element_of(&list, &index);
            }
            Node::In(pair) => {
                let [element, list] = self.evaluate_pair(pair)?;
                Datum::Bool(is_in(&element, &list)?)
            }
            Node::Not(operand) => Datum::Bool(!self.evaluate(operand)?.as_bool()?),
            Node::NotFalse(operand) => Datum::Bool(self.truth(operand).unwrap_or(true)),
            Node::And(pair) => Datum::Bool(self.both(pair)?),
            Node::Or(pair) => Datum::Bool(self.either(pair)?),
            Node::Choice(parts) => {
                let [condition, then, otherwise] = &**parts;
                let chosen = if self.truth(condition)? { then } else { otherwise };
                return self.evaluate(chosen);
            }
            Node::Equal(pair) => {
                let [a, b] = self.evaluate_pair(pair)?;
                Datum::Bool(a.equals(&b))
            }
            Node::Compare(comparison, pair) => {
                let [a, b] = self.evaluate_pair(pair)?;
                let order = a.compare(&b)?;
                Datum::Bool(match comparison {
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                })
            }
            Node::Add(pair) => return add(self.evaluate_pair(pair)?),
            Node::List(elements) => {
                Datum::List(elements.iter().map(|element| self.evaluate(element)).collect::<Result<_, _>>()?)
            }
            Node::Size(operand) => Datum::Int(self.evaluate(operand)?.size()?),
            Node::Text(test, pair) => {
                let [text, part] = self.evaluate_pair(pair)?;
                let (text, part) = (text.as_text()?, part.as_text()?);
                Datum::Bool(match test {
                    TextTest::Contains => text.contains(part),
                    TextTest::StartsWith => text.starts_with(part),
                    TextTest::EndsWith => text.ends_with(part),
                })
            }
            Node::Matches(text, regex) => Datum::Bool(regex.is_match(self.evaluate(text)?.as_text()?)),
            Node::Split(pair) => {
                let [text, separator] = self.evaluate_pair(pair)?;
                let parts = text.as_text()?.split(separator.as_text()?);
                Datum::List(parts.map(|part| Datum::OwnedText(part.to_owned())).collect())
            }
            Node::Substring(pair) => {
                let [text, start] = self.evaluate_pair(pair)?;
                return substring(&text, &start);
            }
            Node::Duration(text) => Datum::Duration(parse_duration(self.evaluate(text)?.as_text()?)?),
            Node::IsIp(text) => Datum::Bool(self.evaluate(text)?.as_text()?.parse::<IpAddr>().is_ok()),
            Node::Loop(parts) => return self.run_loop(parts),
        })
    }

    fn evaluate_pair(&mut self, pair: &'a [Node; 2]) -> Result<[Datum<'a>; 2], EvalError> {
        Ok([self.evaluate(&pair[0])?, self.evaluate(&pair[1])?])
    }

    fn truth(&mut self, node: &'a Node) -> Result<bool, EvalError> {
        self.evaluate(node)?.as_bool()
    }

    /// `a && b`: false if either is, even if the other has no value.
    fn both(&mut self, [a, b]: &'a [Node; 2]) -> Result<bool, EvalError> {
        match self.truth(a) {
            Ok(false) => Ok(false),
            Ok(true) => self.truth(b),
            Err(error) => match self.truth(b) {
                Ok(false) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// `a || b`: true if either is, even if the other has no value.
    fn either(&mut self, [a, b]: &'a [Node; 2]) -> Result<bool, EvalError> {
        match self.truth(a) {
            Ok(true) => Ok(true),
            Ok(false) => self.truth(b),
            Err(error) => match self.truth(b) {
                Ok(true) => Ok(true),
                _ => Err(error),
            },
        }
    }

    fn run_loop(&mut self, parts: &'a Loop) -> Evaluated<'a> {
        let range = self.evaluate(&parts.range)?;
        let start = self.evaluate(&parts.start);
        let depth = self.slots.len();
        self.slots.push(start);
        self.slots.push(Ok(Datum::Null));
        let outcome = match range {
            Datum::Items(items) => self.run_over(parts, depth, items.iter().map(Datum::of)),
            Datum::Map(fields) => self.run_over(parts, depth, fields.keys().map(|key| Datum::Text(key))),
            Datum::List(items) => self.run_over(parts, depth, items.into_iter()),
            _ => Err(EvalError::new("a list or a map is expected")),
        };
        self.slots.truncate(depth);
        outcome
    }

    fn run_over(&mut self, parts: &'a Loop, depth: usize, items: impl Iterator<Item = Datum<'a>>) -> Evaluated<'a> {
        for item in items {
            if !self.truth(&parts.condition)? {
                break;
            }
            self.slots[depth + 1] = Ok(item);
            self.slots[depth] = self.evaluate(&parts.step);
        }
        self.evaluate(&parts.result)
    }
}

fn field_of<'a>(operand: &Datum<'a>, field: &str) -> Evaluated<'a> {
    match operand {
        Datum::Map(fields) => match fields.get(field) {
            Some(value) => Ok(Datum::of(value)),
            None => Err(EvalError(format!("no such field: {field}").into())),
        },
        _ => Err(EvalError(format!("no such field: {field}").into())),
    }
}

fn element_of<'a>(list: &Datum<'a>, index: &Datum<'a>) -> Evaluated<'a> {
    let missing = || EvalError::new("index out of bounds");
    match (list, index) {
        (Datum::Map(fields), key) => fields.get(key.as_text()?).map(Datum::of).ok_or_else(missing),
        (Datum::Items(items), Datum::Int(index)) => {
            usize::try_from(*index).ok().and_then(|index| items.get(index)).map(Datum::of).ok_or_else(missing)
        }
        (Datum::List(items), Datum::Int(index)) => {
            usize::try_from(*index).ok().and_then(|index| items.get(index)).cloned().ok_or_else(missing)
        }
        _ => Err(EvalError::new("a value that has no elements is indexed")),
    }
}

fn is_in(element: &Datum<'_>, list: &Datum<'_>) -> Result<bool, EvalError> {
    match list {
        Datum::Items(items) => Ok(items.iter().any(|item| Datum::of(item).equals(element))),
        Datum::List(items) => Ok(items.iter().any(|item| item.equals(element))),
        Datum::Map(fields) => Ok(fields.contains_key(element.as_text()?)),
        _ => Err(EvalError::new("a list or a map is expected")),
    }
}

fn add<'a>(pair: [Datum<'a>; 2]) -> Evaluated<'a> {
    match pair {
        [Datum::Int(a), Datum::Int(b)] => {
            a.checked_add(b).map(Datum::Int).ok_or_else(|| EvalError::new("integer overflow"))
        }
        [Datum::List(mut a), Datum::List(b)] => {
            a.extend(b);
            Ok(Datum::List(a))
        }
        _ => Err(EvalError::new("values of these types cannot be added")),
    }
}

/// `text.substring(start)`, in code points.
fn substring<'a>(text: &Datum<'a>, start: &Datum<'a>) -> Evaluated<'a> {
    let (text, Datum::Int(start)) = (text.as_text()?, start) else {
        return Err(EvalError::new("an integer is expected"));
    };
    let start = usize::try_from(*start).ok().filter(|start| *start <= text.chars().count());
    match start {
        Some(start) => Ok(Datum::OwnedText(text.chars().skip(start).collect())),
        None => Err(EvalError::new("index out of range")),
    }
}

/// A duration as Go writes it (`1h30m`, `100ms`, `1.5s`), in nanoseconds.
fn parse_duration(text: &str) -> Result<i64, EvalError> {
    const UNITS: [(&str, i64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let error = || EvalError::new("not a duration");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(error());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let nanoseconds =
            UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanoseconds)| *nanoseconds).ok_or_else(error)?;
        total = total.checked_add(scale(number, nanoseconds).ok_or_else(error)?).ok_or_else(error)?;
        rest = after;
    }
    Ok(sign * total)
}

/// A decimal number times a unit.
fn scale(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i64>().ok() };
    let part = i128::from(parse(fraction)?) * i128::from(unit) / 10_i128.pow(fraction.len() as u32);
    parse(whole)?.checked_mul(unit)?.checked_add(i64::try_from(part).ok()?)
}
