//! `authorizer` in expressions: asks what the requester, or a service account, may do.
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library>
//!
//! Nothing is decided here: whoever evaluates gives [`Asked`] to put the questions to.

use std::fmt;
use std::sync::Arc;

use kube_cel::cel::extractors::This;
use kube_cel::cel::objects::Opaque;
use kube_cel::cel::{Context, ExecutionError, FunctionContext, Value};

use super::session::Meter;
use crate::names;
use crate::selector::{FieldSelector, LabelSelector};

/// The variable that `authorizer.requestResource` becomes.
pub(super) const REQUEST_RESOURCE: &str = "@authorizer.requestResource";
/// What one question costs, as upstream has it.
const QUESTION_COST: u64 = 350_000;
/// Bytes of a selector that are parsed for a cost of one.
const SELECTOR_PER_COST: usize = 10;

/// What an expression asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Question {
    /// Namespace and name of the service account it is about; the requester if there is none.
    pub service_account: Option<(String, String)>,
    /// What is to be done.
    pub verb: String,
    /// API group.
    pub group: String,
    /// Plural name; empty for paths.
    pub resource: String,
    /// Empty if none.
    pub subresource: String,
    /// Empty if none.
    pub namespace: String,
    /// Empty if none.
    pub name: String,
    /// A path that is no resource; empty for resources.
    pub path: String,
    /// As in a query; empty if none, or one that cannot be parsed.
    pub field_selector: String,
    /// As in a query; empty if none, or one that cannot be parsed.
    pub label_selector: String,
}

/// What it is answered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// Whether it may.
    pub allowed: bool,
    /// Why, or why not; often empty.
    pub reason: String,
}

/// Answers questions.
pub trait Asked: Send + Sync {
    /// Decides.
    fn ask(&self, question: &Question) -> Answer;
}

/// How far a question is put together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

#[derive(Clone)]
struct Check {
    asked: Arc<dyn Asked>,
    stage: Stage,
    question: Question,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("question", &self.question).finish_non_exhaustive()
    }
}

impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        (self.stage, &self.question) == (other.stage, &other.question)
    }
}

impl Eq for Check {}

