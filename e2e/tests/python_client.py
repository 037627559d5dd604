"""What a script of a user does with the Python client: create, watch, patch, exec, delete."""

from kubernetes import client, config, watch
from kubernetes.stream import stream

config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()

assert client.VersionApi().get_code().minor == "36"
assert {node.metadata.name for node in core.list_node().items} == {"node-1", "node-2"}

namespace = "foreign"
core.create_namespaced_config_map(namespace, {"metadata": {"name": "from-python"}, "data": {"key": "value"}})
core.patch_namespaced_config_map("from-python", namespace, {"data": {"more": "fields"}})
found = core.read_namespaced_config_map("from-python", namespace)
assert found.data == {"key": "value", "more": "fields"}, found.data

pods = core.list_namespaced_pod(namespace, label_selector="app=web")
name = pods.items[0].metadata.name
said = stream(core.connect_get_namespaced_pod_exec, name, namespace, command=["hostname"],
              stdout=True, stderr=True, stdin=False, tty=False)
assert said.strip() == name, said
assert "serving on" in core.read_namespaced_pod_log(name, namespace)

apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 2}})
for event in watch.Watch().stream(apps.list_namespaced_deployment, namespace, timeout_seconds=60):
    status = event["object"].status
    if status.replicas == 2 and status.available_replicas == 2:
        break
else:
    raise SystemExit("the deployment was not scaled")

core.delete_namespaced_config_map("from-python", namespace)
try:
    core.read_namespaced_config_map("from-python", namespace)
    raise SystemExit("the deleted ConfigMap is still there")
except client.ApiException as error:
    assert error.status == 404 and "not found" in error.body

print("all good")
