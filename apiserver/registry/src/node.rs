//! A cursor over an object under validation: a value, the path it stands at, and the list its failures go to.
//!
//! Paths are kept as links in one arena and printed only when something is wrong, so that a valid object costs no strings.

use std::cell::RefCell;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

static NULL: Value = Value::Null;

/// One step of a path, below its parent's.
struct Step {
    parent: u32,
    segment: Segment,
}

enum Segment {
    Root,
    Field(&'static str),
    Index(usize),
    Key(Box<str>),
    Name(Box<str>),
}

/// What one validation shares: the paths in use and the failures found.
pub struct Context {
    steps: RefCell<Vec<Step>>,
    errors: RefCell<ErrorList>,
    warnings: RefCell<Vec<String>>,
}

impl Default for Context {
    fn default() -> Self {
        let mut steps = Vec::with_capacity(128);
        steps.push(Step { parent: 0, segment: Segment::Root });
        Context { steps: RefCell::new(steps), errors: RefCell::default(), warnings: RefCell::default() }
    }
}

impl Context {
    /// The object itself.
    pub fn root<'a>(&'a self, value: &'a Value) -> Node<'a> {
        Node { context: self, id: 0, value }
    }

    /// How many failures were found so far.
    pub fn count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// What was warned of.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }

    /// The failures found.
    pub fn into_errors(self) -> ErrorList {
        self.errors.into_inner()
    }
}

/// Runs rules over an object and returns what they found.
pub fn collect(object: &Value, rules: impl FnOnce(Node<'_>)) -> ErrorList {
    let context = Context::default();
    rules(context.root(object));
    context.into_errors()
}

/// A place in an object. An absent field is a node whose value is null, so rules can walk without asking.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    context: &'a Context,
    id: u32,
    pub value: &'a Value,
}

impl<'a> Node<'a> {
    fn step(self, segment: Segment, value: &'a Value) -> Node<'a> {
        let mut steps = self.context.steps.borrow_mut();
        let id = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        steps.push(Step { parent: self.id, segment });
        Node { context: self.context, id, value }
    }

    /// A field of this object.
    pub fn get(self, field: &'static str) -> Node<'a> {
        self.step(Segment::Field(field), self.value.get(field).unwrap_or(&NULL))
    }

    /// The entry of this map, at `path.key` (Kubernetes reports some maps so).
    pub fn child(self, key: &str) -> Node<'a> {
        self.step(Segment::Name(key.into()), self.value.get(key).unwrap_or(&NULL))
    }

    /// The entry of this map, at `path[key]`.
    pub fn entry(self, key: &str) -> Node<'a> {
        self.step(Segment::Key(key.into()), self.value.get(key).unwrap_or(&NULL))
    }

    /// The item of this list, at `path[index]`.
    pub fn index(self, index: usize) -> Node<'a> {
        self.step(Segment::Index(index), self.value.get(index).unwrap_or(&NULL))
    }

    /// The same path with another value.
    pub fn with(self, value: &'a Value) -> Node<'a> {
        Node { value, ..self }
    }

    /// The path `self.field`, with this node's own value (Kubernetes reports some failures at a name that is no field).
    pub fn named(self, field: &'static str) -> Node<'a> {
        self.step(Segment::Field(field), self.value)
    }

    /// The items of a list.
    pub fn items(self) -> impl Iterator<Item = Node<'a>> + Clone {
        let list: &'a [Value] = self.value.as_array().map_or(&[], Vec::as_slice);
        list.iter().enumerate().map(move |(i, v)| self.step(Segment::Index(i), v))
    }

    /// The entries of a map, each at `path[key]`.
    pub fn entries(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let map = self.value.as_object();
        map.into_iter().flatten().map(move |(k, v)| (k.as_str(), self.step(Segment::Key(k.as_str().into()), v)))
    }

    /// Whether the field is there (null counts as absent, as in Kubernetes).
    pub fn is_set(self) -> bool {
        !self.value.is_null()
    }

    /// Absent, or of no length.
    pub fn is_empty(self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        }
    }

    /// The number of items or entries.
    pub fn len(self) -> usize {
        match self.value {
            Value::Array(a) => a.len(),
            Value::Object(o) => o.len(),
            Value::String(s) => s.len(),
            _ => 0,
        }
    }

