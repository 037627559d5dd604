//! From FlowSchema and PriorityLevelConfiguration objects to what requests are held against.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use apiserver_auth::bootstrap;
use http::HeaderValue;
use serde_json::Value;

use super::classify::{Distinguisher, Rules, Subject};
use super::level::Level;
use super::metrics::{self, Metrics};
use super::shares::{self, Bounds};

/// The objects without which requests cannot be told apart; the server imagines them while they are not there.
pub const MANDATORY: [&str; 2] = ["exempt", "catch-all"];
pub const LEVELS: &str = "prioritylevelconfigurations";
pub const SCHEMAS: &str = "flowschemas";

/// A FlowSchema and its level.
pub struct Flow {
    pub name: String,
    pub uid: HeaderValue,
    pub level: Arc<Level>,
    pub level_uid: HeaderValue,
    pub metrics: metrics::Flow,
    pub distinguisher: Option<Distinguisher>,
    precedence: i64,
    rules: Rules,
}

impl Flow {
    fn new(schema: &Value, level: &Arc<Level>, level_object: &Value, metrics: &Metrics) -> Self {
        let name = name(schema);
        Flow {
            name: name.to_owned(),
            uid: uid(schema),
            level: level.clone(),
            level_uid: uid(level_object),
            metrics: metrics.flow(name, &level.name),
            distinguisher: Distinguisher::of(&schema["spec"]),
            precedence: schema["spec"]["matchingPrecedence"].as_i64().unwrap_or(i64::MAX),
            rules: Rules::of(&schema["spec"]),
        }
    }

    /// What tells this request's flow from others of the schema.
    pub fn distinguish<'a>(&self, request: &Subject<'a>) -> &'a str {
        match self.distinguisher {
            Some(Distinguisher::User) => &request.user.name,
            Some(Distinguisher::Namespace) => &request.info.namespace,
            None => "",
        }
    }

    /// Names the request's flow.
    pub fn hash(&self, request: &Subject<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.name, self.distinguish(request)).hash(&mut hasher);
        hasher.finish()
    }
}

/// What requests are held against, by precedence. The last one is for all that no other is for.
pub struct Configuration(Vec<Arc<Flow>>);

impl Configuration {
    /// The flow schema that the request belongs to.
    pub fn classify(&self, request: &Subject<'_>) -> &Arc<Flow> {
        let found = self.0.iter().find(|flow| flow.rules.match_request(request));
        found.or_else(|| self.0.iter().find(|flow| flow.name == "catch-all")).unwrap_or(&self.0[0])
    }

    pub fn flows(&self) -> &[Arc<Flow>] {
        &self.0
    }
}

fn name(object: &Value) -> &str {
    apimachinery::meta::name(object)
}

