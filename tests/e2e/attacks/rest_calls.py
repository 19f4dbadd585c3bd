"""Every call of the public REST API, made from the HTTP bindings of the protos, so that a new one is attacked too."""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor

from tests.architecture import descriptors


@dataclass(frozen=True)
class RestCall:
    """One verb and path; `variables` are the names in braces."""

    method: MethodDescriptor
    verb: str
    path: str

    @property
    def name(self) -> str:
        """The method, for people."""
        return f"{self.method.containing_service.name}/{self.method.name}"

    @property
    def variables(self) -> list[str]:
        """What stands in braces in the path."""
        return re.findall(r"\{(\w+)\}", self.path)

    def at(self, **values: str) -> str:
        """Returns the path with values in the place of its variables."""
        return self.path.format(**values)

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


def _rest_call(method: MethodDescriptor) -> RestCall:
    verb, path = descriptors.http_binding(method)
    return RestCall(method, verb, re.sub(r"\{(\w+)=\*\*}", r"{\1}", path))


REST_CALLS = [_rest_call(method) for method in descriptors.methods() if descriptors.is_public(method)]
