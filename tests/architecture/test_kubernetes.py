"""deploy/kubernetes is right in itself, and agrees with the code: no cluster is needed to know that."""

from __future__ import annotations

import base64
import functools
import ipaddress
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from deploy.envoy import descriptors
from deploy.envoy.render import EnvoyConfig, write_configuration
from deploy.local.binaries import ENVOY
from deploy.local.pki import issue
from deploy.postgres.bootstrap import LOGINS
from deploy.prometheus.kubernetes import prometheus_rule
from libs.provider_catalog import load_catalog
from libs.settings import SettingsError, from_env, variables
from services.auth.validation import check_new_account
from tests.architecture.arrows import SERVICES, WORKERS, drawn, settings_of
from tests.support.compose import read_compose
from tests.support.kubernetes import (
    FOLDER,
    NAMESPACE,
    ROOT,
    Object,
    Overlay,
    containers,
    environment,
    mounted,
    render,
)
from tests.support.network_policies import Peer, matches_labels

OVERLAYS = ("local", "production")
GUIDE = (ROOT / "docs/kubernetes.md").read_text()
# The oldest release the manifests are for, and the newest there are schemas of.
RELEASES = ("1.30", kubernetes_validate.latest_version())
DEPLOYED = SERVICES | {"envoy"}
WITH_TABLES = ("auth", "key-vault", "analytics")
# Addresses of networks that are not the world's: others' pods, the metadata of a cloud.
PRIVATE = ("10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1", "fd00::1", "fe80::1")
GRPC, HEALTH, METRICS, HTTPS = 5100, 5101, 9100, 8443
# What people who write their own manifests get wrong, and what a schema of Kubernetes itself cannot know.
CUSTOM = {
    "Certificate": "cert-manager.io/v1",
    "Issuer": "cert-manager.io/v1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ExternalSecret": "external-secrets.io/v1",
    "SecretStore": "external-secrets.io/v1",
}
# The server that a cluster's tokens are shown to, to ask that cluster about them.
REVIEWS_TOKENS = {("local", "vault")}

everywhere = pytest.mark.parametrize("overlay", [*map(Overlay, OVERLAYS)], ids=OVERLAYS)
each_service = pytest.mark.parametrize("service", sorted(SERVICES))
each_deployed = pytest.mark.parametrize("name", sorted(DEPLOYED))


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """Keeps what kubernetes-validate reads for each object anew: some megabytes."""
    with pytest.MonkeyPatch.context() as patch:
        read = kubernetes_validate.utils.schema_contents
        patch.setattr(kubernetes_validate.utils, "schema_contents", functools.cache(read))
        yield


class TestForm:
    @everywhere
    @pytest.mark.parametrize("release", RELEASES)
    def test_each_object_is_one(self, overlay: Overlay, release: str) -> None:
        for each in overlay.objects:
            if each["kind"] not in CUSTOM:
                kubernetes_validate.validate(each, release, strict=True)

    def test_a_misspelt_field_would_be_found(self) -> None:
        pod = Overlay("local").of_kind("StatefulSet")["auth"]
        wrong = {**pod, "spec": {**pod["spec"], "replica": 2}}

        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)

    @everywhere
    def test_what_has_no_schema_is_of_a_known_kind(self, overlay: Overlay) -> None:
        for each in overlay.objects:
            if "." in each["apiVersion"].split("/")[0] and not each["apiVersion"].split("/")[0].endswith(".k8s.io"):
                assert CUSTOM[each["kind"]] == each["apiVersion"]

    @everywhere
    def test_all_is_in_one_namespace_which_admits_restricted_pods_alone(self, overlay: Overlay) -> None:
        cluster_wide = {"Namespace", "ClusterRoleBinding"}
        (namespace,) = overlay.of_kind("Namespace").values()

        assert namespace["metadata"]["name"] == NAMESPACE
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        for each in overlay.objects:
            if each["kind"] not in cluster_wide:
                assert each["metadata"]["namespace"] == NAMESPACE, each["metadata"]["name"]

    @everywhere
    def test_no_name_is_left_open(self, overlay: Overlay) -> None:
        described = [each for each in overlay.objects if each["kind"] != "ConfigMap"]

        assert "NAME" not in re.findall(r"\b[A-Z]+\b", json.dumps(described))

    @everywhere
    def test_nothing_is_there_twice(self, overlay: Overlay) -> None:
        names = [(each["kind"], each["metadata"]["name"]) for each in overlay.objects]

        assert len(names) == len({*names})

    def test_the_oldest_release_is_the_one_that_people_are_told(self) -> None:
        assert f"| Kubernetes {RELEASES[0]} or newer" in GUIDE

    @everywhere
    def test_what_jobs_need_is_there_before_the_services(self, overlay: Overlay) -> None:
        foundation = {(each["kind"], each["metadata"]["name"]) for each in overlay.foundation}

        for name, job in overlay.of_kind("Job").items():
            for secret in secrets_of(job["spec"]["template"]):
                assert secret in secret_names(overlay.foundation), f"{name}: {secret}"
        assert ("NetworkPolicy", "default-deny") in foundation
        assert not {kind for kind, name in foundation if name in DEPLOYED} & {"StatefulSet", "Deployment"}


