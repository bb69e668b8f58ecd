//! Paths that other servers describe in JSON, as protobuf. What has no place there, or says nothing
//! to clients (examples, headers of answers, security), is left out.

use serde_json::Value;

use super::{Message, json_message};

/// Methods of a path, and the fields in which they stand.
const METHODS: [(u32, &str); 7] =
    [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")];

/// `PathItem`
pub(super) fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (number, method) in METHODS {
        if let Some(it) = item.get(method).filter(|it| it.is_object()) {
            message.message(number, &operation(it));
        }
    }
    for it in list(item, "parameters") {
        message.optional(9, parameter(it));
    }
    message.extensions(10, item);
    message
}

/// `Operation`
fn operation(it: &Value) -> Message {
    let mut message = Message::default();
    message.texts(1, it, "tags");
    message.text_of(3, it, "description");
    message.text_of(5, it, "operationId");
    message.texts(6, it, "produces");
    message.texts(7, it, "consumes");
    for parameter_of in list(it, "parameters") {
        message.optional(8, parameter(parameter_of));
    }
    let mut responses = Message::default();
    let codes = it.get("responses").and_then(Value::as_object).into_iter().flatten();
    for (code, response_of) in codes.filter(|(code, _)| !code.starts_with("x-")) {
        // ResponseValue is a choice around the response.
        responses.named(1, code, &response(response_of).within(1));
    }
    message.message(9, &responses);
    message.texts(10, it, "schemes");
    message.flag_of(11, it, "deprecated");
    message.extensions(13, it);
    message
}

/// `Response`
fn response(it: &Value) -> Message {
    let mut message = Message::default();
    message.text_of(1, it, "description");
    if let Some(schema) = it.get("schema").filter(|it| it.is_object()) {
        // SchemaItem is a choice around the schema.
        message.message(2, &json_message(schema, 0).within(1));
    }
    message.extensions(5, it);
    message
}

/// `ParametersItem`; `None` for what stands nowhere.
fn parameter(it: &Value) -> Option<Message> {
    // The first two are choices: of the place, and between the body and all else.
    let place = match it.get("in")?.as_str()? {
        "body" => return Some(body(it).within(1).within(1)),
        "header" => 1,
        "formData" => 2,
        "query" => 3,
        "path" => 4,
        _ => return None,
    };
    Some(plain(it, matches!(place, 2 | 3)).within(place).within(2).within(1))
}

/// `BodyParameter`
fn body(it: &Value) -> Message {
    let mut message = Message::default();
    message.text_of(1, it, "description");
    message.text_of(2, it, "name");
    message.text_of(3, it, "in");
    message.flag_of(4, it, "required");
    if let Some(schema) = it.get("schema").filter(|it| it.is_object()) {
        message.message(5, &json_message(schema, 0));
    }
    message.extensions(6, it);
    message
}

/// `QueryParameterSubSchema` and the like. Those that `may_be_empty` have one field more, and all
/// numbers behind it are one higher.
fn plain(it: &Value, may_be_empty: bool) -> Message {
    let shift = u32::from(may_be_empty);
    let mut message = Message::default();
    message.flag_of(1, it, "required");
    message.text_of(2, it, "in");
    message.text_of(3, it, "description");
    message.text_of(4, it, "name");
    message.text_of(5 + shift, it, "type");
    message.text_of(6 + shift, it, "format");
    if let Some(items) = it.get("items") {
        let mut primitive = Message::default();
        primitive.text_of(1, items, "type");
        primitive.text_of(2, items, "format");
        message.message(7 + shift, &primitive);
    }
    message.flag_of(19 + shift, it, "uniqueItems");
    message.extensions(22 + shift, it);
    message
}

fn list<'a>(it: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    it.get(key).and_then(Value::as_array).into_iter().flatten()
}

impl Message {
    fn optional(&mut self, number: u32, message: Option<Self>) {
        if let Some(message) = message {
            self.message(number, &message);
        }
    }

    fn text_of(&mut self, number: u32, it: &Value, key: &str) {
        if let Some(text) = it.get(key).and_then(Value::as_str) {
            self.text(number, text);
        }
    }

    fn texts(&mut self, number: u32, it: &Value, key: &str) {
        for text in list(it, key).filter_map(Value::as_str) {
            self.text(number, text);
        }
    }

    fn flag_of(&mut self, number: u32, it: &Value, key: &str) {
        if it.get(key) == Some(&Value::Bool(true)) {
            self.flag(number);
        }
    }
}
