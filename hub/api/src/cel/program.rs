//! Compiling expressions: parse, look at every part, and put a meter into every loop.

use std::collections::BTreeSet;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators,
};
use kube_cel::cel::parser::Parser;

mod objects;

use super::authorizer::REQUEST_RESOURCE;

/// The function that every loop calls before each turn, with the cost of a turn.
pub(super) const TICK: &str = "@tick";
/// The function that takes the place of `+`: texts and lists that are put together grow.
pub(super) const PLUS: &str = "@plus";
/// The function that all of a value goes through before something looks at all of it, or makes one of it.
pub(super) const WEIGH: &str = "@weigh";
/// As [`WEIGH`], for what compares all items of a list with each other.
pub(super) const PAIRS: &str = "@pairs";
/// The function that a number goes through before so many items are made.
pub(super) const MANY: &str = "@many";
/// Functions that look at all of a value, or make one of all of it.
const WEIGHED: &[&str] = &[
    "encode", "flatten", "format", "isSorted", "join", "quote", "reverse", "sort", "string", "sum",
];
/// Functions that compare all items with each other.
const PAIRED: &[&str] = &["containsAll", "distinct", "equivalent", "intersects"];
/// Longest expression, in bytes.
const MAX_SOURCE: usize = 32 << 10;
/// Deepest nesting of brackets.
const MAX_NESTING: u16 = 96;
/// Deepest parsed expression: operators in a row nest as well.
const MAX_DEPTH: usize = 160;

/// The functions that expressions may call, beside operators.
const FUNCTIONS: &[&str] = &[
    "add",
    "all",
    "asApproximateFloat",
    "asInteger",
    "base64.decode",
    "base64.encode",
    "bool",
    "bytes",
    "charAt",
    "cidr",
    "compareTo",
    "contains",
    "containsCIDR",
    "containsIP",
    "decode",
    "distinct",
    "double",
    "duration",
    "dyn",
    "encode",
    "endsWith",
    "equivalent",
    "escapeKey",
    "family",
    "find",
    "findAll",
    "first",
    "flatten",
    "format",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getEscapedPath",
    "getFullYear",
    "getHost",
    "getHostname",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getPort",
    "getQuery",
    "getScheme",
    "getSeconds",
    "hasValue",
    "indexOf",
    "int",
    "intersects",
    "ip",
    "isCIDR",
    "isCanonical",
    "isGlobalUnicast",
    "isGreaterThan",
    "isIP",
    "isInteger",
    "isLessThan",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isLoopback",
    "isQuantity",
    "isSemver",
    "isSorted",
    "isURL",
    "isUnspecified",
    "join",
    "last",
    "lastIndexOf",
    "lowerAscii",
    "major",
    "masked",
    "matches",
    "max",
    "min",
    "minor",
    "named",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "patch",
    "prefixLength",
    "quantity",
    "quote",
    "range",
    "replace",
    "reverse",
    "semver",
    "sign",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "sub",
    "substring",
    "sum",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "url",
    "validate",
    "value",
    "abs",
    "bitAnd",
    "bitNot",
    "bitOr",
    "bitShiftLeft",
    "bitShiftRight",
    "bitXor",
    "ceil",
    "floor",
    "greatest",
    "isFinite",
    "isInf",
    "isNaN",
    "least",
    "round",
    "sqrt",
    "trunc",
    "byte",
    "date",
    "datetime",
    "dns1035Label",
    "dns1035LabelPrefix",
    "dns1123Label",
    "dns1123LabelPrefix",
    "dns1123Subdomain",
    "dns1123SubdomainPrefix",
    "labelValue",
    "qualifiedName",
    "uri",
    "uuid",
    "allowed",
    "check",
    "error",
    "errored",
    "group",
    "name",
    "namespace",
    "path",
    "reason",
    "resource",
    "serviceAccount",
    "subresource",
    "fieldSelector",
    "labelSelector",
    "strict",
];
/// Names in front of functions that are no variables.
const LIBRARIES: &[&str] =
    &["base64", "format", "ip", "jsonpatch", "lists", "math", "optional", "sets", "strings"];
