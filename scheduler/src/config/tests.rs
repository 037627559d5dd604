use super::*;
use crate::framework::Point;

fn read(body: &str) -> Result<Configuration, Error> {
    Configuration::from_yaml(&format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{body}"), "test.yaml")
}

fn names(profiles: &Profiles, scheduler: &str, point: Point) -> Vec<(&'static str, i64)> {
    profiles[scheduler].at(point).iter().map(|e| (e.plugin.name(), e.weight)).collect()
}

#[test]
fn the_default_profile_has_kubernetes_plugins_and_weights() {
    let profiles = Configuration::default().profiles(None).unwrap();
    assert_eq!(
        names(&profiles, "default-scheduler", Point::Score),
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("NodeResourcesBalancedAllocation", 1),
            ("ImageLocality", 1)
        ]
    );
    assert_eq!(names(&profiles, "default-scheduler", Point::QueueSort).len(), 1);
}

#[test]
fn plugins_are_disabled_enabled_and_weighted_by_point() {
    let config = read(
        "profiles:
- schedulerName: packing
  plugins:
    multiPoint:
      disabled: [{name: ImageLocality}]
      enabled: [{name: TaintToleration, weight: 7}]
    score:
      disabled: [{name: NodeAffinity}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: {type: MostAllocated}
- schedulerName: plain
  plugins:
    score:
      disabled: [{name: '*'}]
",
    )
    .unwrap();
    let profiles = config.profiles(None).unwrap();
    assert_eq!(
        names(&profiles, "packing", Point::Score),
        [
            ("TaintToleration", 7),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("NodeResourcesBalancedAllocation", 1),
            ("NodeResourcesFit", 5)
        ]
    );
    assert!(names(&profiles, "packing", Point::Filter).iter().any(|(name, _)| *name == "NodeAffinity"));
    assert!(names(&profiles, "plain", Point::Score).is_empty());
}

#[test]
fn mistakes_are_refused_with_the_field() {
    for (body, expected) in [
        ("parallelismm: 1", "not a valid"),
        ("podInitialBackoffSeconds: 0", "podInitialBackoffSeconds"),
        ("podMaxBackoffSeconds: 1\npodInitialBackoffSeconds: 2", "podMaxBackoffSeconds"),
        ("percentageOfNodesToScore: 101", "percentageOfNodesToScore"),
        ("extenders: [{urlPrefix: x}]", "extenders"),
        ("profiles: [{plugins: {filters: {}}}]", "profiles[0].plugins.filters"),
        ("profiles: [{plugins: {filter: {enabled: [{name: Nope}]}}}]", "\"Nope\" does not exist"),
        ("profiles: [{plugins: {filter: {enabled: [{name: VolumeZone}]}}}]", "not supported yet"),
        ("profiles: [{plugins: {filter: {enabled: [{name: ImageLocality}]}}}]", "does not extend filter"),
        ("profiles: [{plugins: {queueSort: {disabled: [{name: '*'}]}}}]", "queueSort"),
        ("profiles: [{schedulerName: a}, {schedulerName: a}]", "Duplicate value"),
        ("profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {x: 1}}]}]", "pluginConfig of NodeResourcesFit"),
    ] {
        let error = match read(body).and_then(|c| c.profiles(None)) {
            Ok(_) => panic!("{body} is accepted"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{body}: {error}");
    }
}

#[test]
fn another_kind_of_file_is_refused() {
    let error = Configuration::from_yaml("apiVersion: v1\nkind: Pod\n", "x.yaml").unwrap_err();
    assert!(matches!(error, Error::Kind { .. }), "{error}");
}
