//! The files that command lines name.

/// Names and contents; `NAMESPACE` is that of the kubectl.
pub const FILES: &[(&str, &str)] = &[
    (
        "web.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: site, labels: {app: site}}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: site}}\n  template:\n    metadata: {labels: {app: site}}\n    spec: {containers: [{name: c, image: 'i:1'}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: \"1\", b: \"<2>\"}\n",
    ),
    (
        "web2.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: site, labels: {app: site, more: x}}\nspec:\n  replicas: 3\n  selector: {matchLabels: {app: site}}\n  template:\n    metadata: {labels: {app: site}}\n    spec: {containers: [{name: c, image: 'i:2'}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: \"3\"}\n",
    ),
    (
        "sides.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: sides, labels: {app: sides, old: x}}\nspec:\n  selector: {matchLabels: {app: sides}}\n  template:\n    metadata: {labels: {app: sides}}\n    spec:\n      containers:\n      - {name: a, image: 'i:1', env: [{name: A, value: \"1\"}, {name: B, value: \"2\"}], ports: [{containerPort: 80}]}\n      - {name: b, image: 'i:1', args: [x, y]}\n",
    ),
    (
        "sides2.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: sides, labels: {app: sides, new: z}}\nspec:\n  selector: {matchLabels: {app: sides}}\n  template:\n    metadata: {labels: {app: sides}}\n    spec:\n      containers:\n      - {name: a, image: 'i:2', env: [{name: B, value: \"3\"}], ports: [{containerPort: 81}]}\n      - {name: c, image: 'i:1', args: [z]}\n",
    ),
    (
        "pods.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p1, labels: {a: b}}\nspec: {containers: [{name: c, image: i}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p2, labels: {a: b}}\nspec: {containers: [{name: c, image: i}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: p}\nspec: {selector: {a: b}, ports: [{port: 80}]}\n",
    ),
    ("empty.yaml", "# nothing\n"),
    ("columns.txt", "NAME IMAGE\n.metadata.name .spec.containers[0].image\n"),
    ("path.txt", "{range .items[*]}{.metadata.name}: {.status.phase}{\"\\n\"}{end}"),
    ("kind.yaml", "apiVersion: v1\nkind: Foo\nmetadata: {name: x}\n"),
    ("nokind.yaml", "apiVersion: v1\nmetadata: {name: x}\n"),
    ("noversion.yaml", "kind: ConfigMap\nmetadata: {name: x}\n"),
    ("elsewhere.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: elsewhere}\n"),
    ("unknown.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: unknown}\ndatum: {a: b}\n"),
    ("twice.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\ndata: {a: b, a: c}\n"),
    (
        "wrong.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: Wrong_Name}\nspec: {containers: [{name: c}], restartPolicy: Sometimes}\n",
    ),
    ("generated.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: gen-}\n"),
    (
        "list.json",
        r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "l1"}}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "l2"}}]}"#,
    ),
    ("immutable.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: b}\n"),
    ("immutable2.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: c}\n"),
    (
        "text.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: text}\ndata:\n  long: word word word word word word word word word word word word word word word word word word word word word word\n  colon: 'a: word word word word word word word word word word word word word word word word word word word word'\n  lines: \"one\\ntwo\\n\"\n  open: \"one\\ntwo\"\n  space: \" x\"\n  \"yes\": \"yes\"\n  number: \"12\"\n  time: \"2026-01-02\"\n  html: <a>&b\n  unicode: \"é ☃ 😀\"\n  bell: \"\\x07\"\n  quotes: \"it's \\\"x\\\"\"\n",
    ),
    (
        "crd.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: NAMESPACE-things.NAMESPACE.example.com}\nspec:\n  group: NAMESPACE.example.com\n  scope: Namespaced\n  names: {plural: NAMESPACE-things, singular: NAMESPACE-thing, kind: NAMESPACE-Thing, shortNames: [NAMESPACE-th]}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}, colorName: {type: string}, nestedItems: {type: array, items: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}}\n",
    ),
    (
        "thing.yaml",
        "apiVersion: NAMESPACE.example.com/v1\nkind: NAMESPACE-Thing\nmetadata: {name: big, labels: {a: b}}\nspec: {size: 3, colorName: red, nestedItems: [{apiURL: x}, {uid: y, deepList: [1, two]}]}\n",
    ),
    (
        "thing2.yaml",
        "apiVersion: NAMESPACE.example.com/v1\nkind: NAMESPACE-Thing\nmetadata: {name: big, labels: {a: c}}\nspec: {size: 4}\n",
    ),
];