/// Names of types, which are values.
pub(super) const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Program {
    expression: IdedExpr,
    plain: IdedExpr,
    source: String,
    variables: BTreeSet<String>,
    nodes: u64,
}

/// Why an expression was not compiled.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// It is no expression, or refers to what there is not.
    #[error("compilation failed: {0}")]
    Wrong(String),
    /// It is too long or nests too deep.
    #[error("compilation failed: expression is too complex: {0}")]
    TooComplex(&'static str),
}

impl Program {
    /// Compiles an expression over variables.
    ///
    /// # Errors
    /// It is no expression, calls a function that there is not, names a variable that is not one
    /// of `variables`, or is too long or too deep to be evaluated safely.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, CompileError> {
        Self::compile_with(source, variables, false)
    }

    fn compile_with(
        source: &str,
        variables: &[&str],
        makes_objects: bool,
    ) -> Result<Self, CompileError> {
        if source.len() > MAX_SOURCE {
            return Err(CompileError::TooComplex("it is too long"));
        }
        if depth(source) > MAX_DEPTH {
            return Err(CompileError::TooComplex("it nests too deep"));
        }
        let parser = Parser::new().max_recursion_depth(MAX_NESTING).enable_optional_syntax(true);
        let mut plain = parser.parse(source).map_err(|errors| {
            let all: Vec<String> = errors.errors.iter().map(ToString::to_string).collect();
            CompileError::Wrong(all.join("\n"))
        })?;
        if makes_objects {
            objects::into_maps(&mut plain);
        }
        let mut look = Look { source, known: variables, used: BTreeSet::new(), nodes: 0 };
        look.at(&plain, &mut Vec::new(), 0)?;
        let (variables, nodes) = (look.used, look.nodes);
        let mut expression = plain.clone();
        meter(&mut expression);
        Ok(Self { expression, plain, source: source.to_owned(), variables, nodes })
    }

    /// Compiles an expression that may also make objects, as mutations of policies do:
    /// `Object{spec: Object.spec{replicas: 3}}`, `JSONPatch{op: "add", path: "/a", value: 1}`.
    /// Such an object is a map.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_patch(source: &str, variables: &[&str]) -> Result<Self, CompileError> {
        Self::compile_with(source, variables, true)
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the expression refers to a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    /// Its size: what one evaluation without loops costs.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    pub(super) fn expression(&self) -> &IdedExpr {
        &self.expression
    }

    /// The expression as it was parsed, for whoever looks at it.
    pub(crate) fn plain(&self) -> &IdedExpr {
        &self.plain
    }
}

/// How deep an expression is at most once it is parsed: brackets nest, and so do operators in a
/// row. Texts are skipped.
fn depth(source: &str) -> usize {
    // Operators in a row, for each bracket that is open.
    let mut rows = vec![0usize];
    let mut deepest = 0;
    let mut quote = None;
    let mut escaped = false;
    for byte in source.bytes() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => rows.push(1),
            (None, b')' | b']' | b'}') => {
                if rows.len() > 1 {
                    rows.pop();
                }
                count(&mut rows);
            }
            // These begin a row anew: they are kept flat.
            (None, b'&' | b'|' | b',') => {
                if let Some(row) = rows.last_mut() {
                    *row = 1;
                }
            }
            (None, b'.' | b'+' | b'-' | b'*' | b'/' | b'%' | b'!' | b'=' | b'<' | b'>' | b'?') => {
                count(&mut rows);
            }
            (None, _) => {}
        }
        deepest = deepest.max(rows.iter().sum());
    }
    deepest
}

fn count(rows: &mut [usize]) {
    if let Some(row) = rows.last_mut() {
        *row += 1;
    }
}

/// One look at every part of an expression.
struct Look<'a> {
    source: &'a str,
    known: &'a [&'a str],
    used: BTreeSet<String>,
    nodes: u64,
}

