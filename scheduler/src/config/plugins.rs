//! Which plugins a profile runs: the defaults, less what is disabled, plus what is enabled, point by point.

use std::collections::HashMap;
use std::sync::Arc;

use kube::Client;
use serde::de::DeserializeOwned;

use super::Error;
use super::file::{self, PluginSet};
use crate::framework::profile::PointPlugins;
use crate::framework::{Plugin, Point, Profile};
use crate::labels::intern;
use crate::plugins::{self, balanced_allocation, default_binder, fit, node_affinity};

const MULTI_POINT: &str = "multiPoint";
const ALL: &str = "*";

pub fn build(name: &str, index: usize, profile: &file::Profile, client: Option<&Client>) -> Result<Profile, Error> {
    let builder = Builder { index, profile };
    builder.check_fields()?;
    let available = builder.instances(name, client)?;
    let mut points: [PointPlugins; Point::ALL.len()] = Default::default();
    for point in Point::ALL {
        points[point as usize] = builder.at(point, &available)?;
    }
    if points[Point::QueueSort as usize].len() != 1 {
        let problem = "exactly one queue sort plugin must be enabled".to_owned();
        return Err(Error::Invalid { field: format!("profiles[{index}].plugins.queueSort"), problem });
    }
    Ok(Profile::new(intern(name), profile.percentage_of_nodes_to_score.unwrap_or(0), points))
}

type Instances = HashMap<&'static str, Arc<dyn Plugin>>;

struct Builder<'a> {
    index: usize,
    profile: &'a file::Profile,
}

