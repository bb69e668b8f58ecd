//! Evaluating expressions, and counting what that costs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::extractors::This;
use kube_cel::cel::{Context, ExecutionError, FunctionContext, Value};
use regex::Regex;

use super::authorizer;
use super::program::{MANY, PAIRS, PLUS, Program, TICK, TYPES, WEIGH};
use super::values::weight;

/// What one evaluation may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all evaluations of a session may cost together.
pub const TOTAL_LIMIT: u64 = 10_000_000;

/// Data of this weight makes a turn of a loop twice as dear: what is done in a turn may look at
/// all of it.
const DATA_PER_TURN: u64 = 300;
/// Longest text that a function makes.
const MAX_TEXT: usize = 1 << 20;
/// Most items of a list that is made.
const MAX_ITEMS: usize = 1 << 17;
/// Deepest value that is looked at as a whole.
const MAX_DEPTH: usize = 200;
/// What is looked at for a cost of one.
const WEIGHT_PER_COST: usize = 10;
/// Patterns that are kept compiled.
const MAX_PATTERNS: usize = 64;
const MAX_PATTERN_SIZE: usize = 1 << 18;
/// What compiling a pattern costs.
const PATTERN_COST: u64 = 1_000;

/// Why an expression has no value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EvaluateError {
    /// The evaluation cost more than one may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CallCost,
    /// All evaluations together cost more than they may.
    #[error(
        "validation failed due to running out of cost budget, no further validation rules will be run"
    )]
    TotalCost,
    /// Something in it has no value: a missing key, a wrong type, a division by zero.
    #[error("{0}")]
    Failed(String),
}

/// Evaluates programs under one budget. Make one for each request.
pub struct Session {
    context: Context<'static>,
    meter: Arc<Meter>,
    /// What a turn of a loop costs for each node in it.
    turn_factor: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("meter", &self.meter).finish_non_exhaustive()
    }
}

/// What may still be spent.
#[derive(Debug)]
pub(super) struct Meter {
    call: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    /// Spends; false if there is not so much left.
    pub(super) fn spend(&self, cost: u64) -> bool {
        let take = |from: &AtomicU64| {
            let before = from.load(Ordering::Relaxed);
            from.store(before.saturating_sub(cost), Ordering::Relaxed);
            before >= cost
        };
        let of_call = take(&self.call);
        take(&self.total) && of_call
    }
}

impl Session {
    /// A session over data: its size decides what loops cost.
    pub fn new(data: &[&serde_json::Value]) -> Self {
        let meter = Arc::new(Meter {
            call: AtomicU64::new(PER_CALL_LIMIT),
            total: AtomicU64::new(TOTAL_LIMIT),
        });
        let weight: u64 = data.iter().map(|it| weight(it)).sum();
        let mut context = Context::default().with_all();
        add_functions(&mut context, &meter, 1 + weight / DATA_PER_TURN);
        authorizer::add_functions(&mut context, &meter);
        for name in TYPES {
            context.add_variable_from_value(*name, (*name).to_owned());
        }
        Self { context, meter, turn_factor: 1 + weight / DATA_PER_TURN }
    }

    /// Evaluates a program over variables.
    ///
    /// # Errors
    /// It has no value, or costs too much.
    pub fn evaluate(
        &self,
        program: &Program,
        variables: &[(&str, Value)],
    ) -> Result<Value, EvaluateError> {
        self.meter.call.store(PER_CALL_LIMIT, Ordering::Relaxed);
        if !self.meter.spend(program.nodes().saturating_mul(self.turn_factor.min(10))) {
            return Err(self.out_of_budget());
        }
        let mut context = self.context.new_inner_scope();
        for (name, value) in variables {
            context.add_variable_from_value(*name, value.clone());
        }
        let result = context.resolve(program.expression());
        if self.meter.call.load(Ordering::Relaxed) == 0
            || self.meter.total.load(Ordering::Relaxed) == 0
        {
            return Err(self.out_of_budget());
        }
        result.map_err(|err| EvaluateError::Failed(words(&err)))
    }

    /// Evaluates a program that must come to true or false.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and if it comes to something else.
    pub fn evaluate_bool(
        &self,
        program: &Program,
        variables: &[(&str, Value)],
    ) -> Result<bool, EvaluateError> {
        if let Value::Bool(it) = self.evaluate(program, variables)? {
            return Ok(it);
        }
        Err(EvaluateError::Failed("cel expression must evaluate to a bool".to_owned()))
    }