fn uid(object: &Value) -> HeaderValue {
    let text = object["metadata"]["uid"].as_str().unwrap_or_default();
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn level_name(schema: &Value) -> &str {
    schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default()
}

/// Whether the level's specification can be followed: the kind of the level says which part of it there is.
fn is_well_formed(level: &Value) -> bool {
    let spec = &level["spec"];
    let exempt = spec["type"] == "Exempt";
    exempt == (name(level) == "exempt") && exempt != spec["limited"].is_object() && exempt == spec["exempt"].is_object()
}

/// The objects that there are, and the levels in use.
pub struct Objects {
    imagined: [Vec<Arc<Value>>; 2],
    pub levels: BTreeMap<String, Arc<Value>>,
    pub schemas: BTreeMap<String, Arc<Value>>,
    pub in_use: BTreeMap<String, Arc<Level>>,
    /// The fraction of their targets that levels got last.
    pub fair_fraction: f64,
}

impl Default for Objects {
    fn default() -> Self {
        let imagined = |resource: &str| {
            let all = bootstrap::flow_control();
            let wanted = all.filter(|object| object.resource == resource && MANDATORY.contains(&object.name.as_str()));
            wanted.map(|object| Arc::new(object.value)).collect()
        };
        Objects {
            imagined: [imagined(LEVELS), imagined(SCHEMAS)],
            levels: BTreeMap::new(),
            schemas: BTreeMap::new(),
            in_use: BTreeMap::new(),
            fair_fraction: 0.0,
        }
    }
}

impl Objects {
    fn with_imagined<'a>(
        real: impl Iterator<Item = &'a Arc<Value>>,
        imagined: &'a [Arc<Value>],
    ) -> BTreeMap<&'a str, &'a Arc<Value>> {
        imagined.iter().chain(real).map(|object| (name(object), object)).collect()
    }

    /// Takes the objects as they are into account: brings the levels to what they say, and compiles the schemas.
    pub fn digest(&mut self, server: u32, metrics: &Metrics) -> Configuration {
        let sound = self.levels.values().filter(|level| is_well_formed(level));
        let levels = Self::with_imagined(sound, &self.imagined[0]);
        let mut new = Vec::new();
        let mut in_use = BTreeMap::new();
        for (name, object) in &levels {
            let level = self.in_use.remove(*name).unwrap_or_else(|| {
                new.push((*name).to_owned());
                Arc::new(Level::new(name))
            });
            level.configure(&object["spec"]);
            level.quiescing.store(false, Ordering::Relaxed);
            in_use.insert((*name).to_owned(), level);
        }
        let usable = self.schemas.values().filter(|schema| levels.contains_key(level_name(schema)));
        let schemas = Self::with_imagined(usable, &self.imagined[1]);
        let compile = |schema: &&Arc<Value>| {
            let name = level_name(schema);
            Some(Arc::new(Flow::new(schema, in_use.get(name)?, levels.get(name)?, metrics)))
        };
        let mut flows: Vec<Arc<Flow>> = schemas.values().filter_map(compile).collect();
        flows.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        // Levels without an object keep their shares until their requests have left.
        for (name, level) in std::mem::take(&mut self.in_use) {
            if !level.is_idle() {
                level.quiescing.store(true, Ordering::Relaxed);
                in_use.insert(name, level);
            }
        }
        self.in_use = in_use;
        self.share(server, &new);
        self.adjust();
        Configuration(flows)
    }

    /// Divides the server's seats by nominal shares.
    fn share(&self, server: u32, new: &[String]) {
        let sum: f64 = self.in_use.values().map(|level| level.seats().terms.shares).sum();
        for (name, level) in &self.in_use {
            level.set_bounds(Bounds::of(level.seats().terms, server, sum), new.contains(name));
        }
    }

    /// Divides the server's seats by what levels wanted in the period that ends. Levels that are exempt keep what is their own; the
    /// others share the rest.
    pub fn adjust(&mut self) {
        let mut sum: f64 = self.in_use.values().map(|level| f64::from(level.seats().bounds.nominal)).sum();
        let (mut levels, mut items) = (Vec::new(), Vec::new());
        for level in self.in_use.values() {
            let item = level.end_period();
            if level.is_exempt() {
                level.set_current(item.lower.round() as u32);
                sum -= item.lower;
            } else {
                levels.push(level);
                items.push(item);
            }
        }
        let least: f64 = items.iter().map(|item| item.lower).sum();
        match shares::divide(sum.max(least), &items) {
            Some((fraction, parts)) => {
                levels.iter().zip(parts).for_each(|(level, part)| level.set_current(part.round() as u32));
                self.fair_fraction = fraction;
            }
            None => {
                tracing::warn!(sum, ?items, "seats cannot be divided as levels demand");
                levels.iter().for_each(|level| level.set_current(level.seats().current));
            }
        }
    }

    /// Whether a level is left whose object is gone, and whose requests are too.
    pub fn has_remains(&self) -> bool {
        self.in_use.values().any(|level| level.quiescing.load(Ordering::Relaxed) && level.is_idle())
    }

    /// Whether a FlowSchema's level is there.
    pub fn has_level_of(&self, schema: &Value) -> bool {
        let name = level_name(schema);
        self.levels.get(name).is_some_and(|level| is_well_formed(level))
    }
}