class TestPods:
    @everywhere
    def test_all_are_restricted(self, overlay: Overlay) -> None:
        for name, pod in overlay.pods().items():
            assert [*beyond_restricted(pod)] == [], name

    @everywhere
    def test_none_can_do_more_than_it_must(self, overlay: Overlay) -> None:
        for name, pod in overlay.pods().items():
            spec = pod["spec"]
            assert spec["enableServiceLinks"] is False, name
            if (overlay.name, name) not in REVIEWS_TOKENS:
                assert spec["automountServiceAccountToken"] is False, name
            for container in containers(pod):
                assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
                assert container["imagePullPolicy"] == "IfNotPresent"
                assert container["resources"]["requests"].keys() == {"cpu", "memory"}
                assert container["resources"]["limits"].keys() == {"memory"}

    @everywhere
    def test_secrets_are_files(self, overlay: Overlay) -> None:
        """Variables are shown by `kubectl describe`, told to children and written into reports of crashes."""
        for name, pod in overlay.pods().items():
            for container in containers(pod):
                sources = [variable.get("valueFrom", {}).keys() for variable in container.get("env", ())]
                assert {kind for source in sources for kind in source} <= {"configMapKeyRef", "fieldRef"}, name
                assert "envFrom" not in container, name

    def test_a_pod_that_may_do_more_would_be_found(self) -> None:
        pod = json.loads(json.dumps(Overlay("local").pods()["auth"]))
        assert [*beyond_restricted(pod)] == []

        pod["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]
        pod["spec"]["securityContext"]["runAsUser"] = 0
        pod["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
        del pod["spec"]["securityContext"]["seccompProfile"]

        assert len([*beyond_restricted(pod)]) == 4

    @everywhere
    def test_images_are_pinned(self, overlay: Overlay) -> None:
        for image in images(overlay):
            assert re.fullmatch(r"[a-z0-9./-]+:(v?\d+\.\d+(\.\d+)?(-[a-z]+)?|dev)", image), image

    def test_images_of_others_are_those_of_compose(self) -> None:
        composed = {service["image"] for service in read_compose()["services"].values()}
        everything = {image for overlay in map(Overlay, OVERLAYS) for image in images(overlay)}
        others = {image for image in everything if "realmultillm" not in image}

        assert len(others) == 4
        assert others <= composed

    @everywhere
    def test_all_images_of_a_release_are_of_that_release(self, overlay: Overlay) -> None:
        assert len({image.rpartition(":")[2] for image in images(overlay) if "realmultillm/" in image}) == 1


class TestServices:
    @everywhere
    @each_deployed
    def test_each_has_an_account_of_its_own(self, overlay: Overlay, name: str) -> None:
        assert overlay.pods()[name]["spec"]["serviceAccountName"] == name
        assert overlay.of_kind("ServiceAccount")[name]["automountServiceAccountToken"] is False

    @everywhere
    @each_deployed
    def test_each_keeps_most_replicas_while_nodes_are_emptied(self, overlay: Overlay, name: str) -> None:
        budget = overlay.of_kind("PodDisruptionBudget")[name]["spec"]

        assert selected_by(overlay, budget["selector"]) == {name}
        # Not minAvailable: with one replica a node could never be emptied.
        assert budget["maxUnavailable"] == 1

    @everywhere
    @each_deployed
    def test_each_has_the_certificate_it_mounts(self, overlay: Overlay, name: str) -> None:
        certificate = overlay.of_kind("Certificate")[name]["spec"]
        pod = overlay.pods()[name]
        volume, _ = mounted(pod, pod["spec"]["containers"][0], "/etc/realmultillm/tls")

        assert {"server auth", "client auth"} <= {*certificate["usages"]}
        assert volume["secret"]["secretName"] == certificate["secretName"]
        assert certificate["issuerRef"]["name"] in overlay.of_kind("Issuer")
        # A file that is mounted by `subPath` is never replaced.
        assert not [each for container in containers(pod) for each in container["volumeMounts"] if "subPath" in each]
        assert hours(certificate["renewBefore"]) < hours(certificate["duration"]) <= 24

    @everywhere
    @each_service
    def test_its_name_stands_for_all_replicas(self, overlay: Overlay, service: str) -> None:
        spec = overlay.of_kind("Service")[service]["spec"]

        assert spec["clusterIP"] == "None"
        assert {port["port"] for port in spec["ports"]} == {GRPC, METRICS}
        assert selected_by(overlay, {"matchLabels": spec["selector"]}) == {service}
        assert overlay.of_kind("StatefulSet")[service]["spec"]["serviceName"] == service

    @everywhere
    @each_service
    def test_health_is_asked_where_it_is_told(self, overlay: Overlay, service: str) -> None:
        (container,) = overlay.pods()[service]["spec"]["containers"]
        told = variables_of(overlay, service)

        assert told["HEALTH_LISTEN"] == f"0.0.0.0:{HEALTH}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            # The health of the process: no name of a dependency.
            assert container[probe]["grpc"] == {"port": HEALTH}

    @everywhere
    @each_deployed
    def test_each_may_drain(self, overlay: Overlay, name: str) -> None:
        grace = overlay.pods()[name]["spec"]["terminationGracePeriodSeconds"]

        assert grace > drain_seconds(overlay, name) + 10

    @everywhere
    @pytest.mark.parametrize("service", sorted(WORKERS | {"provider-router"}))
    def test_who_carries_chats_finishes_the_longest(self, overlay: Overlay, service: str) -> None:
        policy = import_module("libs.worker.access_policy")

        assert drain_seconds(overlay, service) >= policy.CHAT_DEADLINE

    @everywhere
    @each_service
    def test_none_with_a_volume_can_be_kept_from_where_that_is(self, overlay: Overlay, service: str) -> None:
        """A volume stays in its zone; a replica that has to be in another one would never start again."""
        pod = overlay.of_kind("StatefulSet")[service]["spec"]["template"]["spec"]

        assert [each["topologyKey"].split("/")[1] for each in pod["topologySpreadConstraints"]] == ["hostname", "zone"]
        assert {each["whenUnsatisfiable"] for each in pod["topologySpreadConstraints"]} == {"ScheduleAnyway"}

    @everywhere
    @each_service
    def test_what_is_recorded_outlives_the_pod(self, overlay: Overlay, service: str) -> None:
        spec = overlay.of_kind("StatefulSet")[service]["spec"]
        pod = spec["template"]
        volume, _ = mounted(pod, pod["spec"]["containers"][0], variables_of(overlay, service)["DATA_DIR"])

        assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == [volume["name"]]
        assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}

    @pytest.mark.parametrize("worker", sorted(WORKERS))
    def test_a_worker_scales_by_its_chats_and_its_core(self, worker: str) -> None:
        overlay = Overlay("production")
        scaler = overlay.of_kind("HorizontalPodAutoscaler")[worker]["spec"]
        by_pods, by_core = scaler["metrics"]

        assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": worker}
        assert "replicas" not in overlay.of_kind("StatefulSet")[worker]["spec"]
        assert by_pods["pods"]["metric"]["name"] == "realmultillm_chats_in_flight"
        # Of one core, whatever is requested: a process has no use for more.
        assert by_core["resource"] == {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "600m"}}
        # No faster than streams end.
        assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 600

    def test_by_their_core_alone_where_nothing_tells_of_chats(self) -> None:
        """An autoscaler that misses one of its metrics never scales down."""
        for scaler in Overlay("local").of_kind("HorizontalPodAutoscaler").values():
            (metric,) = scaler["spec"]["metrics"]
            assert metric["resource"] == {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "600m"}}

    def test_production_may_do_without_chats_in_hand_too(self, tmp_path: Path) -> None:
        """As the guide has it, in an overlay of somebody's own."""
        base, component = (
            os.path.relpath(FOLDER / each, tmp_path) for each in ("overlays/production", "components/scale-by-cpu")
        )
        (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{component}]\n")
        scalers = [each for each in render(str(tmp_path)) if each["kind"] == "HorizontalPodAutoscaler"]

        assert {each["metadata"]["name"] for each in scalers} == WORKERS | {"envoy"}
        assert {metric["type"] for each in scalers for metric in each["spec"]["metrics"]} == {"Resource"}

    def test_the_metric_is_one_that_workers_have(self) -> None:
        source = (ROOT / "libs/worker/chat_metrics.py").read_text()

        assert 'f"realmultillm_chats_{name}"' in source
        assert '("in_flight", ' in source
        assert 'seriesQuery: \'realmultillm_chats_in_flight{namespace!="",pod!=""}\'' in GUIDE

    def test_production_has_two_of_each(self) -> None:
        overlay = Overlay("production")
        scalers = overlay.of_kind("HorizontalPodAutoscaler")
        scaled = {name: each["spec"]["minReplicas"] for name, each in scalers.items()}
        fixed = {
            name: each["spec"]["replicas"]
            for name, each in overlay.of_kind("StatefulSet").items()
            if "replicas" in each["spec"]
        }

        assert scaled.keys() == WORKERS | {"envoy"}
        assert scaled.keys() | fixed.keys() == DEPLOYED
        assert all(count >= 2 for count in (scaled | fixed).values())

    def test_every_provider_of_the_catalogue_has_a_worker(self) -> None:
        folders = {path.parent.name for path in (FOLDER / "base/workers").glob("*/kustomization.yaml")}

        assert folders == {*load_catalog(None)}


