"""Compose, Kubernetes, Envoy and the local run show one picture: the same services, arrows and identities.

The picture is drawn by the code: settings and access tables say who calls whom, and as whom (`arrows.py`). Each place
where the platform runs is read from its own files (`places.py`) and held against it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from itertools import permutations

import pytest

from libs.provider_catalog import GENERIC_WORKER, load_catalog
from libs.providers import worker_service
from libs.rpc.identity import FRONT_DOOR, TRUST_DOMAIN
from libs.settings import variables
from tests.architecture.arrows import LEADING, SERVICES, admitted, drawn, settings_of, told
from tests.architecture.places import Compose, Door, Kubernetes, LocalRun, Place
from tests.support.kubernetes import ROOT

PLACES = ("local run", "compose", "kubernetes, local", "kubernetes, production")
IDENTITIES = SERVICES | {FRONT_DOOR}
# A provider that is nothing but a row of the catalogue is spoken to by the program that all of them share.
IMAGES = {service: service for service in SERVICES} | {
    worker_service(provider): worker_service(row.worker.replace("_", "-")) for provider, row in load_catalog().items()
}
COLLECTOR = "otel-collector"
# What the image itself reads, before its service.
OF_THE_IMAGE = {"REPLICAS_SHARE_VOLUME"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    read = (
        LocalRun(tmp_path_factory.mktemp("local")),
        Compose(tmp_path_factory.mktemp("compose")),
        Kubernetes("local"),
        Kubernetes("production"),
    )
    return {place.name: place for place in read}


@pytest.fixture
def place(request: pytest.FixtureRequest, places: dict[str, Place]) -> Place:
    return places[request.param]


@pytest.fixture
def door(place: Place) -> Door:
    assert place.door is not None
    return place.door


everywhere = pytest.mark.parametrize("place", PLACES, indirect=True)
# The local run has no other networks than the machine's, no images, and an Envoy that is configured when it starts.
deployed = pytest.mark.parametrize("place", PLACES[1:], indirect=True)


class TestServices:
    @everywhere
    def test_the_same_run(self, place: Place) -> None:
        assert place.services() == SERVICES

    @deployed
    def test_each_from_its_own_image(self, place: Place) -> None:
        assert {service: place.image(service) for service in SERVICES} == IMAGES

    def test_each_image_is_baked_from_the_program_that_runs_locally(self, places: dict[str, Place]) -> None:
        local = places["local run"]
        assert isinstance(local, LocalRun)
        bake = (ROOT / "deploy/docker/docker-bake.hcl").read_text()
        baked = dict(re.findall(r'image = "([^"]+)", folder = "([^"]+)"', bake))

        assert {service: baked.get(image) for service, image in IMAGES.items()} == {
            service: local.folder(service) for service in SERVICES
        }
        assert baked.keys() == {*IMAGES.values(), worker_service(GENERIC_WORKER.replace("_", "-"))}


class TestArrows:
    def test_who_is_told_of_another_is_admitted_there(self) -> None:
        called = {arrow for arrow in told() if arrow[1] in SERVICES}
        taken = {(caller, service) for caller, service in admitted() if caller != FRONT_DOOR}

        assert taken <= called
        # Asked how it is and nothing else, which everybody may.
        assert called - taken == {("provider-router", "analytics")}

    @deployed
    def test_the_same_are_let_through(self, place: Place) -> None:
        """Where networks do not tell caller from called, both or none of the two ways."""
        ends = {end for arrow in drawn() for end in arrow}
        let = {pair for pair in permutations(ends, 2) if pair[0] in IDENTITIES and place.lets(*pair)}
        wanted = {*drawn()} if place.directed else {*drawn()} | {(called, caller) for caller, called in drawn()}

        assert let == {pair for pair in wanted if pair[0] in IDENTITIES}

    @everywhere
    def test_each_is_told_of_those_it_calls(self, place: Place) -> None:
        shown = {
            (service, called)
            for service in SERVICES
            for setting, destinations in LEADING.items()
            for called in _led_to(place, service, setting, otherwise=destinations)
        }

        assert shown == {arrow for arrow in told() if place.traced or arrow[1] != COLLECTOR}

    @everywhere
    def test_each_is_called_where_it_listens(self, place: Place) -> None:
        for service in SERVICES:
            for setting in LEADING:
                for called, port in place.leads(service, setting) or ():
                    if called in SERVICES:
                        assert port == _listens(place, called), (service, setting)

    @everywhere
    def test_each_worker_is_known_by_its_provider(self, place: Place) -> None:
        for service in ("key-vault", "provider-router"):
            pairs = dict(pair.strip().split("=") for pair in place.settings(service)["WORKERS"].split(","))
            found = {provider: place.found_at(address)[0] for provider, address in pairs.items()}
            assert found == {provider: worker_service(provider) for provider in load_catalog()}


class TestIdentities:
    @everywhere
    def test_each_shows_who_it_is(self, place: Place) -> None:
        for name in IDENTITIES:
            assert place.identity(name).uris == {TRUST_DOMAIN + name}

    @everywhere
    def test_each_has_the_name_that_its_callers_ask_for(self, place: Place) -> None:
        for name in IDENTITIES:
            assert name in place.identity(name).hosts

    @everywhere
    def test_all_trust_one_authority(self, place: Place) -> None:
        assert len({place.identity(name).authority for name in IDENTITIES}) == 1

    def test_whoever_is_admitted_is_somebody(self) -> None:
        assert {caller for caller, _ in admitted()} <= IDENTITIES


@deployed
class TestEnvoy:
    def test_it_leads_to_exactly_those_that_admit_it(self, place: Place, door: Door) -> None:
        assert door.clusters.keys() == {called for caller, called in admitted() if caller == FRONT_DOOR}
        assert door.led_to == door.clusters.keys()

    def test_it_expects_who_is_there(self, place: Place, door: Door) -> None:
        for service, cluster in door.clusters.items():
            assert cluster.expects == place.identity(service).uris
            assert cluster.asks_for in place.identity(service).hosts

    def test_it_calls_each_where_it_listens(self, place: Place, door: Door) -> None:
        for service, cluster in door.clusters.items():
            assert {*map(place.found_at, cluster.addresses)} == {(service, _listens(place, service))}

    def test_it_traces_where_services_do(self, place: Place, door: Door) -> None:
        assert {place.found_at(address) for address in door.collectors} == (
            {(COLLECTOR, 4317)} if place.traced else set()
        )

    def test_it_lets_in_the_pages_that_services_let_in(self, place: Place, door: Door) -> None:
        for service in SERVICES:
            told = place.settings(service).get("ALLOWED_ORIGINS", "")
            assert {*filter(None, told.split(","))} == door.origins, service


class TestSettings:
    @everywhere
    def test_all_that_are_given_are_some_and_all_that_must_be_are_given(self, place: Place) -> None:
        for service in SERVICES:
            prefix, settings = settings_of(service)
            known = {name: default for name, _, _, default in variables(settings, prefix)}
            given = {name.removesuffix("_FILE") for name in place.environment(service)} - OF_THE_IMAGE

            assert given - known.keys() == set(), service
            assert {name for name, default in known.items() if default is dataclasses.MISSING} - given == set(), service

    @everywhere
    def test_what_holds_a_password_is_told_as_a_file(self, place: Place) -> None:
        for service in SERVICES:
            prefix, settings = settings_of(service)
            secret = {name for name, kind, *_ in variables(settings, prefix) if kind == "Secret"}
            assert place.environment(service).keys() & secret == set(), service


def _listens(place: Place, service: str) -> int:
    return int(place.settings(service)["LISTEN"].rpartition(":")[2])


def _led_to(place: Place, service: str, setting: str, *, otherwise: Collection[str]) -> Collection[str]:
    """Returns whom a setting leads to; where only those know who run it there, whom the code means by it."""
    found = place.leads(service, setting)
    return otherwise if found is None else {called for called, _ in found}