#[cfg(test)]
mod tests {
    use apiserver_auth::UserInfo;
    use component_base::metrics::Registry;
    use serde_json::json;

    use super::*;
    use crate::request::RequestInfo;

    fn level(name: &str, shares: u32) -> (String, Arc<Value>) {
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"}});
        let value = json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}});
        (name.to_owned(), Arc::new(value))
    }

    fn schema(name: &str, level: &str, precedence: u32) -> (String, Arc<Value>) {
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
        let value = json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": level}, "rules": [rule]}});
        (name.to_owned(), Arc::new(value))
    }

    fn classified(configuration: &Configuration, groups: &[&str]) -> (String, String) {
        let groups = groups.iter().map(ToString::to_string).collect();
        let user = UserInfo { name: "u".into(), groups, ..UserInfo::default() };
        let info = RequestInfo { verb: "get", ..RequestInfo::default() };
        let flow = configuration.classify(&Subject { user: &user, info: &info, path: "/version" });
        (flow.name.clone(), flow.level.name.clone())
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn without_objects_there_are_the_mandatory_ones() {
        let mut objects = Objects::default();
        let configuration = objects.digest(600, &Metrics::new(&Registry::new()));
        assert_eq!(classified(&configuration, &["system:masters"]), pair("exempt", "exempt"));
        assert_eq!(classified(&configuration, &["system:authenticated"]), pair("catch-all", "catch-all"));
        // Nobody is in none of the groups that catch-all names; it is for them all the same.
        assert_eq!(classified(&configuration, &[]), pair("catch-all", "catch-all"));
        assert_eq!(objects.in_use["catch-all"].seats().current, 600);
    }

    #[test]
    fn the_schema_of_the_least_precedence_decides_of_those_that_have_a_level() {
        let mut objects = Objects::default();
        objects.levels.extend([level("a", 30), level("b", 65)]);
        objects.schemas.extend([schema("second", "a", 20), schema("also", "b", 20), schema("dangling", "c", 10)]);
        let metrics = Metrics::new(&Registry::new());
        let configuration = objects.digest(600, &metrics);
        assert_eq!(classified(&configuration, &["system:masters"]), pair("exempt", "exempt"));
        assert_eq!(classified(&configuration, &[]), pair("also", "b"));
        assert_eq!(["a", "b", "catch-all"].map(|name| objects.in_use[name].seats().current), [180, 390, 30]);
        let dangling = objects.schemas["dangling"].clone();
        assert!(!objects.has_level_of(&dangling));
        objects.levels.extend([level("c", 0)]);
        assert!(objects.has_level_of(&dangling));
        assert_eq!(classified(&objects.digest(600, &metrics), &[]), pair("dangling", "c"));
    }

    #[test]
    fn a_level_whose_object_is_gone_ends_with_its_last_request() {
        use super::super::fair_queue::Work;
        use super::super::level::Detail;
        let mut objects = Objects::default();
        objects.levels.extend([level("a", 30)]);
        objects.schemas.extend([schema("s", "a", 20)]);
        let metrics = Metrics::new(&Registry::new());
        let configuration = objects.digest(600, &metrics);
        let flow = configuration.flows().iter().find(|flow| flow.name == "s").expect("compiled").clone();
        let detail = Detail { flow: flow.clone(), user: Arc::default(), info: Arc::default(), path: None };
        let entering = flow.level.enter(0, Work::seats(1), detail, Default::default);
        let ticket = futures::executor::block_on(entering).map_err(|reason| reason.as_str()).expect("there are seats");
        objects.levels.clear();
        objects.digest(600, &metrics);
        assert!(objects.in_use["a"].quiescing.load(Ordering::Relaxed) && !objects.has_remains());
        assert!(objects.in_use["a"].seats().current > 0);
        drop(ticket);
        assert!(objects.has_remains());
        objects.digest(600, &metrics);
        assert!(!objects.in_use.contains_key("a"));
    }
}
