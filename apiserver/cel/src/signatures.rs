//! What functions take and give, as the checker of types knows it: one line each, `target.name(arguments) -> result`.
//!
//! The functions themselves are declared by the libraries; the tests hold that each of theirs stands here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The operators, the standard library, and Kubernetes' libraries. `dyn` is any type.
const TABLE: &str = "
_+_(int, int) -> int
_+_(uint, uint) -> uint
_+_(double, double) -> double
_+_(string, string) -> string
_+_(bytes, bytes) -> bytes
_+_(list, list) -> list
_+_(timestamp, duration) -> timestamp
_+_(duration, timestamp) -> timestamp
_+_(duration, duration) -> duration
_-_(int, int) -> int
_-_(uint, uint) -> uint
_-_(double, double) -> double
_-_(timestamp, timestamp) -> duration
_-_(timestamp, duration) -> timestamp
_-_(duration, duration) -> duration
_*_(int, int) -> int
_*_(uint, uint) -> uint
_*_(double, double) -> double
_/_(int, int) -> int
_/_(uint, uint) -> uint
_/_(double, double) -> double
_%_(int, int) -> int
_%_(uint, uint) -> uint
-_(int) -> int
-_(double) -> double
!_(bool) -> bool
_&&_(bool, bool) -> bool
_||_(bool, bool) -> bool
@not_strictly_false(bool) -> bool
@in(dyn, list) -> bool
@in(dyn, map) -> bool
@pairs(list) -> list
@pairs(map) -> list
@insert(map, dyn, dyn) -> map
@merge(map, map) -> map
list.@sortByAssociatedKeys(list) -> list
size(string) -> int
size(bytes) -> int
size(list) -> int
size(map) -> int
string.size() -> int
bytes.size() -> int
list.size() -> int
map.size() -> int
type(dyn) -> type
dyn(dyn) -> dyn
bool(bool) -> bool
bool(string) -> bool
int(int) -> int
int(uint) -> int
int(double) -> int
int(string) -> int
int(timestamp) -> int
uint(uint) -> uint
uint(int) -> uint
uint(double) -> uint
uint(string) -> uint
double(double) -> double
double(int) -> double
double(uint) -> double
double(string) -> double
bytes(bytes) -> bytes
bytes(string) -> bytes
string(string) -> string
string(bool) -> string
string(int) -> string
string(uint) -> string
string(double) -> string
string(bytes) -> string
string(duration) -> string
string(timestamp) -> string
string(ip) -> string
string(cidr) -> string
duration(duration) -> duration
duration(string) -> duration
timestamp(timestamp) -> timestamp
timestamp(string) -> timestamp
timestamp(int) -> timestamp
timestamp.getFullYear() -> int
timestamp.getFullYear(string) -> int
timestamp.getMonth() -> int
timestamp.getMonth(string) -> int
timestamp.getDate() -> int
timestamp.getDate(string) -> int
timestamp.getDayOfMonth() -> int
timestamp.getDayOfMonth(string) -> int
timestamp.getDayOfWeek() -> int
timestamp.getDayOfWeek(string) -> int
timestamp.getDayOfYear() -> int
timestamp.getDayOfYear(string) -> int
timestamp.getHours() -> int
timestamp.getHours(string) -> int
timestamp.getMinutes() -> int
timestamp.getMinutes(string) -> int
timestamp.getSeconds() -> int
timestamp.getSeconds(string) -> int
timestamp.getMilliseconds() -> int
timestamp.getMilliseconds(string) -> int
duration.getHours() -> int
duration.getMinutes() -> int
duration.getSeconds() -> int
duration.getMilliseconds() -> int
string.contains(string) -> bool
string.startsWith(string) -> bool
string.endsWith(string) -> bool
string.matches(string) -> bool
matches(string, string) -> bool
string.charAt(int) -> string
string.indexOf(string) -> int
string.indexOf(string, int) -> int
string.lastIndexOf(string) -> int
string.lastIndexOf(string, int) -> int
list.join() -> string
list.join(string) -> string
string.lowerAscii() -> string
string.upperAscii() -> string
string.trim() -> string
string.replace(string, string) -> string
string.replace(string, string, int) -> string
string.split(string) -> list
string.split(string, int) -> list
string.substring(int) -> string
string.substring(int, int) -> string
string.format(list) -> string
string.reverse() -> string
strings.quote(string) -> string
string.find(string) -> string
string.findAll(string) -> list
string.findAll(string, int) -> list
list.slice(int, int) -> list
list.flatten() -> list
list.flatten(int) -> list
list.distinct() -> list
list.reverse() -> list
list.sort() -> list
lists.range(int) -> list
list.isSorted() -> bool
list.sum() -> dyn
list.min() -> dyn
list.max() -> dyn
list.indexOf(dyn) -> int
list.lastIndexOf(dyn) -> int
sets.contains(list, list) -> bool
sets.equivalent(list, list) -> bool
sets.intersects(list, list) -> bool
optional.of(dyn) -> optional
optional.ofNonZeroValue(dyn) -> optional
optional.none() -> optional
optional.hasValue() -> bool
optional.value() -> dyn
optional.or(optional) -> optional
optional.orValue(dyn) -> dyn
optional.unwrap(list) -> list
list.unwrapOpt() -> list
quantity(string) -> quantity
isQuantity(string) -> bool
quantity.sign() -> int
quantity.isInteger() -> bool
quantity.asInteger() -> int
quantity.asApproximateFloat() -> double
quantity.add(quantity) -> quantity
quantity.add(int) -> quantity
quantity.sub(quantity) -> quantity
quantity.sub(int) -> quantity
quantity.isGreaterThan(quantity) -> bool
quantity.isLessThan(quantity) -> bool
quantity.compareTo(quantity) -> int
ip(string) -> ip
isIP(string) -> bool
ip.isCanonical(string) -> bool
ip.family() -> int
ip.isUnspecified() -> bool
ip.isLoopback() -> bool
ip.isLinkLocalMulticast() -> bool
ip.isLinkLocalUnicast() -> bool
ip.isGlobalUnicast() -> bool
cidr(string) -> cidr
isCIDR(string) -> bool
cidr.containsIP(ip) -> bool
cidr.containsIP(string) -> bool
cidr.containsCIDR(cidr) -> bool
cidr.containsCIDR(string) -> bool
cidr.ip() -> ip
cidr.masked() -> cidr
cidr.prefixLength() -> int
url(string) -> url
isURL(string) -> bool
url.getScheme() -> string
url.getHost() -> string
url.getHostname() -> string
url.getPort() -> string
url.getEscapedPath() -> string
url.getQuery() -> map
semver(string) -> semver
semver(string, bool) -> semver
isSemver(string) -> bool
isSemver(string, bool) -> bool
semver.major() -> int
semver.minor() -> int
semver.patch() -> int
semver.isGreaterThan(semver) -> bool
semver.isLessThan(semver) -> bool
semver.compareTo(semver) -> int
format.named(string) -> optional
format.dns1123Label() -> format
format.dns1123Subdomain() -> format
format.dns1035Label() -> format
format.qualifiedName() -> format
format.dns1123LabelPrefix() -> format
format.dns1123SubdomainPrefix() -> format
format.dns1035LabelPrefix() -> format
format.labelValue() -> format
format.uri() -> format
format.uuid() -> format
format.byte() -> format
format.date() -> format
format.datetime() -> format
format.validate(string) -> optional
authorizer.path(string) -> pathcheck
authorizer.group(string) -> groupcheck
authorizer.serviceAccount(string, string) -> authorizer
groupcheck.resource(string) -> resourcecheck
resourcecheck.subresource(string) -> resourcecheck
resourcecheck.namespace(string) -> resourcecheck
resourcecheck.name(string) -> resourcecheck
resourcecheck.fieldSelector(string) -> resourcecheck
resourcecheck.labelSelector(string) -> resourcecheck
resourcecheck.check(string) -> decision
pathcheck.check(string) -> decision
decision.allowed() -> bool
decision.reason() -> string
decision.errored() -> bool
decision.error() -> string
jsonpatch.escapeKey(string) -> string
";

/// One way to call a function.
pub(crate) struct Signature {
    /// The name of a type, or of the library of a function that is called after it.
    pub target: Option<&'static str>,
    pub arguments: Vec<&'static str>,
    pub result: &'static str,
}

static SIGNATURES: LazyLock<BTreeMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
    let mut all: BTreeMap<&str, Vec<Signature>> = BTreeMap::new();
    for (name, signature) in TABLE.lines().filter_map(read) {
        all.entry(name).or_default().push(signature);
    }
    all
});

fn read(line: &'static str) -> Option<(&'static str, Signature)> {
    let (call, result) = line.split_once(" -> ")?;
    let (name, arguments) = call.strip_suffix(')')?.split_once('(')?;
    let operator = name.starts_with(['_', '-', '!']);
    let (target, name) = match name.split_once('.').filter(|_| !operator) {
        Some((target, name)) => (Some(target), name),
        None => (None, name),
    };
    let arguments = arguments.split(", ").filter(|argument| !argument.is_empty()).collect();
    Some((name, Signature { target, arguments, result }))
}

/// The ways to call a function.
pub(crate) fn of(function: &str) -> &'static [Signature] {
    SIGNATURES.get(function).map_or(&[], Vec::as_slice)
}