impl Builder<'_> {
    fn field(&self, field: &str) -> String {
        format!("profiles[{}].{field}", self.index)
    }

    fn check_fields(&self) -> Result<(), Error> {
        let known = |field: &str| field == MULTI_POINT || Point::ALL.iter().any(|p| p.field() == field);
        match self.profile.plugins.keys().find(|field| !known(field)) {
            Some(field) => {
                Err(Error::Invalid { field: self.field(&format!("plugins.{field}")), problem: "unknown field".into() })
            }
            None => Ok(()),
        }
    }

    fn set(&self, field: &str) -> PluginSet {
        self.profile.plugins.get(field).cloned().unwrap_or_default()
    }

    /// The plugins of one point in order: those enabled at the point itself where it says so, then those of `multiPoint`,
    /// then the defaults.
    fn at(&self, point: Point, available: &Instances) -> Result<PointPlugins, Error> {
        let (own, multi) = (self.set(point.field()), self.set(MULTI_POINT));
        let mut list: PointPlugins = Vec::new();
        for (name, weight) in self.general(&multi) {
            let listed_here = own.enabled.iter().any(|p| p.name == name);
            if is_disabled(&own, &name) || listed_here {
                continue;
            }
            let plugin = self.instance(MULTI_POINT, &name, available)?;
            if let Some(plugin) = plugin.filter(|p| p.points().contains(point)) {
                list.push((plugin, weight));
            }
        }
        for reference in &own.enabled {
            let Some(plugin) = self.instance(point.field(), &reference.name, available)? else { continue };
            if !plugin.points().contains(point) {
                let field = self.field(&format!("plugins.{}.enabled", point.field()));
                return Err(Error::Invalid {
                    field,
                    problem: format!("{} does not extend {}", plugin.name(), point.field()),
                });
            }
            list.push((plugin, weight(reference)));
        }
        Ok(list)
    }

    /// The plugins that run at all their points: the defaults as far as they are not disabled, with the weights given, and others after them.
    fn general(&self, multi: &PluginSet) -> Vec<(String, i64)> {
        let given = |name: &str| multi.enabled.iter().find(|p| p.name == name);
        let kept = plugins::DEFAULTS.iter().filter(|(name, _)| given(name).is_some() || !is_disabled(multi, name));
        let mut list: Vec<(String, i64)> = kept
            .map(|(name, default)| ((*name).to_owned(), given(name).and_then(|p| p.weight).unwrap_or(*default)))
            .collect();
        for reference in &multi.enabled {
            if !list.iter().any(|(name, _)| *name == reference.name) {
                list.push((reference.name.clone(), weight(reference)));
            }
        }
        list
    }

    /// The plugin of that name; `None` for the binder where there is no client.
    fn instance(&self, field: &str, name: &str, available: &Instances) -> Result<Option<Arc<dyn Plugin>>, Error> {
        if let Some(plugin) = available.get(name) {
            return Ok(Some(plugin.clone()));
        }
        if name == default_binder::NAME {
            return Ok(None);
        }
        let field = self.field(&format!("plugins.{field}.enabled"));
        Err(if plugins::NOT_SUPPORTED.contains(&name) {
            Error::UnsupportedPlugin { field, name: name.to_owned() }
        } else {
            Error::UnknownPlugin { field, name: name.to_owned() }
        })
    }

    fn args<T: DeserializeOwned + Default>(&self, profile: &str, plugin: &str) -> Result<T, Error> {
        let given = self.profile.plugin_config.iter().find(|c| c.name == plugin).map(|c| &c.args);
        match given {
            None | Some(serde_json::Value::Null) => Ok(T::default()),
            Some(args) => serde_json::from_value(args.clone()).map_err(|source| args_error(profile, plugin, source)),
        }
    }

    fn instances(&self, profile: &str, client: Option<&Client>) -> Result<Instances, Error> {
        use crate::plugins::{
            default_preemption, image_locality, inter_pod_affinity, node_name, node_ports, node_unschedulable,
            pod_topology_spread, priority_sort, scheduling_gates, taint_toleration,
        };
        for config in &self.profile.plugin_config {
            let known = plugins::DEFAULTS.iter().any(|(name, _)| *name == config.name);
            if !known && !plugins::NOT_SUPPORTED.contains(&config.name.as_str()) {
                return Err(Error::UnknownPlugin { field: self.field("pluginConfig"), name: config.name.clone() });
            }
        }
        let fit = fit::Fit::new(self.args(profile, fit::NAME)?).map_err(|e| args_error(profile, fit::NAME, e))?;
        let balanced = balanced_allocation::BalancedAllocation::new(&self.args(profile, balanced_allocation::NAME)?)
            .map_err(|e| args_error(profile, balanced_allocation::NAME, e))?;
        let spread = pod_topology_spread::PodTopologySpread::new(&self.args(profile, pod_topology_spread::NAME)?)
            .map_err(|e| args_error(profile, pod_topology_spread::NAME, e))?;
        let affinity = inter_pod_affinity::InterPodAffinity::new(self.args(profile, inter_pod_affinity::NAME)?);
        let mut list: Vec<Arc<dyn Plugin>> = vec![
            Arc::new(priority_sort::PrioritySort),
            Arc::new(scheduling_gates::SchedulingGates),
            Arc::new(node_unschedulable::NodeUnschedulable),
            Arc::new(node_name::NodeName),
            Arc::new(taint_toleration::TaintToleration),
            Arc::new(node_affinity::NodeAffinity::new(&self.args(profile, node_affinity::NAME)?)),
            Arc::new(node_ports::NodePorts),
            Arc::new(fit),
            Arc::new(spread),
            Arc::new(affinity),
            Arc::new(default_preemption::DefaultPreemption::new(self.args(profile, default_preemption::NAME)?)),
            Arc::new(balanced),
            Arc::new(image_locality::ImageLocality),
        ];
        if let Some(client) = client {
            list.push(Arc::new(default_binder::DefaultBinder::new(client.clone())));
        }
        Ok(list.into_iter().map(|plugin| (plugin.name(), plugin)).collect())
    }
}

fn args_error(profile: &str, plugin: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Args { profile: profile.to_owned(), plugin: plugin.to_owned(), source: Box::new(source) }
}

fn is_disabled(set: &PluginSet, name: &str) -> bool {
    set.disabled.iter().any(|p| p.name == name || p.name == ALL)
}

fn weight(reference: &file::PluginRef) -> i64 {
    reference.weight.filter(|w| *w != 0).unwrap_or(1)
}