impl Look<'_> {
    fn at(
        &mut self,
        it: &IdedExpr,
        scope: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), CompileError> {
        if depth > MAX_DEPTH {
            return Err(CompileError::TooComplex("it nests too deep"));
        }
        self.nodes += 1;
        match &it.expr {
            Expr::Unspecified => Err(CompileError::Wrong("ERROR: <input>:1:1: empty".to_owned())),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name, scope),
            Expr::Select(select) => match library(it) {
                Some(_) if !is_known(self.known, scope, root(it)) => Ok(()),
                _ => self.at(&select.operand, scope, depth + 1),
            },
            Expr::Call(call) => self.call(call, scope, depth),
            Expr::List(list) => {
                list.elements.iter().try_for_each(|it| self.at(it, scope, depth + 1))
            }
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.at(&entry.key, scope, depth + 1)?;
                    self.at(&entry.value, scope, depth + 1)
                }
                EntryExpr::StructField(_) => self.undeclared("struct"),
            }),
            // Patches of policies build objects; nothing here evaluates them.
            Expr::Struct(it) => self.undeclared(&it.type_name),
            Expr::Comprehension(it) => self.comprehension(it, scope, depth),
        }
    }

    fn call(
        &mut self,
        call: &CallExpr,
        scope: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), CompileError> {
        let name = call.func_name.as_str();
        let is_operator = name.contains(['_', '@', '!', '-', '[']) || name == operators::HAS;
        if !is_operator && !FUNCTIONS.contains(&name) && !FUNCTIONS.contains(&last(name)) {
            return self.undeclared(name);
        }
        if let Some(target) = &call.target {
            let in_library = library(target).is_some_and(|it| !is_known(self.known, scope, it));
            if !in_library {
                self.at(target, scope, depth + 1)?;
            }
        }
        call.args.iter().try_for_each(|it| self.at(it, scope, depth + 1))
    }

    fn comprehension(
        &mut self,
        it: &ComprehensionExpr,
        scope: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), CompileError> {
        self.at(&it.iter_range, scope, depth + 1)?;
        self.at(&it.accu_init, scope, depth + 1)?;
        let before = scope.len();
        scope.push(it.iter_var.clone());
        scope.extend(it.iter_var2.clone());
        scope.push(it.accu_var.clone());
        for part in [&it.loop_cond, &it.loop_step, &it.result] {
            self.at(part, scope, depth + 1)?;
        }
        scope.truncate(before);
        Ok(())
    }

    fn variable(&mut self, name: &str, scope: &[String]) -> Result<(), CompileError> {
        if scope.iter().any(|it| it == name) || TYPES.contains(&name) || name.starts_with('@') {
            return Ok(());
        }
        if self.known.contains(&name) {
            self.used.insert(name.to_owned());
            return Ok(());
        }
        self.undeclared(name)
    }

    fn undeclared(&self, name: &str) -> Result<(), CompileError> {
        let column = self.source.find(name).map_or(1, |it| it + 1);
        let what = format!("undeclared reference to '{name}' (in container '')");
        Err(CompileError::Wrong(marked(self.source, column, &what)))
    }
}

/// An error with the line it is about and a mark below, as CEL's compiler prints it.
pub(crate) fn marked(source: &str, column: usize, what: &str) -> String {
    let dots = ".".repeat(column.saturating_sub(1).min(source.len()));
    format!("ERROR: <input>:1:{column}: {what}\n | {source}\n | {dots}^")
}

fn is_known(known: &[&str], scope: &[String], name: &str) -> bool {
    known.contains(&name) || scope.iter().any(|it| it == name)
}

/// The name of a library that stands in front of a function.
fn library(it: &IdedExpr) -> Option<&str> {
    LIBRARIES.contains(&root(it)).then(|| root(it))
}