class TestSettings:
    @everywhere
    @each_service
    def test_each_service_takes_its_own(self, overlay: Overlay, service: str, tmp_path: Path) -> None:
        settings = load_settings(service, given_to(overlay, service, tmp_path))

        assert str(settings.rpc.tls_dir) == "/etc/realmultillm/tls"
        assert settings.rpc.listen == f"0.0.0.0:{GRPC}"
        assert settings.rpc.metrics_listen == f"0.0.0.0:{METRICS}"
        assert settings.rpc.redis_url is not None
        assert settings.rpc.reflection is False

    @everywhere
    def test_a_misspelt_one_would_be_found(self, overlay: Overlay, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="is not a setting"):
            load_settings("auth", given_to(overlay, "auth", tmp_path) | {"AUTH_MISSPELT": "1"})

    @everywhere
    def test_all_that_is_mounted_and_read_is_there(self, overlay: Overlay) -> None:
        secrets = overlay.secrets()
        config_maps = overlay.of_kind("ConfigMap")
        for name, pod in overlay.pods().items():
            for container in containers(pod):
                volumes = {each["name"]: each for each in pod["spec"].get("volumes", ())}
                claims = {"data"} if name in overlay.of_kind("StatefulSet") else set()
                assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes.keys() | claims, name
                for volume in volumes.values():
                    if "secret" in volume:
                        wanted = {item["key"] for item in volume["secret"].get("items", ())}
                        assert wanted <= secrets[volume["secret"]["secretName"]], (name, volume["name"])
                    if "configMap" in volume:
                        assert volume["configMap"]["name"] in config_maps

    @everywhere
    @each_service
    def test_whoever_is_called_has_a_name_with_that_port(self, overlay: Overlay, service: str) -> None:
        services = overlay.of_kind("Service")
        for value in variables_of(overlay, service).values():
            # Names with dots are of others: of another namespace, or of no cluster.
            for called, port in re.findall(r"(?:^|=|//)([a-z][a-z-]*):(\d+)", value):
                assert int(port) in {each["port"] for each in services[called]["spec"]["ports"]}

    def test_both_overlays_read_the_same_secrets(self) -> None:
        """By the names and keys that the services know, whoever makes them."""
        local, production = (
            {(name, secret) for name, pod in Overlay(each).pods().items() for secret in secrets_of(pod)}
            for each in OVERLAYS
        )
        # The certificate of the server there is the one that cert-manager has made.
        local = {(name, "vault-ca" if secret == "vault-tls" else secret) for name, secret in local}

        assert {(name, secret) for name, secret in local if name in Overlay("production").pods()} == production

    @everywhere
    def test_the_token_for_vault_is_for_vault(self, overlay: Overlay) -> None:
        pod = overlay.pods()["key-vault"]
        path = variables_of(overlay, "key-vault")["VAULT_KUBERNETES_TOKEN_PATH"]
        volume, name = mounted(pod, pod["spec"]["containers"][0], path)
        (source,) = volume["projected"]["sources"]
        arguments = overlay.pods()["vault-bootstrap"]["spec"]["containers"][0]["args"]

        assert source["serviceAccountToken"]["path"] == name
        assert f"--kubernetes-audience={source['serviceAccountToken']['audience']}" in arguments
        assert f"--address={variables_of(overlay, 'key-vault')['VAULT_ADDRESS']}" in arguments


