//! What expressions come to, and that none runs away.

use serde_json::json;

use super::*;

fn check(source: &str, object: &serde_json::Value) -> Result<serde_json::Value, String> {
    let program = Program::compile(source, &["self"]).map_err(|it| it.to_string())?;
    let session = Session::new(&[object]);
    let result = session.evaluate(&program, &[("self", value(object))]);
    result.map(|it| json(&it)).map_err(|it| it.to_string())
}

#[test]
fn expressions_come_to_values() {
    let object = json!({
        "n": 3, "f": 1.5, "name": "h\u{e4}usle", "list": [3, 1, 2], "q": "500Mi", "null": null,
        "map": {"a": 1}, "items": [{"k": "x", "v": 1}, {"k": "y", "v": 2}],
    });
    for (source, wanted) in [
        ("self.n + 1", json!(4)),
        ("self.n > 2 && self.f < 2.0", json!(true)),
        ("size(self.name) == 6 && self.name.size() == 6", json!(true)),
        ("self.name.matches('^h.*e$')", json!(true)),
        ("self.name.find('[a-z]+$')", json!("usle")),
        ("self.list.exists(x, x == 2) && self.list.all(x, x > 0)", json!(true)),
        ("self.list.map(x, x * 2)", json!([6, 2, 4])),
        ("self.items.filter(i, i.v > 1).map(i, i.k)", json!(["y"])),
        ("self.list.isSorted()", json!(false)),
        ("quantity(self.q).isLessThan(quantity('1Gi'))", json!(true)),
        ("has(self.absent)", json!(false)),
        ("has(self.map.a) ? 'yes' : 'no'", json!("yes")),
        ("'a' in self.map && 2 in self.list", json!(true)),
        ("self.name.replace('h', 'm')", json!("m\u{e4}usle")),
        ("'%d-%s'.format([self.n, self.q])", json!("3-500Mi")),
        ("duration('1h') > duration('1m')", json!(true)),
        ("isURL('https://a.b/c') && url('https://a.b/c').getHost() == 'a.b'", json!(true)),
        ("ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1')", json!(true)),
        ("type(self.n) == int", json!(true)),
        ("self.?absent.orValue(7)", json!(7)),
        ("math.greatest(1, 2)", json!(2)),
        ("sets.contains([1, 2], [1])", json!(true)),
        ("'a' + 'b' + self.name", json!("abh\u{e4}usle")),
        ("[1] + self.list", json!([1, 3, 1, 2])),
        ("self.list.distinct() == [3, 1, 2]", json!(true)),
        ("[[1], [2]].flatten() == [1, 2]", json!(true)),
        ("['a', 'b'].join('-')", json!("a-b")),
        ("lists.range(3)", json!([0, 1, 2])),
        ("string(self.n)", json!("3")),
    ] {
        assert_eq!(check(source, &object), Ok(wanted), "{source}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    let object = json!({"n": 3, "s": "x"});
    for (source, wanted) in [
        ("self.", "compilation failed: ERROR: <input>"),
        ("nothing > 1", "undeclared reference to 'nothing' (in container '')"),
        ("self.n.frobnicate()", "undeclared reference to 'frobnicate' (in container '')"),
        ("self.absent == 1", "no such key: absent"),
        ("self.n / 0 == 1", "division by zero"),
        ("self.n + self.s", "no such overload"),
        ("a.b.Thing{c: 1}", "compilation failed"),
    ] {
        let got = check(source, &object).unwrap_err();
        assert!(got.contains(wanted), "{source}: {got}");
    }
}

#[test]
fn nothing_runs_away() {
    let long: Vec<u32> = (0..3_000).collect();
    let object = json!({ "l": long, "s": "x".repeat(100_000) });
    let nested = "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c >= 0)))";
    let too_dear = "operation cancelled: actual cost limit exceeded";
    assert_eq!(check(nested, &object).unwrap_err(), too_dear);
    let growing = "self.s.replace('x', self.s).replace('x', self.s).size() > 0";
    assert_eq!(check(growing, &object).unwrap_err(), too_dear);
    // Each of them doubles what was, or makes much of little.
    let chained = |start: &str, step: &str| format!("{start}{}.size() > 0", step.repeat(40));
    for source in [
        chained("[self.s]", ".map(x, x + x)"),
        chained("[[1]]", ".map(x, x + x)"),
        chained("[[1]]", ".map(x, [x, x].flatten())"),
        chained("['a']", ".map(x, [x, x].join(''))"),
        chained("['a']", ".map(x, '%s%s'.format([x, x]))"),
        "lists.range(2000000000).size() > 0".to_owned(),
        "(self.l + self.l).distinct().size() > 0".to_owned(),
        "sets.contains(self.l, self.l)".to_owned(),
    ] {
        assert_eq!(check(&source, &object).unwrap_err(), too_dear, "{source:.60}");
    }
    for (source, wanted) in [
        (format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000)), "too complex"),
        (format!("{}true", "!".repeat(20_000)), "too complex"),
        (format!("true{}", " && true".repeat(2_000)), ""),
        (format!("1{}", " + 1".repeat(5_000)), "too complex"),
        (format!("self{}", ".a".repeat(5_000)), "too complex"),
        ("x".repeat(100_000), "too complex"),
        (format!("{}1{}", "[".repeat(60), "]".repeat(60)), ""),
        ("self.s.matches('(a{1000}){1000}')".to_owned(), "error parsing regexp"),
    ] {
        let got = check(&source, &object).err().unwrap_or_default();
        assert!(got.contains(wanted), "{:.20}: {got}", source);
    }
}

#[test]
fn a_session_has_one_budget() {
    let long: Vec<u32> = (0..2_000).collect();
    let object = json!({ "l": long });
    let program = Program::compile("self.l.all(a, a >= 0)", &["self"]).unwrap();
    let session = Session::new(&[&object]);
    let variables = [("self", value(&object))];
    let mut last = Ok(true);
    for _ in 0..1_000 {
        last = session.evaluate_bool(&program, &variables);
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(EvaluateError::TotalCost));
}
