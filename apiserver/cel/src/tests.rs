//! Expressions of Kubernetes' documentation, library by library.

use cel::Context;
use serde_json::{Value, json};

use super::*;

/// What an expression gives, with variables.
fn evaluated(text: &str, variables: &Value) -> Result<Value, String> {
    let expression = Expression::compile_mutation(text).map_err(|error| error.to_string())?;
    let mut context = Context::with_env(libraries());
    for (name, value) in variables.as_object().into_iter().flatten() {
        context.add_variable_as_val(name.as_str(), to_val(value));
    }
    context.add_variable_as_val("authorizer", Box::new(Authorizer::new(Arc::new(Admin))));
    let value = expression.evaluate(&context).map_err(|error| Expression::describe(&error))?;
    to_json(value.as_ref()).map_err(|error| error.to_string())
}

fn hold(expressions: &[&str]) {
    for text in expressions {
        assert_eq!(evaluated(text, &json!({})), Ok(json!(true)), "{text}");
    }
}

fn fail(expressions: &[(&str, &str)]) {
    for (text, says) in expressions {
        let error = evaluated(text, &json!({})).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// May do everything in the group `apps`, and see paths; asked about an account it says which.
struct Admin;

impl Authorize for Admin {
    fn decide(&self, check: &Check) -> Decision {
        let reason = match &check.account {
            Some((namespace, name)) => format!("{namespace}/{name}"),
            None => format!(
                "{} {}/{} {}/{} {} {}",
                check.verb,
                check.resource,
                check.subresource,
                check.namespace,
                check.name,
                check.field_selector,
                check.label_selector
            ),
        };
        let error = (check.group == "broken").then(|| "out of order".to_owned());
        Decision { allowed: check.group == "apps" || check.path.as_deref() == Some("/healthz"), reason, error }
    }
}

#[test]
fn quantities_are_compared_and_added_exactly() {
    hold(&[
        "quantity('500000G').isInteger()",
        "!quantity('50k').add(quantity('1m')).isInteger()",
        "quantity('50k').asInteger() == 50000",
        "quantity('9999999999999999999999999').isInteger() == false",
        "quantity('50.703k').asApproximateFloat() == 50703.0",
        "quantity('1.5G').sign() == 1 && quantity('-1').sign() == -1 && quantity('0').sign() == 0",
        "quantity('50k').add(quantity('20k')) == quantity('70k')",
        "quantity('50k').add(20) == quantity('50020')",
        "quantity('50k').sub(quantity('20000')) == quantity('30k')",
        "quantity('50k').sub(20000) == quantity('30k')",
        "quantity('150Mi').isGreaterThan(quantity('100Mi'))",
        "quantity('50M').isLessThan(quantity('100M'))",
        "quantity('200M').compareTo(quantity('0.2G')) == 0",
        "quantity('50Mi').compareTo(quantity('50M')) == 1",
        "isQuantity('1.3G') && isQuantity('1.3Gi') && !isQuantity('1,3G') && !isQuantity('10000K')",
        "isQuantity('Three') == false",
    ]);
    fail(&[
        ("quantity('x')", "quantities must match"),
        ("quantity('50m').asInteger()", "cannot convert value to integer"),
    ]);
}

#[test]
fn addresses_and_networks_are_taken_apart() {
    hold(&[
        "ip('127.0.0.1').family() == 4 && ip('::1').family() == 6",
        "isIP('10.0.0.1') && isIP('::1') && !isIP('300.0.0.1') && !isIP('010.0.0.1') && !isIP('::ffff:1.2.3.4')",
        "ip.isCanonical('127.0.0.1') && !ip.isCanonical('2001:DB8::ABCD') && ip.isCanonical('2001:db8::abcd')",
        "ip('0.0.0.0').isUnspecified() && ip('127.0.0.1').isLoopback() && ip('224.0.0.1').isLinkLocalMulticast()",
        "ip('169.254.0.1').isLinkLocalUnicast() && ip('192.168.0.1').isGlobalUnicast()",
        "!ip('255.255.255.255').isGlobalUnicast() && ip('fe80::1').isLinkLocalUnicast()",
        "string(ip('192.168.0.1')) == '192.168.0.1' && string(cidr('10.0.0.0/8')) == '10.0.0.0/8'",
        "cidr('192.168.0.0/24').containsIP('192.168.0.1') && cidr('192.168.0.0/24').containsIP(ip('192.168.0.9'))",
        "!cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))",
        "cidr('192.168.0.0/16').containsCIDR(cidr('192.168.10.0/24'))",
        "!cidr('192.168.1.0/24').containsCIDR('192.168.2.0/24')",
        "cidr('192.168.0.1/24').ip() == ip('192.168.0.1')",
        "cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24')",
        "cidr('192.168.0.0/24').prefixLength() == 24",
        "isCIDR('::1/128') && !isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/08')",
    ]);
    fail(&[("ip('x')", "parse error during conversion"), ("cidr('10.0.0.0/24').containsIP(1)", "no such overload")]);
}

#[test]
fn urls_are_taken_apart_as_written() {
    hold(&[
        "url('https://example.com:80/').getHost() == 'example.com:80'",
        "url('https://example.com/path with spaces/').getEscapedPath() == '/path%20with%20spaces/'",
        "url('https://example.com/path?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}",
        "url('https://example.com/path?key with spaces=value with spaces').getQuery() \
         == {'key with spaces': ['value with spaces']}",
        "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getHost() == '[::1]:80'",
        "url('https://example.com:80/').getPort() == '80' && url('https://example.com/').getPort() == ''",
        "url('/path').getScheme() == '' && url('/path').getEscapedPath() == '/path'",
        "url('https://example.com').getEscapedPath() == ''",
        "isURL('https://user:pass@example.com:80/path?query=val#fragment') && isURL('/absolute-path')",
        "!isURL('https://a:b:c/') && !isURL('../relative-path') && !isURL('')",
    ]);
    fail(&[("url('../relative-path')", "invalid URI for request")]);
}

#[test]
fn texts_are_searched_and_rewritten() {
    hold(&[
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'123 abc 456'.findAll('[0-9]+') == ['123', '456'] && '123 abc 456'.findAll('[0-9]+', 1) == ['123']",
        "'123 abc 456'.findAll('[0-9]+', -1).size() == 2 && 'abc'.findAll('xyz') == []",
        "'hello'.charAt(4) == 'o' && 'hello mellow'.indexOf('ello') == 1 && 'hello mellow'.lastIndexOf('ello') == 7",
        "['hello', 'mellow'].join(' ') == 'hello mellow' && 'TacoCat'.lowerAscii() == 'tacocat'",
        "'hello hello'.replace('he', 'we', 1) == 'wello hello' && 'a b'.split(' ') == ['a', 'b']",
        "'tacocat'.substring(0, 4) == 'taco' && '  trim '.trim() == 'trim' && 'TacoCat'.upperAscii() == 'TACOCAT'",
        "strings.quote('say \"x\"') == '\"say \\\\\"x\\\\\"\"' && 'x is %d'.format([3]) == 'x is 3'",
    ]);
}

#[test]
fn lists_are_summed_searched_and_compared_as_sets() {
    hold(&[
        "[1, 2, 3].isSorted() && !['b', 'a'].isSorted() && [].isSorted()",
        "[1, 3].sum() == 4 && [1.0, 3.0].sum() == 4.0 && [].sum() == 0",
        "['1s', '2s'].map(d, duration(d)).sum() == duration('3s')",
        "[1, 3].min() == 1 && [1, 3].max() == 3 && ['a', 'b'].max() == 'b'",
        "[1, 2, 2, 3].indexOf(2) == 1 && ['a', 'b', 'b', 'c'].lastIndexOf('b') == 2 && [1.0].indexOf(1.1) == -1",
        "sets.contains([1, 2, 3], [2]) && !sets.contains([1], [1, 2]) && sets.contains([], [])",
        "sets.equivalent([1, 2, 3], [3u, 2.0, 1]) && !sets.equivalent([1], [1, 2])",
        "sets.intersects([1], [1, 2]) && !sets.intersects([], [1])",
    ]);
    fail(&[("[].max()", "max called on empty list"), ("[1, 'a'].sum()", "no such overload")]);
}

#[test]
fn formats_say_what_is_wrong() {
    hold(&[
        "!format.dns1123Label().validate('my-label-name').hasValue()",
        "format.dns1123Label().validate('contains a space').value().size() == 1",
        "format.dns1123Subdomain().validate('apiextensions.k8s.io') == optional.none()",
        "format.dns1035Label().validate('1a').hasValue() && !format.dns1123LabelPrefix().validate('my-').hasValue()",
        "!format.qualifiedName().validate('apiextensions.k8s.io/v1beta1').hasValue()",
        "!format.labelValue().validate('my-cool-label-Value').hasValue()",
        "!format.uri().validate('http://example.com').hasValue()",
        "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
        "format.uuid().validate('x').value() == ['does not match the UUID format']",
        "!format.byte().validate('aGVsbG8=').hasValue() && format.byte().validate('@').value() == ['invalid base64']",
        "!format.date().validate('2021-01-01').hasValue() && format.date().validate('2021-13-01').hasValue()",
        "!format.datetime().validate('2021-01-01T00:00:00Z').hasValue()",
        "format.named('dns1123Label').value() == format.dns1123Label() && !format.named('x').hasValue()",
    ]);
}

#[test]
fn versions_are_compared_by_precedence() {
    hold(&[
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('v1.0', true) == semver('1.0.0') && semver('01.02.03', true) == semver('1.2.3')",
        "isSemver('1.0.0') && !isSemver('v1.0') && isSemver('v1.0', true) && !isSemver('200K')",
        "semver('1.0.0').isLessThan(semver('1.2.3')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
        "semver('1.2.3').isGreaterThan(semver('1.0.0')) && semver('1.2.3').compareTo(semver('2.0.0')) == -1",
        "semver('1.2.3+a') == semver('1.2.3+b')",
    ]);
}

#[test]
fn comprehensions_have_two_variables() {
    hold(&[
        "[1, 2, 3].all(i, v, i < v) && !{'a': 1}.all(k, v, v > 1) && {'hello': 1}.exists(k, v, k == 'hello' && v == 1)",
        "['a', 'b', 'b'].existsOne(i, v, v == 'a') && ![1, 1].existsOne(i, v, v == 1)",
        "[1, 2, 3].transformList(i, v, i * v + v) == [1, 4, 9]",
        "[1, 2, 3].transformList(i, v, i % 2 == 0, i * v) == [0, 6]",
        "{'greeting': 'hello'}.transformMap(k, v, k + v) == {'greeting': 'greetinghello'}",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 2) == {'b': 4} && [5].transformMap(i, v, v) == {0: 5}",
        "{'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'}",
    ]);
    fail(&[
        ("{'a': 'x', 'b': 'x'}.transformMapEntry(k, v, {v: k})", "key already exists"),
        ("[1].all(1, v, true)", "argument must be a simple name"),
    ]);
}

#[test]
fn optional_values_may_be_absent() {
    let object = json!({"object": {"metadata": {"labels": {"a": "b"}}}});
    for text in [
        "object.?spec.replicas.orValue(1) == 1",
        "object.metadata.labels[?'a'].orValue('') == 'b'",
        "object.?metadata.?labels.a.hasValue()",
        "object.metadata.labels[?'x'].optMap(x, x + '!').orValue('none') == 'none'",
        "[?object.?spec.?x, 1] == [1]",
    ] {
        assert_eq!(evaluated(text, &object), Ok(json!(true)), "{text}");
    }
    assert_eq!(evaluated("object.spec", &object), Err("no such key: spec".to_owned()));
}

#[test]
fn the_authorizer_is_asked_step_by_step() {
    hold(&[
        "authorizer.path('/healthz').check('get').allowed() && !authorizer.path('/x').check('get').allowed()",
        "authorizer.group('apps').resource('deployments').check('create').allowed()",
        "authorizer.group('').resource('pods').subresource('log').namespace('n').name('p').fieldSelector('a=b')\
         .labelSelector('c=d').check('get').reason() == 'get pods/log n/p a=b c=d'",
        "authorizer.serviceAccount('default', 'bot').group('').resource('pods').check('get').reason() == 'default/bot'",
        "authorizer.group('broken').resource('x').check('y').errored()",
        "authorizer.group('broken').resource('x').check('y').error() == 'out of order'",
        "!authorizer.group('apps').resource('x').check('y').errored()",
    ]);
    fail(&[
        ("authorizer.path('')", "path must not be empty"),
        ("authorizer.serviceAccount('A', 'b')", "Invalid service account namespace"),
    ]);
}

#[test]
fn objects_are_constructed_where_their_names_say() {
    let variables = json!({"n": 3});
    for (text, wanted) in [
        (
            "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{replicas: n}}",
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 3}}),
        ),
        (
            "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c'}], ?x: optional.none()}}",
            json!({"spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/a~b'), value: 'v'}]",
            json!([{"op": "add", "path": "/metadata/labels/example.com~1a~0b", "value": "v"}]),
        ),
    ] {
        assert_eq!(evaluated(text, &variables), Ok(wanted), "{text}");
    }
    fail(&[
        ("Object{spec: Object.metadata{}}", "unexpected type name \"Object.metadata\", expected \"Object.spec\""),
        ("Pod{}", "undeclared reference to 'Pod'"),
        ("JSONPatch{nonsense: 1}", "undefined field 'nonsense'"),
    ]);
}

