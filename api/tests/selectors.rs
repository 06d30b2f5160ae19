//! The selector language against the contract: vectors, lists of what must fail, and properties.

use std::collections::BTreeMap;

use api::selector::{NESTING_MAX, Selector, effective, normalise, unique_id};
use api::v3::rule::{EntityRule, ServiceAccountMatch};
use proptest::prelude::*;

fn canonical(text: &str) -> String {
    Selector::parse(text).map_or_else(
        |error| format!("{text}: {error}"),
        |selector| selector.to_string(),
    )
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn unique_ids() {
    for (selector, id) in [
        ("all()", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        ("a == \"b\"", "s:flMh0m0X_BowkAK_W3j3MgH8oQOsj3WxGDoXCQ"),
        ("has(a)", "s:JpRGrxZ4kdS6g7WoF-uG_g7qlh2ipw2zGYBMpQ"),
        ("!all()", "s:Z9zLaL1EHxF9kgXz1JwBD_e-AJbeJyFDpG-oKw"),
        ("global()", "s:fiJDJdBoaP_zQxty70sMjIrxwAb5lgM6LYCAow"),
        ("a in {\"x\", \"y\"}", "s:gSrnDEFVR3CxDEQZzJb9ixSZpe7eM3tOO6L77Q"),
        (
            "(a == \"b\" && has(c))",
            "s:a7YG9G3XyFzmdwcUzkbtw0ffcKn8o5bm1xsGyQ",
        ),
        ("!(has(b) || !has(a))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"),
        (
            "!(a == \"b\" && !c != \"d\")",
            "s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w",
        ),
    ] {
        assert_eq!(Selector::parse(selector).unwrap().unique_id(), id, "{selector}");
    }
    assert_eq!(
        unique_id("s", "has(a)"),
        "s:JpRGrxZ4kdS6g7WoF-uG_g7qlh2ipw2zGYBMpQ"
    );
}

#[test]
fn canonical_forms() {
    for (given, expected) in [
        ("", "all()"),
        ("  \t", "all()"),
        (" (all() )", "all()"),
        ("all(  )", "all()"),
        ("! (has( b)||! has(a ))", "!(has(b) || !has(a))"),
        ("a startswith '\"'", "a starts with '\"'"),
        ("a!='\"'", "a != '\"'"),
        ("a in {\"z\", \"z\", \"x\", \"a\"}", "a in {\"a\", \"x\", \"z\"}"),
        ("!!has(a)", "has(a)"),
        ("!!!has(a)", "!has(a)"),
        ("!(!has(a))", "has(a)"),
        (
            "a == \"1\" && (b == \"2\" && c == \"3\")",
            "(a == \"1\" && (b == \"2\" && c == \"3\"))",
        ),
        (
            "a == '1' || b == '2' && c == '3'",
            "(a == \"1\" || (b == \"2\" && c == \"3\"))",
        ),
        ("a in {}", "a in {}"),
        ("a notin{'x',}", "a not in {\"x\"}"),
        ("a not \t in {'x'}", "a not in {\"x\"}"),
        ("a in{'x'}", "a in {\"x\"}"),
        ("in == \"x\"", "in == \"x\""),
        (
            "has == 'x' && all == 'y' && not in {'z'}",
            "(has == \"x\" && all == \"y\" && not in {\"z\"})",
        ),
        ("9/.-_ == \"\"", "9/.-_ == \"\""),
        ("a contains\"x\"", "a contains \"x\""),
        ("a == \"line\nbreak\"", "a == \"line\nbreak\""),
        ("a == '\u{fc}'", "a == \"\u{fc}\""),
    ] {
        assert_eq!(canonical(given), expected, "{given}");
        assert_eq!(canonical(expected), expected);
    }
    assert_eq!(normalise(" \n a=='b' \r\n"), "a == \"b\"");
    assert_eq!(normalise(" a = b "), "a = b");
}

#[test]
fn must_fail() {
    for bad in [
        "b == b",
        "b contains b",
        "'b1' == b",
        "b",
        "a b",
        "!",
        "foo == \"bar\" &",
        "foo == \"bar\" |",
        "foo != ||",
        "foo in {\"\", ||",
        "foo in \"\"",
        "\"FOO",
        "\"FOO'",
        "(",
        "(a == \"foo\"",
        ")",
        "()",
        "%",
        "a == \"b\" && %",
        "a ",
        "has(foo) &&",
        "a == \"b\"\n",
        "a not in b",
        "a in b",
        "has (x)",
        "all ()",
        "has()",
        "has(a",
        "all(",
        "global(x)",
        "a in {,}",
        "a in {\"x\",,}",
        "a in {b}",
        "a = \"b\"",
        "\u{fc} == \"b\"",
        "a containsx \"y\"",
        "a == \"b\" c == \"d\"",
        "a == \"b\")",
        "a starts \"x\"",
        "has(\u{fc})",
        "a inx {}",
        "a has(b)",
        "a !",
    ] {
        assert!(Selector::parse(bad).is_err(), "{bad:?} parsed");
    }
}

#[test]
fn error_texts() {
    for (bad, text) in [
        ("\"FOO", "unterminated string"),
        ("a = \"b\"", "expected =="),
        ("a == \"b\" & c", "expected &&"),
        ("a == \"b\" | c", "expected ||"),
        ("a b", "expected operator after label \"a\""),
        ("has(a", "no closing ')' after has("),
        ("all(", "no closing ')' after all("),
        ("global( x", "no closing ')' after global("),
        ("has(", "expected identifier"),
        ("!", "unexpected end of string looking for op"),
        ("(a == \"b\"", "expected )"),
        ("a in {\"b\"", "expected }"),
        ("a == b", "expected string"),
        ("a in \"b\"", "expected set literal"),
        (")", "unexpected token: )"),
    ] {
        assert_eq!(Selector::parse(bad).unwrap_err().to_string(), text, "{bad}");
    }
    let long = "a".repeat(513);
    assert!(
        Selector::parse(&format!("{long} == \"b\""))
            .unwrap_err()
            .to_string()
            .starts_with("label too long: a")
    );
    assert!(
        Selector::parse(&format!("has({long})"))
            .unwrap_err()
            .to_string()
            .starts_with("label too long: a")
    );
    assert!(Selector::parse(&format!("{} == \"b\"", "a".repeat(512))).is_ok());
}

#[test]
fn nesting_is_bounded() {
    let nested = |n: usize| format!("{}has(a){}", "(".repeat(n), ")".repeat(n));
    assert!(Selector::parse(&nested(NESTING_MAX)).is_ok());
    assert!(Selector::parse(&nested(NESTING_MAX + 1)).is_err());
    assert!(Selector::parse(&"(".repeat(1_000_000)).is_err());
    assert!(Selector::parse(&"!(".repeat(1_000_000)).is_err());
    assert_eq!(canonical(&format!("{}has(a)", "!".repeat(100_001))), "!has(a)");
    // Each pair of parentheses holds an "or" of an "and": two levels of the tree.
    let two_levels = |n: usize| format!("{}has(a){}", "has(b) || has(c) && (".repeat(n), ")".repeat(n));
    assert_eq!(
        canonical(&canonical(&two_levels(NESTING_MAX / 2))),
        canonical(&two_levels(NESTING_MAX / 2))
    );
    assert!(Selector::parse(&two_levels(NESTING_MAX / 2 + 1)).is_err());
}

#[test]
fn evaluation() {
    let here = labels(&[("a", "value"), ("empty", "")]);
    for (selector, expected) in [
        ("a == 'value'", true),
        ("a == 'Value'", false),
        ("a != 'value'", false),
        ("x != 'value'", true),
        ("x == ''", false),
        ("empty == ''", true),
        ("a contains 'alu'", true),
        ("a contains ''", true),
        ("x contains ''", false),
        ("a starts with 'val'", true),
        ("a starts with 'al'", false),
        ("a ends with 'lue'", true),
        ("x ends with ''", false),
        ("a in {'b', 'value'}", true),
        ("a in {}", false),
        ("x in {'b'}", false),
        ("a not in {'value'}", false),
        ("x not in {'value'}", true),
        ("a not in {}", true),
        ("has(empty)", true),
        ("!has(x)", true),
        ("all()", true),
        ("global()", true),
        ("!all()", false),
        ("", true),
        ("has(x) || has(a) && has(empty)", true),
        ("!a == 'value'", false),
    ] {
        assert_eq!(
            Selector::parse(selector).unwrap().matches(&here),
            expected,
            "{selector}"
        );
    }
}

#[test]
fn effective_policy_selectors() {
    use effective::{global_network_policy, network_policy};
    assert_eq!(network_policy("n", "", ""), "projectcalico.org/namespace == 'n'");
    assert_eq!(
        network_policy("n", "a == 'b'", ""),
        "(a == 'b') && projectcalico.org/namespace == 'n'"
    );
    assert_eq!(
        network_policy("n", "", "r == 'x' && has(y)"),
        "(projectcalico.org/namespace == 'n') && (pcsa.r == \"x\" && has(pcsa.y))"
    );
    assert_eq!(global_network_policy("", "", ""), "");
    assert_eq!(global_network_policy("all()", "", ""), "all()");
    assert_eq!(
        global_network_policy("", "all()", ""),
        "has(projectcalico.org/namespace)"
    );
    assert_eq!(
        global_network_policy("has(a)", "e == 'p'", ""),
        "(has(a)) && pcns.e == \"p\""
    );
    assert_eq!(
        global_network_policy("all()", "has(e)", ""),
        "(has(projectcalico.org/namespace)) && has(pcns.e)"
    );
    assert_eq!(
        global_network_policy("has(a)", "", "all()"),
        "(has(a)) && has(projectcalico.org/serviceaccount)"
    );
}

#[test]
fn effective_rule_selectors() {
    let side = |selector: &str, namespace: &str, not: &str| EntityRule {
        selector: selector.to_owned(),
        namespace_selector: namespace.to_owned(),
        not_selector: not.to_owned(),
        ..EntityRule::default()
    };
    let own = "projectcalico.org/namespace == 'n'";
    for (namespace, rule, expected) in [
        ("n", side("", "", ""), String::new()),
        ("n", side("", "", "has(x)"), own.to_owned()),
        ("n", side("has(a)", "", ""), format!("({own}) && (has(a))")),
        ("", side("has(a)", "", ""), "has(a)".to_owned()),
        (
            "",
            side("", "all()", ""),
            "has(projectcalico.org/namespace)".to_owned(),
        ),
        (
            "n",
            side("has(a)", "global()", ""),
            "(!has(projectcalico.org/namespace)) && (has(a))".to_owned(),
        ),
        (
            "n",
            side("has(a)", "e == 'p'", ""),
            "(pcns.e == \"p\") && (has(a))".to_owned(),
        ),
        ("n", side("", "e == 'p'", ""), "pcns.e == \"p\"".to_owned()),
    ] {
        assert_eq!(effective::entity(namespace, &rule), expected);
    }
    let accounts = EntityRule {
        selector: "has(a)".to_owned(),
        service_accounts: Some(ServiceAccountMatch {
            names: vec!["n2".to_owned(), "n1".to_owned()],
            selector: "role == 'x'".to_owned(),
        }),
        ..EntityRule::default()
    };
    assert_eq!(
        effective::entity("", &accounts),
        "((pcsa.role == \"x\") && (projectcalico.org/serviceaccount in {\"n1\", \"n2\"})) && (has(a))"
    );
    assert_eq!(effective::merged("has(a)", "has(b)"), "(has(a)) && (!(has(b)))");
}

#[test]
fn label_restrictions() {
    let of = |selector: &str| Selector::parse(selector).unwrap().restrictions();
    let a = of("a == 'x' && a in {'x', 'y'} && has(b) && !has(c) && d != 'z'");
    assert_eq!(a.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(a["a"].present && a["a"].values.as_ref().is_some_and(|v| v.iter().eq(["x"])));
    assert!(a["b"].present && a["b"].values.is_none());
    assert!(a["c"].absent && !a["c"].present);
    let or = of("a == 'x' && has(b) || a == 'y'");
    assert_eq!(or.keys().collect::<Vec<_>>(), ["a"]);
    assert!(or["a"].values.as_ref().is_some_and(|v| v.iter().eq(["x", "y"])));
    assert!(of("has(a) || all()").is_empty());
    assert!(of("has(a) || !has(a)").is_empty());
    assert!(of("a == 'x' && a == 'y'")["a"].unsatisfiable());
    assert!(of("has(a) && !has(a)")["a"].unsatisfiable());
}

fn selector_text() -> impl Strategy<Value = String> {
    let label = "[ab]|pcns\\.x";
    let value = "['\"]?[xy]{0,2}";
    let quote = |v: String| {
        if v.contains('"') {
            format!("'{v}'")
        } else {
            format!("\"{v}\"")
        }
    };
    let leaf = prop_oneof![
        Just("all()".to_owned()),
        Just("global()".to_owned()),
        label.prop_map(|l| format!("has( {l})")),
        (
            label,
            prop::sample::select(vec!["==", "!=", "contains", "startswith", "ends  with"]),
            value
        )
            .prop_map(move |(l, op, v)| format!("{l} {op} {}", quote(v))),
        (
            label,
            prop::sample::select(vec!["in", "not in"]),
            prop::collection::vec(value, 0..4)
        )
            .prop_map(move |(l, op, vs)| format!(
                "{l} {op} {{{}}}",
                vs.into_iter().map(quote).collect::<Vec<_>>().join(",")
            )),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| format!("!({e})")),
            inner.clone().prop_map(|e| format!("! {e}")),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|es| format!("({})", es.join(" && "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|es| es.join("||")),
            inner.prop_map(|e| format!("(({e}))")),
        ]
    })
}

fn label_values() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[ab]|pcns\\.x", "['\"]?[xy]{0,2}", 0..4)
}

proptest! {
    #[test]
    fn canonical_form_is_a_fixed_point(text in selector_text(), here in label_values()) {
        let parsed = Selector::parse(&text).unwrap();
        let again = Selector::parse(&parsed.to_string()).unwrap();
        prop_assert_eq!(&parsed, &again);
        prop_assert_eq!(parsed.to_string(), again.to_string());
        prop_assert_eq!(parsed.matches(&here), again.matches(&here));
        prop_assert_eq!(parsed.unique_id().len(), 40);
    }

    #[test]
    fn restrictions_hold_for_what_matches(text in selector_text(), here in label_values()) {
        let parsed = Selector::parse(&text).unwrap();
        if parsed.matches(&here) {
            for (label, restriction) in parsed.restrictions() {
                let found = here.get(&label);
                prop_assert!(!restriction.unsatisfiable(), "{} {}", text, label);
                prop_assert!(!restriction.present || found.is_some(), "{} {}", text, label);
                prop_assert!(!restriction.absent || found.is_none(), "{} {}", text, label);
                if let (Some(values), Some(found)) = (restriction.values, found) {
                    prop_assert!(values.contains(found), "{} {}", text, label);
                }
            }
        }
    }

    #[test]
    fn prefixing_renames_every_label(text in selector_text(), here in label_values()) {
        let parsed = Selector::parse(&text).unwrap();
        let renamed = here.iter().map(|(k, v)| (format!("p.{k}"), v.clone())).collect::<BTreeMap<_, _>>();
        let prefixed = Selector::parse(&effective::prefixed(&text, "p.")).unwrap();
        prop_assert_eq!(parsed.matches(&here), prefixed.matches(&renamed));
    }

    #[test]
    fn random_text_never_panics(text in ".{0,80}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn random_tokens_never_panic(tokens in prop::collection::vec(
        prop::sample::select(vec![
            "a", "\"x\"", "'", "\"", "==", "!=", "!", "&&", "||", "&", "|", "=", "(", ")", "{", "}", ",", "has(",
            "all()", "global(", "in", "not in", "not", "starts with", "contains", " ", "\t", "\n", "\u{fc}",
        ]), 0..20)) {
        let text = tokens.concat();
        if let Ok(parsed) = Selector::parse(&text) {
            let canonical = parsed.to_string();
            prop_assert_eq!(Selector::parse(&canonical).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Selector::parse(&String::from_utf8_lossy(&bytes));
    }
}
