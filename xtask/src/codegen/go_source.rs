//! Reads from Go's API structs what neither the definitions nor the `.proto` files say.
//!
//! The sources are formatted by gofmt, one field a line, so lines are enough. A struct that is read
//! wrongly shows up as a field without a match when the `.proto` files are read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::definition_name;

/// All structs by their schema name.
pub(super) type Structs = BTreeMap<String, Vec<Field>>;

/// One field that has a JSON or a protobuf name.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) json_name: Option<String>,
    /// The number in the protobuf tag.
    pub(super) number: Option<u32>,
    pub(super) is_inline: bool,
    pub(super) is_pointer: bool,
    pub(super) omits_empty: bool,
    /// The value of a `+default=` marker.
    pub(super) default: Option<Value>,
}

/// Reads every package below the module directories.
pub(super) fn structs(modules: &[(String, PathBuf)]) -> anyhow::Result<Structs> {
    let mut found = Structs::new();
    for (module, dir) in modules {
        read_dir(module, dir, &mut found)?;
    }
    Ok(found)
}

fn read_dir(package: &str, dir: &Path, found: &mut Structs) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|it| it.to_str()) else { continue };
        if path.is_dir() {
            read_dir(&format!("{package}/{name}"), &path, found)?;
        } else if name.ends_with(".go")
            && !name.ends_with("_test.go")
            && !name.contains("generated")
        {
            read_file(package, &fs::read_to_string(&path)?, found);
        }
    }
    Ok(())
}

fn read_file(package: &str, source: &str, found: &mut Structs) {
    let mut current: Option<(String, Vec<Field>)> = None;
    let mut default = None;
    for line in source.lines() {
        if let Some(head) = line.strip_prefix("type ").and_then(|it| it.strip_suffix(" struct {")) {
            current = Some((head.trim().to_owned(), Vec::new()));
        } else if line == "}" {
            if let Some((name, fields)) = current.take() {
                found.insert(definition_name(package, &name), fields);
            }
        } else if let Some((_, fields)) = &mut current {
            let line = line.trim();
            if let Some(marker) = line.strip_prefix("// +default=") {
                default = default_value(marker, source);
            } else if !line.starts_with("//")
                && let Some(mut field) = field(line)
            {
                field.default = default.take();
                fields.push(field);
            }
        }
    }
}

fn field(line: &str) -> Option<Field> {
    let (declaration, tags) = line.split_once('`')?;
    let protobuf = tag(tags, "protobuf");
    let json = tag(tags, "json");
    let mut words = declaration.split_whitespace();
    let first = words.next()?;
    let go_type = words.next().unwrap_or(first);
    let options: Vec<&str> = json.unwrap_or_default().split(',').collect();
    let json_name = options.first().filter(|it| !it.is_empty()).map(|it| (*it).to_owned());
    Some(Field {
        is_inline: json.is_some() && json_name.is_none(),
        json_name,
        number: protobuf.and_then(|it| it.split(',').nth(1)).and_then(|it| it.parse().ok()),
        is_pointer: go_type.starts_with('*'),
        omits_empty: options.contains(&"omitempty") || options.contains(&"omitzero"),
        default: None,
    })
}

fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let start = tags.find(&format!("{name}:\""))? + name.len() + 2;
    tags[start..].split('"').next()
}

/// A literal, or `ref(Constant)` of the same file.
fn default_value(marker: &str, source: &str) -> Option<Value> {
    if let Some(constant) = marker.strip_prefix("ref(").and_then(|it| it.strip_suffix(')')) {
        let line = source.lines().find(|it| it.trim().starts_with(&format!("{constant} ")))?;
        return serde_json::from_str(line.split_once('=')?.1.trim()).ok();
    }
    serde_json::from_str(marker).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
type Probe struct {
	// The action.
	ProbeHandler `json:"" protobuf:"bytes,1,opt,name=handler"`
	metav1.TypeMeta `json:",inline"`
	// +default="TCP"
	Protocol Protocol `json:"protocol,omitempty" protobuf:"bytes,4,opt,name=protocol,casttype=Protocol"`
	// +default=ref(Shared)
	Kind *string `json:"kind" protobuf:"bytes,5,opt,name=kind"`
	unexported int
}

const (
	Shared Kind = "Shared"
)
"#;

    #[test]
    fn fields_are_read_with_their_tags() {
        let mut found = Structs::new();
        read_file("k8s.io/api/core/v1", SOURCE, &mut found);
        let fields = &found["io.k8s.api.core.v1.Probe"];
        let read: Vec<_> = fields
            .iter()
            .map(|it| {
                (it.json_name.as_deref(), it.number, it.is_inline, it.is_pointer, it.omits_empty)
            })
            .collect();
        assert_eq!(
            read,
            [
                (None, Some(1), true, false, false),
                (None, None, true, false, false),
                (Some("protocol"), Some(4), false, false, true),
                (Some("kind"), Some(5), false, true, false),
            ]
        );
        let defaults: Vec<_> = fields.iter().filter_map(|it| it.default.clone()).collect();
        assert_eq!(defaults, ["TCP", "Shared"]);
    }
}