impl Opaque for Check {
    fn runtime_type_name(&self) -> &str {
        match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Decided(Answer);

impl Opaque for Decided {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.authorization.Decision"
    }
}

/// The variable `authorizer`, and the one for `authorizer.requestResource`. `request` is about the
/// resource of the request, without a verb.
pub fn authorizer(asked: &Arc<dyn Asked>, request: Question) -> [(&'static str, Value); 2] {
    let check = |stage, question| -> Value {
        Value::Opaque(Arc::new(Check { asked: asked.clone(), stage, question }))
    };
    [
        ("authorizer", check(Stage::Authorizer, Question::default())),
        (REQUEST_RESOURCE, check(Stage::Resource, request)),
    ]
}

/// The functions of the library.
pub(super) fn add_functions(context: &mut Context<'static>, meter: &Arc<Meter>) {
    context.add_function("path", |ftx: &Ftx<'_, '_>, This(it): This<Value>, path: Arc<String>| {
        if path.trim().is_empty() {
            return Err(ftx.error("path must not be empty"));
        }
        then(ftx, &it, Stage::Authorizer, Stage::Path, |it| path.as_str().clone_into(&mut it.path))
    });
    context.add_function(
        "serviceAccount",
        |ftx: &Ftx<'_, '_>, This(it): This<Value>, namespace: Arc<String>, name: Arc<String>| {
            if let Some(wrong) = names::dns1123_subdomain(&name).first() {
                return Err(ftx.error(format!("Invalid service account name: {wrong}")));
            }
            if let Some(wrong) = names::dns1123_label(&namespace).first() {
                return Err(ftx.error(format!("Invalid service account namespace: {wrong}")));
            }
            then(ftx, &it, Stage::Authorizer, Stage::Authorizer, |it| {
                it.service_account = Some((namespace.to_string(), name.to_string()));
            })
        },
    );
    context.add_function("group", |ftx: &Ftx<'_, '_>, This(it): This<Value>, to: Arc<String>| {
        then(ftx, &it, Stage::Authorizer, Stage::Group, |it| to.as_str().clone_into(&mut it.group))
    });
    context.add_function(
        "resource",
        |ftx: &Ftx<'_, '_>, This(it): This<Value>, to: Arc<String>| {
            if to.trim().is_empty() {
                return Err(ftx.error("resource must not be empty"));
            }
            then(ftx, &it, Stage::Group, Stage::Resource, |it| {
                to.as_str().clone_into(&mut it.resource);
            })
        },
    );
    add_part(context, "subresource", |it| &mut it.subresource);
    add_part(context, "namespace", |it| &mut it.namespace);
    add_part(context, "name", |it| &mut it.name);
    let parses: fn(&str) -> bool = FieldSelector::parses;
    add_selector(context, meter, "fieldSelector", parses, |it| &mut it.field_selector);
    let parses: fn(&str) -> bool = |it| LabelSelector::parse(it).is_ok();
    add_selector(context, meter, "labelSelector", parses, |it| &mut it.label_selector);
    let meter = meter.clone();
    context.add_function(
        "check",
        move |ftx: &Ftx<'_, '_>, This(it): This<Value>, verb: Arc<String>| {
            let check = of(ftx, &it)?;
            if !matches!(check.stage, Stage::Path | Stage::Resource) {
                return Err(ftx.error("no such overload"));
            }
            if !meter.spend(QUESTION_COST) {
                return Err(ftx.error("cost limit exceeded"));
            }
            let question = Question { verb: verb.to_string(), ..check.question.clone() };
            Ok(Value::Opaque(Arc::new(Decided(check.asked.ask(&question)))))
        },
    );
    add_answer(context, "allowed", |it| Value::Bool(it.allowed));
    add_answer(context, "reason", |it| Value::String(Arc::new(it.reason.clone())));
    // Who decides here never fails to.
    add_answer(context, "errored", |_| Value::Bool(false));
    add_answer(context, "error", |_| Value::String(Arc::default()));
}

type Ftx<'a, 'b> = FunctionContext<'a, 'b>;

fn add_part(
    context: &mut Context<'static>,
    name: &'static str,
    part: fn(&mut Question) -> &mut String,
) {
    context.add_function(name, move |ftx: &Ftx<'_, '_>, This(it): This<Value>, to: Arc<String>| {
        then(ftx, &it, Stage::Resource, Stage::Resource, |it| {
            to.as_str().clone_into(part(it));
        })
    });
}

/// A function that narrows a question to what a selector selects. One that cannot be parsed narrows
/// nothing: then the question is about more, and a yes to it is one to less as well.
fn add_selector(
    context: &mut Context<'static>,
    meter: &Arc<Meter>,
    name: &'static str,
    parses: fn(&str) -> bool,
    part: fn(&mut Question) -> &mut String,
) {
    let meter = meter.clone();
    context.add_function(
        name,
        move |ftx: &Ftx<'_, '_>, This(it): This<Value>, selector: Arc<String>| {
            let cost = u64::try_from(selector.len() / SELECTOR_PER_COST).unwrap_or(u64::MAX);
            if !meter.spend(cost) {
                return Err(ftx.error("cost limit exceeded"));
            }
            then(ftx, &it, Stage::Resource, Stage::Resource, |it| {
                let selector = if parses(&selector) { selector.as_str() } else { "" };
                selector.clone_into(part(it));
            })
        },
    );
}

fn add_answer(context: &mut Context<'static>, name: &'static str, read: fn(&Answer) -> Value) {
    context.add_function(name, move |ftx: &Ftx<'_, '_>, This(it): This<Value>| {
        let Value::Opaque(opaque) = &it else { return Err(ftx.error("no such overload")) };
        let decided = opaque.downcast_ref::<Decided>();
        decided.map(|it| read(&it.0)).ok_or_else(|| ftx.error("no such overload"))
    });
}

fn of<'a>(ftx: &Ftx<'_, '_>, value: &'a Value) -> Result<&'a Check, ExecutionError> {
    let Value::Opaque(opaque) = value else { return Err(ftx.error("no such overload")) };
    opaque.downcast_ref::<Check>().ok_or_else(|| ftx.error("no such overload"))
}

