//! Definitions of `metrics.k8s.io`, which the table of Kubernetes' own API leaves out.
//! <https://github.com/kubernetes/metrics/blob/master/pkg/apis/metrics/v1beta1/types.go>

use std::collections::BTreeMap;

use super::{Schema, Type};

const PACKAGE: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";
const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

pub(super) fn add(definitions: &mut BTreeMap<String, Schema>) {
    let usage = map_of(reference("io.k8s.apimachinery.pkg.api.resource.Quantity"));
    let container = object([("name", text()), ("usage", usage.clone())], &["name", "usage"]);
    definitions.insert(format!("{PACKAGE}.ContainerMetrics"), container);
    let containers = list_of(reference(&format!("{PACKAGE}.ContainerMetrics")));
    for (kind, field, value) in
        [("NodeMetrics", "usage", usage), ("PodMetrics", "containers", containers)]
    {
        let window = Schema { format: Some("duration".into()), ..text() };
        let fields = [
            ("metadata", reference(&format!("{META}.ObjectMeta"))),
            ("timestamp", reference(&format!("{META}.Time"))),
            ("window", window),
            (field, value),
        ];
        let one = object(fields, &["timestamp", "window", field]);
        definitions.insert(format!("{PACKAGE}.{kind}"), of_kind(one, kind));
        let fields = [
            ("metadata", reference(&format!("{META}.ListMeta"))),
            ("items", list_of(reference(&format!("{PACKAGE}.{kind}")))),
        ];
        let list = object(fields, &["items"]);
        let kind = format!("{kind}List");
        definitions.insert(format!("{PACKAGE}.{kind}"), of_kind(list, &kind));
    }
}

fn text() -> Schema {
    Schema { ty: Some(Type::String), ..Schema::default() }
}

fn reference(name: &str) -> Schema {
    Schema { reference: Some(name.into()), ..Schema::default() }
}

fn list_of(items: Schema) -> Schema {
    Schema { ty: Some(Type::Array), items: Some(Box::new(items)), ..Schema::default() }
}

fn map_of(values: Schema) -> Schema {
    let additional_properties = Some(Box::new(values));
    Schema { ty: Some(Type::Object), additional_properties, ..Schema::default() }
}

fn object<const N: usize>(fields: [(&str, Schema); N], required: &[&str]) -> Schema {
    Schema {
        ty: Some(Type::Object),
        properties: fields.into_iter().map(|(name, it)| (name.to_owned(), it)).collect(),
        required: required.iter().map(|it| (*it).to_owned()).collect(),
        ..Schema::default()
    }
}

fn of_kind(mut schema: Schema, kind: &str) -> Schema {
    for field in ["apiVersion", "kind"] {
        schema.properties.insert(field, text());
    }
    schema.kinds = vec![(GROUP.to_owned(), VERSION.to_owned(), kind.to_owned())];
    schema
}