#[test]
fn nested_loops_cost_more() {
    let cost = |text: &str| Expression::compile(text).expect("an expression").cost(100);
    assert_eq!(cost("a.b == 1"), 100);
    assert_eq!(cost("a.all(x, x > 1)"), 100);
    assert_eq!(cost("a.all(x, b.all(y, x > y))"), 10_000);
    assert_eq!(cost("a.all(i, x, x > i)"), 100);
}

#[test]
fn types_are_told_where_they_can_be() {
    use apimachinery::schema::Schema;

    use crate::check::{Scope, Ty, check};

    let deployment = Schema::builtin().resource("apps", "v1", "deployments").expect("a resource").ty.clone();
    let scope = Scope::of(&["oldObject", "params"]).with("object", Ty::Object(deployment));
    for (text, name) in [
        ("object.spec.replicas > 1", "bool"),
        ("object.spec.replicas", "int"),
        ("object.metadata.labels['a']", "string"),
        ("object.spec.template.spec.containers.all(c, c.image.startsWith('a'))", "bool"),
        ("object.spec.template.spec.containers.map(c, c.name)", "list"),
        ("oldObject.anything.at.all", "dyn"),
        ("object.metadata.labels.transformList(k, v, k + v)", "list"),
        ("has(object.spec.replicas) && quantity('1').isLessThan(quantity('2'))", "bool"),
        ("params.x + 1 == 2 ? 'a' : 'b'", "string"),
        ("sets.contains([1], [2]) || ip('1.2.3.4') in params.list || isURL(params.url)", "bool"),
        ("object.?spec.?replicas.orValue(1) == 1", "bool"),
    ] {
        let ty = check(text, &scope).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(ty.name(), name, "{text}");
    }
    for (text, says) in [
        ("object.spec.replicas > '1'", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("'got ' + object.spec.replicas", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("object.spec.foo", "undefined field 'foo'"),
        ("object.spec.replicas.all(x, true)", "cannot be range of a comprehension"),
        ("nonsense(1)", "undeclared reference to 'nonsense'"),
        ("other.x", "undeclared reference to 'other' (in container '')"),
        ("quantity(1)", "found no matching overload for 'quantity' applied to '(int)'"),
        ("object.metadata.name.isSorted()", "found no matching overload for 'isSorted' applied to 'string.()'"),
    ] {
        let error = check(text, &scope).expect_err(text);
        assert!(error.starts_with("ERROR: <input>:1:") && error.contains(says), "{text}: {error}");
    }
}
