//! Turns the `generated.proto` files into one table of messages.
//!
//! The files are written by a generator in a small, regular subset of proto2 (no nested messages,
//! enums, oneofs or options on fields); any other line is an error, not a guess.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::definition_name;
use super::go_source::Structs;

const SCALARS: [&str; 6] = ["bool", "bytes", "double", "int32", "int64", "string"];

/// The content of `protobuf.json.gz`: the messages of the definitions, and what these consist of.
pub(super) fn messages<'a>(
    modules: &[(String, PathBuf)],
    structs: &Structs,
    definitions: impl Iterator<Item = &'a String>,
) -> anyhow::Result<Value> {
    let mut all = Map::new();
    for (_, dir) in modules {
        read_dir(dir, structs, &mut all)?;
    }
    let mut needed = Map::new();
    let mut open: Vec<String> = definitions.cloned().collect();
    while let Some(name) = open.pop() {
        let Some(fields) = all.remove(&name) else { continue };
        let types = fields.as_array().into_iter().flatten().filter_map(|it| it[2].as_str());
        open.extend(types.map(str::to_owned));
        needed.insert(name, fields);
    }
    Ok(json!({ "messages": needed }))
}

fn read_dir(dir: &Path, structs: &Structs, found: &mut Map<String, Value>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read_dir(&path, structs, found)?;
        } else if path.file_name().is_some_and(|it| it == "generated.proto") {
            let source = fs::read_to_string(&path)?;
            read_file(&source, structs, found).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn read_file(
    source: &str,
    structs: &Structs,
    found: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let mut package = String::new();
    let mut current: Option<(String, Vec<Value>)> = None;
    // The licence comes before the package.
    for line in source.lines().map(str::trim).skip_while(|it| !it.starts_with("package ")) {
        if line.is_empty() || ["//", "import ", "option "].iter().any(|it| line.starts_with(it)) {
            continue;
        }
        if let Some(name) = line.strip_prefix("package ") {
            package = name.trim_end_matches(';').replace('_', "-").replacen("k8s.io.", "", 1);
        } else if let Some(name) = line.strip_prefix("message ") {
            let name = name.trim_end_matches([' ', '{']);
            current = Some((definition_name(&package, name), Vec::new()));
        } else if line == "}" {
            let (name, fields) = current.take().context("end without message")?;
            found.insert(name, fields.into());
        } else if !line.starts_with("reserved ") {
            let (name, fields) = current.as_mut().context("field without message")?;
            fields.push(field(line, name, &package, structs).with_context(|| line.to_owned())?);
        }
    }
    Ok(())
}

fn field(line: &str, message: &str, package: &str, structs: &Structs) -> anyhow::Result<Value> {
    let (declaration, number) =
        line.strip_suffix(';').and_then(|it| it.split_once(" = ")).context("no number")?;
    let number: u32 = number.parse()?;
    let (rest, proto_name) = declaration.rsplit_once(' ').context("no name")?;
    let (proto_type, mut flags) = if let Some(one) = rest.strip_prefix("optional ") {
        (one, String::new())
    } else if let Some(element) = rest.strip_prefix("repeated ") {
        (element, "r".to_owned())
    } else if let Some(value) =
        rest.strip_prefix("map<string, ").and_then(|it| it.strip_suffix('>'))
    {
        (value, "m".to_owned())
    } else {
        bail!("neither optional, repeated nor a map");
    };
    let field_type = if SCALARS.contains(&proto_type) {
        proto_type.to_owned()
    } else if let Some(full) = proto_type.strip_prefix(".k8s.io.") {
        let (package, name) = full.rsplit_once('.').context("no package")?;
        definition_name(&package.replace('_', "-"), name)
    } else if proto_type.contains('.') {
        bail!("unknown type {proto_type}");
    } else {
        definition_name(package, proto_type)
    };
    let Some(go_fields) = structs.get(message) else {
        // Go's named slices have no struct: `type ExtraValue []string`.
        let name = if proto_name == "items" && flags == "r" { "" } else { proto_name };
        return Ok(json!([number, name, field_type, flags]));
    };
    let go_field = go_fields.iter().find(|it| it.number == Some(number));
    if go_field.is_some_and(|it| it.is_inline) {
        flags.push('i');
    }
    if go_field.is_some_and(|it| it.omits_empty && !it.is_pointer) {
        flags.push('z');
    }
    let json_name = go_field.and_then(|it| it.json_name.as_deref()).unwrap_or(proto_name);
    Ok(json!([number, json_name, field_type, flags]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let read = field(line, "io.k8s.api.core.v1.X", "api.core.v1", &Structs::new());
        let read = read.map_or_else(|err| err.to_string(), |it| it.to_string());
        assert_eq!(read, expected);
    }

    #[test]
    fn fields_are_read_or_refused() {
        check("optional string name = 1;", r#"[1,"name","string",""]"#);
        check("repeated Y ys = 2;", r#"[2,"ys","io.k8s.api.core.v1.Y","r"]"#);
        check("map<string, bytes> data = 3;", r#"[3,"data","bytes","m"]"#);
        check(
            "optional .k8s.io.kube_aggregator.pkg.v1.Z z = 4;",
            r#"[4,"z","io.k8s.kube-aggregator.pkg.v1.Z",""]"#,
        );
        check("oneof kind {", "no number");
        check("required string name = 1;", "neither optional, repeated nor a map");
        check("optional other.Y y = 1;", "unknown type other.Y");
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error() {
        let source = "package k8s.io.api.core.v1;\nmessage X {\n  oneof kind {\n}\n";
        let mut found = Map::new();
        assert!(read_file(source, &Structs::new(), &mut found).is_err());
    }
}