    pub fn str(self) -> &'a str {
        self.value.as_str().unwrap_or("")
    }

    pub fn int(self) -> i64 {
        self.value.as_i64().unwrap_or(0)
    }

    pub fn opt_int(self) -> Option<i64> {
        self.value.as_i64()
    }

    pub fn bool(self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    /// How many failures were found so far in the whole object.
    pub fn errors_so_far(self) -> usize {
        self.context.count()
    }

    /// Warns of this place.
    pub fn warn(self, text: impl std::fmt::Display) {
        self.remark(format!("{}: {text}", self.path()));
    }

    /// Warns of the object.
    pub fn remark(self, text: impl Into<String>) {
        self.context.warnings.borrow_mut().push(text.into());
    }

    /// The printed path.
    pub fn path(self) -> Path {
        let steps = self.context.steps.borrow();
        let mut chain = Vec::new();
        let mut id = self.id;
        while id != 0 {
            chain.push(&steps[id as usize].segment);
            id = steps[id as usize].parent;
        }
        chain.iter().rev().fold(Path::root(), |path, segment| match segment {
            Segment::Root => path,
            Segment::Field(name) => path.child(name),
            Segment::Index(i) => path.index(*i),
            Segment::Key(key) => path.key(key),
            Segment::Name(name) => path.child(name),
        })
    }

    fn report(self, error: Error) {
        self.context.errors.borrow_mut().push(error);
    }

    /// Takes over failures found elsewhere, whose paths are complete.
    pub fn absorb(self, errors: ErrorList) {
        self.context.errors.borrow_mut().extend(errors);
    }

    pub fn required(self, detail: &str) {
        self.report(Error::required(&self.path(), detail));
    }

    pub fn invalid(self, detail: impl Into<String>) {
        self.report(Error::invalid(&self.path(), self.value.clone(), detail));
    }

    /// Invalid, showing another value than the one that stands there.
    pub fn invalid_value(self, value: impl Into<Value>, detail: impl Into<String>) {
        self.report(Error::invalid(&self.path(), value, detail));
    }

    pub fn duplicate(self) {
        self.report(Error::duplicate(&self.path(), self.value.clone()));
    }

    pub fn not_found(self) {
        self.report(Error::not_found(&self.path(), self.value.clone()));
    }

    pub fn not_supported(self, supported: &[&str]) {
        self.report(Error::not_supported(&self.path(), self.value.clone(), supported));
    }

    /// Not supported, showing another value than the one that stands there.
    pub fn not_supported_value(self, value: impl Into<Value>, supported: &[&str]) {
        self.report(Error::not_supported(&self.path(), value, supported));
    }

    pub fn forbidden(self, detail: &str) {
        self.report(Error::forbidden(&self.path(), detail));
    }

    pub fn too_long(self, max: usize) {
        self.report(Error::too_long(&self.path(), max));
    }

    pub fn too_many(self, max: usize) {
        self.report(Error::too_many(&self.path(), self.len(), max));
    }

    /// Required, unless something is there. Tells whether it is.
    pub fn need(self) -> bool {
        let there = !self.is_empty();
        if !there {
            self.required("");
        }
        there
    }

    /// One failure per message of a rule over strings.
    pub fn check(self, rule: fn(&str) -> Vec<String>) {
        for message in rule(self.str()) {
            self.invalid(message);
        }
    }

    /// As [`check`](Self::check), where an empty string is allowed.
    pub fn check_if_set(self, rule: fn(&str) -> Vec<String>) {
        if !self.is_empty() {
            self.check(rule);
        }
    }

    /// Required when empty, and held to a rule otherwise.
    pub fn need_check(self, rule: fn(&str) -> Vec<String>) {
        if self.need() {
            self.check(rule);
        }
    }

    /// One of the given words; an empty one is not.
    pub fn one_of(self, words: &[&str]) {
        if !words.contains(&self.str()) {
            self.not_supported(words);
        }
    }

    /// One of the given words, where the field is there.
    pub fn one_of_if_set(self, words: &[&str]) {
        if self.is_set() {
            self.one_of(words);
        }
    }

    /// Required when empty, and one of the given words otherwise.
    pub fn need_one_of(self, words: &[&str]) {
        if self.need() {
            self.one_of(words);
        }
    }

    /// At least zero, where it is there.
    pub fn non_negative(self) {
        if self.int() < 0 {
            self.invalid("must be greater than or equal to 0");
        }
    }

    /// More than zero, where it is there.
    pub fn positive_if_set(self) {
        if self.opt_int().is_some_and(|n| n <= 0) {
            self.invalid("must be greater than zero");
        }
    }

    /// Within bounds, both included, where it is there.
    pub fn within(self, low: i64, high: i64) {
        if self.opt_int().is_some_and(|n| n < low || n > high) {
            self.invalid(format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// At most so many items.
    pub fn at_most(self, max: usize) {
        if self.len() > max {
            self.too_many(max);
        }
    }

    /// Reports every item that was there before it.
    pub fn unique(self) {
        let items: Vec<Node<'a>> = self.items().collect();
        for (i, item) in items.iter().enumerate() {
            if items[..i].iter().any(|other| other.value == item.value) {
                item.duplicate();
            }
        }
    }

    /// The value may not differ from what it was.
    pub fn immutable(self, old: &Value) {
        if self.value != old && !(self.is_empty() && empty(old)) {
            self.invalid("field is immutable");
        }
    }
}

/// Whether two fields say the same, where an empty one and an absent one do.
fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}