class TestJobs:
    @everywhere
    def test_each_runs_a_command_there_is_with_options_it_has(self, overlay: Overlay) -> None:
        commands = {name: pod["spec"]["containers"][0].get("args", ()) for name, pod in overlay.pods().items()}
        jobs = {name: command for name, command in commands.items() if name in overlay.of_kind("Job") and command}

        assert jobs.keys() == {"postgres-bootstrap", "vault-bootstrap", *(f"{role}-migrate" for role in WITH_TABLES)}
        for module, *options in jobs.values():
            assert find_spec(module) is not None, module
            source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
            assert all(f'"{option.partition("=")[0]}"' in source for option in options), module

    @everywhere
    def test_the_bootstrap_has_a_password_for_each_role(self, overlay: Overlay) -> None:
        assert overlay.secrets()["postgres-bootstrap"] == {"admin-url", *LOGINS}

    @everywhere
    @pytest.mark.parametrize("service", WITH_TABLES)
    def test_a_migration_runs_as_the_owner_and_the_service_does_not(self, overlay: Overlay, service: str) -> None:
        pods = overlay.pods()

        assert f"{service}-database-owner" in secrets_of(pods[f"{service}-migrate"])
        assert f"{service}-database" not in secrets_of(pods[f"{service}-migrate"])
        assert f"{service}-database" in secrets_of(pods[service])
        assert f"{service}-database-owner" not in secrets_of(pods[service])

    @everywhere
    def test_nobody_but_jobs_is_told_what_they_prepare_with(self, overlay: Overlay) -> None:
        told = {name: secrets_of(pod) for name, pod in overlay.pods().items()}
        privileged = {"postgres-bootstrap", "vault-bootstrap"}

        # In the local overlay the servers themselves know.
        holders = {name for name, secrets in told.items() if secrets & privileged} - {"vault", "vault-kubernetes"}
        assert holders == privileged

    def test_what_each_service_is_told_in_the_local_overlay_fits_together(self) -> None:
        secrets = Overlay("local").of_kind("Secret")
        passwords = {key: decoded(value) for key, value in secrets["postgres-bootstrap"]["data"].items()}

        for login in LOGINS:
            service, owner = login.removesuffix("_owner").replace("_", "-"), login.endswith("_owner")
            url = decoded(secrets[f"{service}-database{'-owner' if owner else ''}"]["data"]["url"])
            assert url == f"postgresql+psycopg://{login}:{passwords[login]}@postgres:5432/realmultillm"

    def test_the_first_administrator_of_the_local_overlay_may_be_one(self) -> None:
        """Where the account could not be made, auth would end as often as it is started."""
        given = Overlay("local").of_kind("Secret")["first-administrator"]["data"]

        check_new_account(decoded(given["email"]), decoded(given["password"]), name="")