    /// Evaluates a program that must come to a text.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and if it comes to something else.
    pub fn evaluate_text(
        &self,
        program: &Program,
        variables: &[(&str, Value)],
    ) -> Result<String, EvaluateError> {
        if let Value::String(it) = self.evaluate(program, variables)? {
            return Ok(it.to_string());
        }
        Err(EvaluateError::Failed("cel expression must evaluate to a string".to_owned()))
    }

    /// Whether everything that may be spent was spent.
    pub fn is_exhausted(&self) -> bool {
        self.meter.total.load(Ordering::Relaxed) == 0
    }

    fn out_of_budget(&self) -> EvaluateError {
        if self.is_exhausted() { EvaluateError::TotalCost } else { EvaluateError::CallCost }
    }
}

/// An error in the words of CEL.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum may grow; its others read alike")]
fn words(err: &ExecutionError) -> String {
    match err {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload => "no such overload".to_owned(),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
        ExecutionError::UndeclaredReference(name) => format!("no such attribute(s): {name}"),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        // Others show whole values; whoever wrote those knows them, and they may be large.
        _ => "no such overload".to_owned(),
    }
}

/// The meter, and those functions whose cost their arguments decide.
fn add_functions(context: &mut Context<'static>, meter: &Arc<Meter>, factor: u64) {
    let ticking = meter.clone();
    context.add_function(TICK, move |ftx: &FunctionContext<'_, '_>, cost: i64| {
        let cost = u64::try_from(cost).unwrap_or(u64::MAX).saturating_mul(factor);
        if ticking.spend(cost) { Ok(true) } else { Err(ftx.error("cost limit exceeded")) }
    });
    bound(context, meter);
    context.add_function("size", size);
    context.add_function("type", |value: Value| -> Result<Value, ExecutionError> {
        Ok(Value::String(Arc::new(type_name(&value).to_owned())))
    });
    context.add_function("dyn", |value: Value| -> Result<Value, ExecutionError> { Ok(value) });
    let patterns = Arc::new(Patterns { meter: meter.clone(), known: Mutex::default() });
    let known = patterns.clone();
    context.add_function(
        "matches",
        move |ftx: &FunctionContext<'_, '_>,
              This(text): This<Arc<String>>,
              pattern: Arc<String>| {
            Ok::<_, ExecutionError>(known.get(ftx, &pattern)?.is_match(&text))
        },
    );
    let known = patterns.clone();
    context.add_function(
        "find",
        move |ftx: &FunctionContext<'_, '_>,
              This(text): This<Arc<String>>,
              pattern: Arc<String>| {
            let regex = known.get(ftx, &pattern)?;
            let found = regex.find(&text).map_or("", |it| it.as_str());
            Ok::<_, ExecutionError>(Value::String(Arc::new(found.to_owned())))
        },
    );
    let meter = meter.clone();
    context.add_function(
        "replace",
        move |ftx: &FunctionContext<'_, '_>,
              This(text): This<Arc<String>>,
              from: Arc<String>,
              to: Arc<String>| {
            let times = text.matches(from.as_str()).count();
            let length = text.len().saturating_add(times.saturating_mul(to.len()));
            let cost = u64::try_from(length / 10).unwrap_or(u64::MAX);
            if length > MAX_TEXT || !meter.spend(cost) {
                meter.call.store(0, Ordering::Relaxed);
                return Err(ftx.error("cost limit exceeded"));
            }
            Ok(Value::String(Arc::new(text.replace(from.as_str(), &to))))
        },
    );
}