/// The variable at the root of a chain of fields, empty if it has another root.
fn root(it: &IdedExpr) -> &str {
    match &it.expr {
        Expr::Ident(name) => name,
        Expr::Select(select) => root(&select.operand),
        Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => "",
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// Makes every loop call the meter before each turn. Returns the number of nodes below.
fn meter(it: &mut IdedExpr) -> i64 {
    if let Some(plain) = selection(it).or_else(|| request_resource(it)) {
        *it = plain;
    }
    1 + match &mut it.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 0,
        Expr::Select(select) => meter(&mut select.operand),
        Expr::Call(call) => {
            let target = call.target.as_mut().map_or(0, |it| meter(it));
            let below = target + call.args.iter_mut().map(meter).sum::<i64>();
            bound(call);
            below
        }
        Expr::List(list) => list.elements.iter_mut().map(meter).sum(),
        Expr::Map(map) => map.entries.iter_mut().map(|it| entry(&mut it.expr)).sum(),
        Expr::Struct(it) => it.entries.iter_mut().map(|it| entry(&mut it.expr)).sum(),
        Expr::Comprehension(it) => {
            let outside = meter(&mut it.iter_range) + meter(&mut it.accu_init);
            let turn = meter(&mut it.loop_cond) + meter(&mut it.loop_step);
            let wanted = std::mem::take(&mut it.loop_cond);
            let tick = call(TICK, vec![integer(turn)]);
            it.loop_cond = call(operators::LOGICAL_AND, vec![tick, wanted]);
            outside + turn + meter(&mut it.result)
        }
    }
}

/// Puts what a call looks at through the functions that bound it.
fn bound(it: &mut CallExpr) {
    let in_library = it.target.as_deref().and_then(library).map(str::to_owned);
    let name = last(&it.func_name);
    let guard = match name {
        operators::ADD => {
            PLUS.clone_into(&mut it.func_name);
            return;
        }
        "contains" if in_library.as_deref() == Some("sets") => PAIRS,
        "range" => MANY,
        _ if PAIRED.contains(&name) => PAIRS,
        _ if WEIGHED.contains(&name) => WEIGH,
        _ => return,
    };
    let through = |it: &mut IdedExpr| {
        let inner = std::mem::take(it);
        *it = call(guard, vec![inner]);
    };
    if in_library.is_none() {
        it.target.as_deref_mut().into_iter().for_each(through);
    }
    it.args.iter_mut().for_each(through);
}

/// `a.?b` in words that every value understands: whether there is a field decides.
fn selection(it: &IdedExpr) -> Option<IdedExpr> {
    let Expr::Call(select) = &it.expr else { return None };
    let [operand, name] = select.args.as_slice() else { return None };
    let Expr::Literal(LiteralValue::String(name)) = &name.expr else { return None };
    // What follows an optional value looks into it, not at it.
    let is_optional =
        |it: &Expr| matches!(it, Expr::Call(it) if it.func_name == operators::OPT_SELECT);
    if select.func_name != operators::OPT_SELECT || is_optional(&operand.expr) {
        return None;
    }
    let field = |test: bool| IdedExpr {
        id: 0,
        expr: Expr::Select(SelectExpr {
            operand: Box::new(operand.clone()),
            field: name.inner().to_owned(),
            test,
        }),
    };
    let found = call("optional.of", vec![field(false)]);
    let none = call("optional.none", Vec::new());
    Some(call(operators::CONDITIONAL, vec![field(true), found, none]))
}

/// `authorizer.requestResource` is a variable of its own: what is before the dot has no fields.
fn request_resource(it: &IdedExpr) -> Option<IdedExpr> {
    let Expr::Select(select) = &it.expr else { return None };
    let is_its = matches!(&select.operand.expr, Expr::Ident(name) if name == "authorizer");
    let found = is_its && select.field == "requestResource" && !select.test;
    found.then(|| IdedExpr { id: it.id, expr: Expr::Ident(REQUEST_RESOURCE.to_owned()) })
}

fn entry(it: &mut EntryExpr) -> i64 {
    match it {
        EntryExpr::MapEntry(it) => meter(&mut it.key) + meter(&mut it.value),
        EntryExpr::StructField(it) => meter(&mut it.value),
    }
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr { func_name: name.to_owned(), target: None, args };
    IdedExpr { id: 0, expr: Expr::Call(call) }
}

fn integer(value: i64) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(value.into())) }
}