class TestNetwork:
    @everywhere
    def test_nothing_but_the_arrows_is_let_through(self, overlay: Overlay) -> None:
        peers = [*overlay.insiders(), *overlay.outsiders()]
        policies = overlay.policies()
        ports = {GRPC, HEALTH, METRICS, HTTPS, 443, 4317, 5432, 6379, 6443, 8080, 8200, 9000, 9901}
        let = {
            (caller.name, called.name, port)
            for caller in peers
            for called in peers
            for port in ports
            if caller != called and NAMESPACE in (caller.namespace, called.namespace)
            if policies.lets(caller, called, port)
        }
        port_of = {"postgres": 5432, "redis": 6379, "vault": 8200, "otel-collector": 4317, "providers": 443}
        arrows = {(caller, called, port_of.get(called, GRPC)) for caller, called in drawn()}
        wanted = {("prometheus", name, METRICS) for name in DEPLOYED}
        wanted |= {("stranger", "envoy", HTTPS), ("prometheus", "envoy", HTTPS), ("neighbour", "envoy", HTTPS)}
        wanted |= {("otel-collector", "envoy", HTTPS), ("providers", "envoy", HTTPS), ("private", "envoy", HTTPS)}
        wanted |= {(name, "stranger", 443) for name in WORKERS}
        wanted |= {(job, "postgres", 5432) for job in overlay.of_kind("Job")}
        wanted |= {(job, "vault", 8200) for job in overlay.of_kind("Job")}
        if overlay.name == "local":
            wanted |= {(name, "sandbox", 9000) for name in WORKERS}
            # The address of the cluster itself is nobody's to know here.
            asks = {(caller, called, port) for caller, called, port in let if caller == "vault"}
            assert {port for _, _, port in asks} <= {443, 6443}
            let -= asks
        else:
            wanted |= {(server, "envoy", HTTPS) for server in ("postgres", "redis", "vault")}

        assert let - arrows == wanted

    @everywhere
    def test_names_can_be_looked_up(self, overlay: Overlay) -> None:
        names = Peer("dns", {"k8s-app": "kube-dns"}, "kube-system")
        policies = overlay.policies()

        for pod in overlay.insiders():
            assert policies.lets(pod, names, 53, "UDP")
            assert policies.lets(pod, names, 53, "TCP")

    @everywhere
    @pytest.mark.parametrize("address", PRIVATE)
    def test_no_worker_reaches_what_is_private(self, overlay: Overlay, address: str) -> None:
        policies = overlay.policies()
        private = Peer("private", address=address)
        worker = next(pod for pod in overlay.insiders() if pod.name == "worker-openai")

        assert not ipaddress.ip_address(address).is_global
        assert not policies.lets(worker, private, 443)
        assert policies.lets(worker, Peer("provider", address="2606:4700::1"), 443)

    def test_there_is_a_file_for_each_arrow(self) -> None:
        names = {path.stem for path in (FOLDER / "base/network-policies").glob("*-to-*.yaml")}
        arrows = {"-to-".join("worker" if end in WORKERS else end for end in pair) for pair in drawn()}

        assert arrows <= names
        beside = {"everyone-to-dns", "people-to-envoy", "prometheus-to-metrics", "job-to-postgres", "job-to-vault"}
        assert names - arrows == beside
        for overlay in map(Overlay, OVERLAYS):
            assert names <= overlay.of_kind("NetworkPolicy").keys()