/// The functions through which goes what may grow, or is looked at as a whole.
fn bound(context: &mut Context<'static>, meter: &Arc<Meter>) {
    let afford = |meter: &Arc<Meter>| {
        let meter = meter.clone();
        move |ftx: &FunctionContext<'_, '_>, weight: Option<usize>| {
            let cost = weight.map(|it| u64::try_from(it / WEIGHT_PER_COST).unwrap_or(u64::MAX));
            if cost.is_some_and(|it| meter.spend(it)) {
                return Ok(());
            }
            meter.call.store(0, Ordering::Relaxed);
            Err(ftx.error("cost limit exceeded"))
        }
    };
    let pay = afford(meter);
    context.add_function(PLUS, move |ftx: &FunctionContext<'_, '_>, left: Value, right: Value| {
        pay(ftx, weight_of_sum(&left, &right))?;
        left + right
    });
    let pay = afford(meter);
    context.add_function(WEIGH, move |ftx: &FunctionContext<'_, '_>, value: Value| {
        let mut left = MAX_TEXT;
        let fits = weigh(&value, &mut left, 0);
        pay(ftx, fits.then(|| MAX_TEXT - left))?;
        Ok::<_, ExecutionError>(value)
    });
    let pay = afford(meter);
    context.add_function(PAIRS, move |ftx: &FunctionContext<'_, '_>, value: Value| {
        let mut left = MAX_TEXT;
        let fits = weigh(&value, &mut left, 0);
        let items = if let Value::List(items) = &value { items.len() } else { 1 };
        pay(ftx, fits.then(|| (MAX_TEXT - left).saturating_mul(items.max(1))))?;
        Ok::<_, ExecutionError>(value)
    });
    let pay = afford(meter);
    context.add_function(MANY, move |ftx: &FunctionContext<'_, '_>, value: Value| {
        let number = if let Value::Int(it) = value { it } else { 0 };
        pay(ftx, usize::try_from(number.max(0)).ok().filter(|it| *it <= MAX_ITEMS))?;
        Ok::<_, ExecutionError>(value)
    });
}

/// How much is copied to put two values together; nothing if they become too large. What loops gather item by item is
/// paid for by their turns.
fn weight_of_sum(left: &Value, right: &Value) -> Option<usize> {
    if let (Value::String(left), Value::String(right)) = (left, right) {
        return Some(left.len() + right.len()).filter(|it| *it <= MAX_TEXT);
    }
    if let (Value::Bytes(left), Value::Bytes(right)) = (left, right) {
        return Some(left.len() + right.len()).filter(|it| *it <= MAX_TEXT);
    }
    if let (Value::List(left), Value::List(right)) = (left, right) {
        let is_loops = right.len() <= 1;
        let items = left.len() + right.len();
        return (items <= MAX_ITEMS).then_some(if is_loops { 0 } else { items });
    }
    Some(0)
}

/// Takes the weight of a value, in bytes of text and items, from what is left. False if it is too much: values share
/// their parts, and may be far larger than what they were made of.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else has parts")]
fn weigh(value: &Value, left: &mut usize, depth: usize) -> bool {
    let own = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    let Some(rest) = left.checked_sub(own + 1).filter(|_| depth <= MAX_DEPTH) else { return false };
    *left = rest;
    match value {
        Value::List(items) => items.iter().all(|it| weigh(it, left, depth + 1)),
        Value::Map(map) => map.map.values().all(|it| weigh(it, left, depth + 1)),
        _ => true,
    }
}

/// The name of a value's type; expressions compare it with the types' names.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "bool",
        Value::Null => "null_type",
        Value::Duration(_) => "duration",
        Value::Timestamp(_) => "timestamp",
        Value::Function(..) | Value::Opaque(_) => "type",
    }
}

/// Characters of a text, entries of a list or a map.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else has a size")]
fn size(ftx: &FunctionContext<'_, '_>, This(value): This<Value>) -> Result<i64, ExecutionError> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.map.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => return Err(ftx.error("no such overload")),
    };
    Ok(i64::try_from(size).unwrap_or(i64::MAX))
}

/// Patterns, each compiled once.
struct Patterns {
    meter: Arc<Meter>,
    known: Mutex<BTreeMap<String, Regex>>,
}

impl Patterns {
    fn get(&self, ftx: &FunctionContext<'_, '_>, pattern: &str) -> Result<Regex, ExecutionError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = known.get(pattern) {
            return Ok(regex.clone());
        }
        let length = u64::try_from(pattern.len()).unwrap_or(u64::MAX);
        if !self.meter.spend(PATTERN_COST.saturating_add(length)) {
            return Err(ftx.error("cost limit exceeded"));
        }
        let regex = regex::RegexBuilder::new(pattern)
            .size_limit(MAX_PATTERN_SIZE)
            .build()
            .map_err(|_| ftx.error(format!("error parsing regexp: `{pattern}`")))?;
        if known.len() >= MAX_PATTERNS {
            known.clear();
        }
        known.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }
}
