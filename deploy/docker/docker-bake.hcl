# All images, one after the other named like the services: `make images`, or
#
#   docker buildx bake -f deploy/docker/docker-bake.hcl --sbom=true --provenance=mode=max --push
#
# with REGISTRY=registry.example.com/ and VERSION=1.2.3 in the environment.

variable "REGISTRY" { default = "" }
variable "VERSION" { default = "dev" }
variable "REVISION" { default = "unknown" }
variable "SOURCE" { default = "" }

# A further provider that speaks the API of OpenAI runs from the image worker-openai-compatible.
group "default" { targets = ["services", "jobs"] }

target "common" {
  context    = "."
  dockerfile = "deploy/docker/Dockerfile"
  args       = { VERSION = VERSION, REVISION = REVISION, SOURCE = SOURCE }
}

target "services" {
  inherits = ["common"]
  name     = item.image
  target   = "service"
  tags     = ["${REGISTRY}realmultillm/${item.image}:${VERSION}"]
  args     = { SERVICE = item.folder }
  matrix = {
    item = [
      { image = "auth", folder = "auth" },
      { image = "key-vault", folder = "key_vault" },
      { image = "provider-router", folder = "provider_router" },
      { image = "analytics", folder = "analytics" },
      { image = "worker-openai", folder = "workers/openai" },
      { image = "worker-anthropic", folder = "workers/anthropic" },
      { image = "worker-google-ai", folder = "workers/google_ai" },
      { image = "worker-openrouter", folder = "workers/openrouter" },
      { image = "worker-grok", folder = "workers/grok" },
      { image = "worker-openai-compatible", folder = "workers/openai_compatible" },
    ]
  }
}

target "jobs" {
  inherits = ["common"]
  target   = "jobs"
  tags     = ["${REGISTRY}realmultillm/jobs:${VERSION}"]
}