class TestEnvoy:
    @everywhere
    def test_it_takes_the_configuration(self, overlay: Overlay, tmp_path: Path) -> None:
        config = rendered_here(overlay, tmp_path)
        checked = subprocess.run(
            [ENVOY, "--mode", "validate", "-c", config, "--log-level", "error"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert checked.returncode == 0, checked.stderr

    @everywhere
    def test_all_paths_lie_in_what_is_mounted(self, overlay: Overlay) -> None:
        pod = overlay.pods()["envoy"]
        config = EnvoyConfig.from_json(overlay.envoy_json())

        for path in (config.tls_dir, config.public_tls_dir, config.descriptor_set):
            mounted(pod, pod["spec"]["containers"][0], str(path))
        assert config.bind_address == "0.0.0.0"
        assert (config.https_port, config.metrics_port) == (HTTPS, METRICS)

    @everywhere
    def test_its_files_are_where_the_image_has_them(self, overlay: Overlay) -> None:
        pod = overlay.pods()["envoy"]["spec"]
        initial = {each["name"]: each for each in pod["initContainers"]}
        program, descriptor_set, script, target = initial["files"]["command"]
        dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
        _, asked, *_ = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]

        assert program == "cp"
        assert f"COPY --from=descriptors /descriptors.pb {Path(descriptor_set).relative_to('/app')}\n" in dockerfile
        assert Path(target, Path(descriptor_set).name) == EnvoyConfig.from_json(overlay.envoy_json()).descriptor_set
        assert (ROOT / Path(script).relative_to("/app")).is_file()
        assert Path(target, Path(script).name) == Path(asked)

    @everywhere
    def test_it_is_waited_for_as_long_as_a_chat_may_last(self, overlay: Overlay) -> None:
        pod = overlay.pods()["envoy"]["spec"]
        *_, command, pause, deadline = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]

        assert command == "drain"
        assert int(deadline) >= EnvoyConfig.from_json(overlay.envoy_json()).chat_seconds
        assert int(pause) + int(deadline) < pod["terminationGracePeriodSeconds"]

    @everywhere
    def test_it_has_room_for_what_it_may_take(self, overlay: Overlay) -> None:
        (container,) = overlay.pods()["envoy"]["spec"]["containers"]
        config = EnvoyConfig.from_json(overlay.envoy_json())

        assert container["resources"]["limits"]["memory"] == "1Gi"
        assert config.max_heap_mib == 768

    @everywhere
    def test_the_world_reaches_it_by_tls_alone(self, overlay: Overlay) -> None:
        (port,) = overlay.of_kind("Service")["envoy"]["spec"]["ports"]
        (container,) = overlay.pods()["envoy"]["spec"]["containers"]

        assert port["targetPort"] == "https"
        assert {each["name"]: each["containerPort"] for each in container["ports"]}["https"] == HTTPS