/// The next stage of a question.
fn then(
    ftx: &Ftx<'_, '_>,
    value: &Value,
    from: Stage,
    to: Stage,
    change: impl FnOnce(&mut Question),
) -> Result<Value, ExecutionError> {
    let check = of(ftx, value)?;
    if check.stage != from {
        return Err(ftx.error("no such overload"));
    }
    let mut next = Check { stage: to, ..check.clone() };
    change(&mut next.question);
    Ok(Value::Opaque(Arc::new(next)))
}

#[cfg(test)]
mod tests {
    use super::super::{EvaluateError, Program, Session};
    use super::*;

    struct Told;

    impl Asked for Told {
        fn ask(&self, it: &Question) -> Answer {
            let of = it
                .service_account
                .as_ref()
                .map_or(String::new(), |(ns, name)| format!("{ns}/{name} "));
            let what = if it.path.is_empty() {
                let Question { group, resource, subresource, namespace, name, .. } = it;
                let selectors = match (&*it.field_selector, &*it.label_selector) {
                    ("", "") => String::new(),
                    (fields, labels) => format!(" [{fields}] [{labels}]"),
                };
                format!("{group}/{resource}/{subresource} {namespace}/{name}{selectors}")
            } else {
                it.path.clone()
            };
            Answer { allowed: it.verb == "get", reason: format!("{of}{} {what}", it.verb) }
        }
    }

    fn evaluate(source: &str) -> Result<Value, EvaluateError> {
        let asked: Arc<dyn Asked> = Arc::new(Told);
        let request = Question {
            resource: "pods".to_owned(),
            namespace: "d".to_owned(),
            name: "p".to_owned(),
            ..Question::default()
        };
        let program = Program::compile(source, &["authorizer"]).unwrap();
        Session::new(&[]).evaluate(&program, &authorizer(&asked, request))
    }

    #[test]
    fn expressions_ask_what_somebody_may() {
        for (source, expect) in [
            ("authorizer.path('/healthz').check('get').reason()", "get /healthz"),
            (
                "authorizer.group('apps').resource('deployments').subresource('scale').namespace('n').name('x').check('update').reason()",
                "update apps/deployments/scale n/x",
            ),
            (
                "authorizer.serviceAccount('n', 'sa').group('').resource('pods').check('list').reason()",
                "n/sa list /pods/ /",
            ),
            ("authorizer.requestResource.check('custom').reason()", "custom /pods/ d/p"),
            (
                "authorizer.group('').resource('pods').fieldSelector('spec.nodeName=n').labelSelector('a in (b,c)').check('list').reason()",
                "list /pods/ / [spec.nodeName=n] [a in (b,c)]",
            ),
            // What cannot be parsed narrows nothing, and the last word counts.
            (
                "authorizer.requestResource.fieldSelector('a=b').fieldSelector('what?').labelSelector('x=y').labelSelector('in in').check('list').reason()",
                "list /pods/ d/p",
            ),
        ] {
            assert_eq!(
                evaluate(source),
                Ok(Value::String(Arc::new(expect.to_owned()))),
                "{source}"
            );
        }
        for (verb, allowed) in [("get", true), ("put", false)] {
            let source = format!("authorizer.requestResource.check('{verb}').allowed()");
            assert_eq!(evaluate(&source), Ok(Value::Bool(allowed)));
        }
    }

    #[test]
    fn questions_out_of_order_or_without_end_have_no_answer() {
        for source in [
            "authorizer.check('get').allowed()",
            "authorizer.resource('pods').check('get').allowed()",
            "authorizer.path('').check('get').allowed()",
            "authorizer.path(' ').check('get').allowed()",
            "authorizer.group('').resource('').check('get').allowed()",
            "authorizer.group('').fieldSelector('a=b').resource('pods').check('get').allowed()",
            "authorizer.path('/a').labelSelector('a=b').check('get').allowed()",
            "authorizer.serviceAccount('N', 'sa').path('/a').check('get').allowed()",
            "'text'.check('get').allowed()",
        ] {
            assert!(matches!(evaluate(source), Err(EvaluateError::Failed(_))), "{source}");
        }
        let dear = ["authorizer.requestResource.check('get').allowed()"; 4].join(" && ");
        assert_eq!(evaluate(&dear), Err(EvaluateError::CallCost));
    }
}