class TestUpgrade:
    """As the guide has it: one service after the other, by the label that says whose an object is."""

    def test_it_leaves_nobody_out(self) -> None:
        (named,) = re.findall(r"for service in (.+?); do", GUIDE, re.DOTALL)
        order = named.replace("\\", "").split()

        assert {*order} == SERVICES
        assert len(order) == len(SERVICES)
        assert order[:3] == ["auth", "key-vault", "analytics"]
        assert order[-1] == "provider-router"

    @everywhere
    def test_what_is_nobodys_is_applied_before(self, overlay: Overlay) -> None:
        for each in render(f"overlays/{overlay.name}"):
            assert each["metadata"].get("labels", {}).get("app.kubernetes.io/name", "envoy") in DEPLOYED
        for name, pod in overlay.pods().items():
            if name in DEPLOYED:
                assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == name


class TestMonitoring:
    def test_the_alerts_are_those_of_prometheus(self) -> None:
        written = (FOLDER / "components/monitoring/alerts.yaml").read_text()

        assert written == prometheus_rule(), "python -m deploy.prometheus.kubernetes"

    def test_the_dashboards_are_those_of_grafana(self) -> None:
        config_maps = Overlay("production").of_kind("ConfigMap")
        files = {path.stem: path.read_text() for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}

        for name, content in files.items():
            assert config_maps[f"dashboard-{name}"]["data"] == {f"{name}.json": content}
            assert config_maps[f"dashboard-{name}"]["metadata"]["labels"]["grafana_dashboard"] == "1"

    def test_each_service_is_scraped_under_its_name(self) -> None:
        overlay = Overlay("production")
        spec = overlay.of_kind("ServiceMonitor")["realmultillm"]["spec"]
        scraped = {
            each["metadata"]["labels"][spec["jobLabel"]]
            for each in overlay.of_kind("Service").values()
            if matches_labels(spec["selector"], each["metadata"]["labels"])
            if spec["endpoints"][0]["port"] in {port["name"] for port in each["spec"]["ports"]}
        }

        assert scraped == DEPLOYED


def secret_names(objects: tuple[Object, ...]) -> set[str]:
    found = set()
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "Secret":
            found.add(each["metadata"]["name"])
        elif each["kind"] == "ExternalSecret":
            found.add(spec["target"]["name"])
        elif each["kind"] == "Certificate":
            found.add(spec["secretName"])
    return found


def secrets_of(pod: Object) -> set[str]:
    """Returns the names of all secrets a pod is told."""
    return {each["secret"]["secretName"] for each in pod["spec"].get("volumes", ()) if "secret" in each}


def beyond_restricted(pod: Object) -> Iterator[str]:
    """Yields what the profile `restricted` of the Pod Security Standards does not admit."""
    spec = pod["spec"]
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", ()):
        if not volume.keys() - {"name"} <= kinds:
            yield f"volume {volume['name']}"
    of_pod = spec.get("securityContext", {})
    if of_pod.get("runAsUser") == 0:
        yield "root"
    for container in containers(pod):
        own = {**of_pod, **container.get("securityContext", {})}
        name = container["name"]
        if own.get("runAsNonRoot") is not True or container.get("securityContext", {}).get("runAsUser") == 0:
            yield f"{name}: runAsNonRoot"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{name}: privileges"
        if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccompProfile"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()) or {*capabilities.get("add", ())} - {"NET_BIND_SERVICE"}:
            yield f"{name}: capabilities"
        if any("hostPort" in port for port in container.get("ports", ())):
            yield f"{name}: hostPort"


def images(overlay: Overlay) -> set[str]:
    return {container["image"] for pod in overlay.pods().values() for container in containers(pod)}


def selected_by(overlay: Overlay, selector: Mapping[str, Any]) -> set[str]:
    return {name for name, pod in overlay.pods().items() if matches_labels(selector, pod["metadata"]["labels"])}


def hours(text: str) -> int:
    return int(text.removesuffix("h"))


def decoded(value: str) -> str:
    return base64.b64decode(value).decode()


def load_settings(service: str, given: Mapping[str, str]) -> Any:
    prefix, settings = settings_of(service)
    return from_env(settings, prefix, given)


def variables_of(overlay: Overlay, service: str) -> dict[str, str]:
    """Returns the settings of a service without the prefix of their names."""
    prefix, _ = settings_of(service)
    (container,) = overlay.pods()[service]["spec"]["containers"]
    told = dict(environment(container, overlay.of_kind("ConfigMap")))
    assert all(name.startswith(f"{prefix}_") for name in told)
    return {name.removeprefix(f"{prefix}_"): value for name, value in told.items()}


def given_to(overlay: Overlay, service: str, folder: Path) -> dict[str, str]:
    """Returns the variables of a service, with files here in place of those of its secrets."""
    prefix, _ = settings_of(service)
    pod = overlay.pods()[service]
    found = {}
    for name, value in variables_of(overlay, service).items():
        if name.endswith("_FILE"):
            volume, key = mounted(pod, pod["spec"]["containers"][0], value)
            assert key in overlay.secrets()[volume["secret"]["secretName"]], value
            value = str(folder / name)
            Path(value).write_text("made up")
        found[f"{prefix}_{name}"] = value
    return found


def drain_seconds(overlay: Overlay, name: str) -> float:
    """Returns how long calls in flight may go on: for Envoy, as long as a chat may last."""
    if name == "envoy":
        return EnvoyConfig.from_json(overlay.envoy_json()).chat_seconds
    prefix, settings = settings_of(name)
    by_default = {variable: default for variable, _, _, default in variables(settings, prefix)}
    return float(variables_of(overlay, name).get("DRAIN_SECONDS", by_default[f"{prefix}_DRAIN_SECONDS"]))


def rendered_here(overlay: Overlay, folder: Path) -> Path:
    """Writes the configuration as the pod does, but with the files of this machine."""
    issue(folder / "pki", ["envoy", "public"])
    descriptors.build(folder / "descriptors.pb")
    here = {
        "tls_dir": str(folder / "pki/envoy"),
        "public_tls_dir": str(folder / "pki/public"),
        "descriptor_set": str(folder / "descriptors.pb"),
        "access_log": str(folder / "access.log"),
    }
    config = EnvoyConfig.from_json(json.dumps(json.loads(overlay.envoy_json()) | here))
    return write_configuration(config, folder)
