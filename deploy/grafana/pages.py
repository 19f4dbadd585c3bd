"""The dashboards, by the names of their files. docs/observability.md tells what the metrics mean."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.grafana.panels import Dashboard, Panel, Query, Row, Variable

_QUANTILES = (0.5, 0.95, 0.99)
_OURS = 'grpc_service=~"realmultillm.*"'
# Chats last as long as the model thinks, keys are tried with their providers, and streams of changes last for ever.
_QUICK = (
    f'{_OURS}, grpc_type="unary", grpc_method!~"CreateChatCompletion|CompareChatCompletions|CreateMessage'
    '|CreateEmbedding|TestKey|TestProviderConfig|SetProviderConfig|UpdateProviderConfig|SetPlatformConfig"'
)


def _rate(metric: str, labels: str = "", *, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantiles(metric: str, labels: str = "", *, by: str = "") -> list[Query]:
    """Asks for the usual quantiles of a histogram, each with a line for every value of the label `by`."""
    grouping = f"{by}, le" if by else "le"
    return [
        Query(
            f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, by=grouping)})",
            f"{'{{' + by + '}} ' if by else ''}p{quantile * 100:g}",
        )
        for quantile in _QUANTILES
    ]


def _quantile(quantile: float, metric: str, labels: str = "", *, by: str) -> Query:
    return Query(
        f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, by=f'{by}, le')})", "{{" + by + "}}"
    )


def _stat(
    title: str, expression: str, about: str, *, unit: str = "short", warn: float | None = None, bad: float | None = None
) -> Panel:
    return Panel(
        title=title,
        queries=[Query(expression)],
        about=about,
        kind="stat",
        unit=unit,
        width=3,
        height=4,
        warn_above=warn,
        bad_above=bad,
    )


_OVERVIEW = Dashboard(
    uid="realmultillm-overview",
    title="Overview",
    about="Whether the platform is well, and what it does.",
    rows=[
        Row(
            "Now",
            [
                _stat("Down", "count(up == 0) or vector(0)", "Processes that do not answer Prometheus.", bad=1),
                _stat(
                    "Alerts",
                    'count(ALERTS{alertstate="firing"}) or vector(0)',
                    "Alerts that fire now; docs/runbooks.md tells what to do.",
                    bad=1,
                ),
                _stat(
                    "Requests",
                    'sum(rate(envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="public"}[5m]))',
                    "What people ask for, a second.",
                    unit="reqps",
                ),
                _stat(
                    "Errors",
                    "sum(rate(envoy_http_downstream_rq_xx"
                    '{envoy_http_conn_manager_prefix="public", envoy_response_code_class="5"}[5m]))'
                    ' / sum(rate(envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="public"}[5m]))',
                    "Share of answers with a status of 500 or more.",
                    unit="percentunit",
                    warn=0.01,
                    bad=0.05,
                ),
                _stat("Chats under way", "sum(realmultillm_chats_in_flight)", "Calls to models, in all workers."),
                _stat(
                    "Overhead",
                    "histogram_quantile(0.5, sum by (le) (rate(realmultillm_overhead_seconds_bucket[5m])))",
                    "What workers add to half of the chats.",
                    unit="s",
                    warn=0.01,
                    bad=0.02,
                ),
                _stat(
                    "Cost",
                    "sum(increase(realmultillm_cost_usd_total[24h]))",
                    "Of all calls to models within a day.",
                    unit="currencyUSD",
                ),
                _stat(
                    "Held back",
                    "max(realmultillm_outbox_oldest_seconds)",
                    "Age of the oldest fact or event on its way to where it is stored.",
                    unit="s",
                    warn=60,
                    bad=300,
                ),
            ],
        ),
        Row(
            "Traffic",
            [
                Panel(
                    title="Requests by status",
                    queries=[
                        Query(
                            _rate(
                                "envoy_http_downstream_rq_xx",
                                'envoy_http_conn_manager_prefix="public"',
                                by="envoy_response_code_class",
                            ),
                            "{{envoy_response_code_class}}xx",
                        )
                    ],
                    about="At the front door.",
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Calls by service",
                    queries=[Query(_rate("grpc_server_handled_total", _OURS, by="job"), "{{job}}")],
                    about="Inside the platform; one request is a call of each service it passes.",
                    unit="reqps",
                ),
                Panel(
                    title="Errors by service",
                    queries=[
                        Query(
                            _rate("grpc_server_handled_total", f'{_OURS}, grpc_code!="OK"', by="job, grpc_code"),
                            "{{job}} {{grpc_code}}",
                        )
                    ],
                    about="Also those that callers are to blame for.",
                    unit="reqps",
                ),
                Panel(
                    title="Chats by provider",
                    queries=[Query(_rate("realmultillm_chats_total", by="provider"), "{{provider}}")],
                    about="However they ended.",
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Chats by end",
                    queries=[Query(_rate("realmultillm_chats_total", by="end_state"), "{{end_state}}")],
                    about="Of all providers.",
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Slowest twentieth",
                    queries=[_quantile(0.95, "grpc_server_handling_seconds", _QUICK, by="job")],
                    about="Of calls that are not chats.",
                    unit="s",
                ),
            ],
        ),
        Row(
            "Health",
            [
                Panel(
                    title="Providers",
                    queries=[Query('max by (provider) (realmultillm_provider_state{state="healthy"})', "{{provider}}")],
                    about="Green while the provider answers as it should.",
                    kind="state-timeline",
                ),
                Panel(
                    title="Dependencies",
                    queries=[
                        Query("min by (job, dependency) (realmultillm_dependency_up)", "{{dependency}} of {{job}}")
                    ],
                    about="Green while a service reaches its database, Redis or Vault.",
                    kind="state-timeline",
                ),
                Panel(
                    title="Chats under way",
                    queries=[Query("sum by (provider) (realmultillm_chats_in_flight)", "{{provider}}")],
                    about="Each worker has a limit; beyond it chats are refused.",
                    stacked=True,
                ),
                Panel(
                    title="Memory",
                    queries=[Query("sum by (job) (process_resident_memory_bytes)", "{{job}}")],
                    about="Resident memory.",
                    unit="bytes",
                ),
                Panel(
                    title="Processor",
                    queries=[Query(_rate("process_cpu_seconds_total", by="job"), "{{job}}")],
                    about="Cores that are busy; one process uses little more than one.",
                ),
                Panel(
                    title="On the way to storage",
                    queries=[
                        Query("sum by (job, outbox) (realmultillm_outbox_records)", "{{outbox}} of {{job}}"),
                    ],
                    about="Facts about chats and audit events that were not acknowledged yet.",
                ),
            ],
        ),
    ],
)

_PROVIDER = 'provider=~"$provider"'

_PROVIDERS = Dashboard(
    uid="realmultillm-provider",
    title="Providers",
    about="How providers and their models answer.",
    variables=[Variable("provider", "provider", "realmultillm_provider_state")],
    rows=[
        Row(
            "Chats",
            [
                Panel(
                    title="Health",
                    queries=[
                        Query(
                            f'max by (provider) (realmultillm_provider_state{{state="healthy", {_PROVIDER}}})',
                            "{{provider}}",
                        )
                    ],
                    about="Green while the provider answers as it should; docs/health.md tells how that is judged.",
                    kind="state-timeline",
                ),
                Panel(
                    title="By end",
                    queries=[
                        Query(
                            _rate("realmultillm_chats_total", _PROVIDER, by="provider, end_state"),
                            "{{provider}} {{end_state}}",
                        )
                    ],
                    about="How chats ended.",
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Failures by reason",
                    queries=[
                        Query(
                            _rate("realmultillm_chats_total", f'{_PROVIDER}, reason!=""', by="provider, reason"),
                            "{{provider}} {{reason}}",
                        )
                    ],
                    about="Reasons as people are told them.",
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="Under way, of what may be",
                    queries=[
                        Query(
                            f"sum by (provider) (realmultillm_chats_in_flight{{{_PROVIDER}}})"
                            f" / sum by (provider) (realmultillm_chats_limit{{{_PROVIDER}}})",
                            "{{provider}}",
                        )
                    ],
                    about="At 1, chats are refused.",
                    unit="percentunit",
                ),
                Panel(
                    title="Output",
                    queries=[
                        Query(
                            _rate("realmultillm_tokens_total", f'{_PROVIDER}, type="completion"', by="provider"),
                            "{{provider}}",
                        )
                    ],
                    about="Tokens that models write, a second.",
                    stacked=True,
                ),
                Panel(
                    title="Tokens nobody told",
                    queries=[
                        Query(_rate("realmultillm_estimated_calls_total", _PROVIDER, by="provider"), "{{provider}}")
                    ],
                    about="Calls whose usage is our estimate.",
                    unit="reqps",
                ),
            ],
        ),
        Row(
            "Speed",
            [
                Panel(
                    title="First token",
                    queries=_quantiles("gen_ai_server_time_to_first_token_seconds", _PROVIDER, by="provider"),
                    about="Of streamed answers, from when the worker took up the chat.",
                    unit="s",
                ),
                Panel(
                    title="Each further token",
                    queries=_quantiles("gen_ai_server_time_per_output_token_seconds", _PROVIDER, by="provider"),
                    about="Of streamed answers.",
                    unit="s",
                ),
                Panel(
                    title="Whole answer",
                    queries=_quantiles("gen_ai_client_operation_duration_seconds", _PROVIDER, by="provider"),
                    about="To the end of the answer, streamed or not.",
                    unit="s",
                ),
            ],
        ),
        Row(
            "History",
            [
                Panel(
                    title="Contents of chats",
                    queries=[
                        Query(
                            _rate("realmultillm_chat_contents_total", _PROVIDER, by="provider, outcome"),
                            "{{provider}} {{outcome}}",
                        )
                    ],
                    about="What became of what was said; docs/history.md tells the outcomes.",
                    unit="reqps",
                    width=12,
                ),
                Panel(
                    title="Data keys at hand",
                    queries=[
                        Query(
                            _rate("realmultillm_cache_hits_total", 'cache="data_keys"', by="job")
                            + " / ("
                            + _rate("realmultillm_cache_hits_total", 'cache="data_keys"', by="job")
                            + " + "
                            + _rate("realmultillm_cache_misses_total", 'cache="data_keys"', by="job")
                            + ")",
                            "{{job}}",
                        )
                    ],
                    about="Share of chats whose key was there; for the others Vault makes one.",
                    unit="percentunit",
                    width=12,
                ),
            ],
        ),
        Row(
            "Models",
            [
                Panel(
                    title="Calls within a day",
                    queries=[
                        Query(
                            "topk(25, sum by (provider, gen_ai_request_model)"
                            f" (increase(gen_ai_client_operation_duration_seconds_count{{{_PROVIDER}}}[1d])))"
                        )
                    ],
                    about="Models that nobody knows are together as other.",
                    kind="table",
                    width=12,
                ),
                Panel(
                    title="First token, slowest twentieth",
                    queries=[
                        _quantile(
                            0.95, "gen_ai_server_time_to_first_token_seconds", _PROVIDER, by="gen_ai_request_model"
                        )
                    ],
                    about="By model.",
                    unit="s",
                    width=12,
                ),
            ],
        ),
    ],
)

_JOB = 'job=~"$job"'

_LATENCY = Dashboard(
    uid="realmultillm-latency",
    title="Latency",
    about="Where time goes: what the platform adds, and on what it waits.",
    variables=[Variable("job", "job", "grpc_server_started_total")],
    rows=[
        Row(
            "What the platform adds to a chat",
            [
                Panel(
                    title="Overhead",
                    queries=_quantiles("realmultillm_overhead_seconds"),
                    about="In the workers, to a whole answer or to the first token. Pauses between tries count too.",
                    unit="s",
                ),
                Panel(
                    title="Overhead by provider, median",
                    queries=[_quantile(0.5, "realmultillm_overhead_seconds", by="provider")],
                    about="In the workers.",
                    unit="s",
                ),
                Panel(
                    title="Overhead, all of it",
                    queries=[Query(_rate("realmultillm_overhead_seconds_bucket", by="le"), "{{le}}")],
                    about="How many chats a second had how much of it.",
                    kind="heatmap",
                    unit="s",
                ),
            ],
        ),
        Row(
            "Calls",
            [
                Panel(
                    title="At the front door",
                    queries=_quantiles("envoy_http_downstream_rq_time", 'envoy_http_conn_manager_prefix="public"'),
                    about="All requests, chats too.",
                    unit="ms",
                ),
                Panel(
                    title="By service",
                    queries=_quantiles("grpc_server_handling_seconds", f"{_QUICK}, {_JOB}", by="job"),
                    about="Calls that are not chats.",
                    unit="s",
                ),
                Panel(
                    title="By method, slowest twentieth",
                    queries=[_quantile(0.95, "grpc_server_handling_seconds", f"{_QUICK}, {_JOB}", by="grpc_method")],
                    about="Calls that are not chats.",
                    unit="s",
                ),
                Panel(
                    title="Under way",
                    queries=[
                        Query(
                            f'sum by (job) (grpc_server_in_flight{{{_OURS}, grpc_method!~"Watch.*", {_JOB}}})',
                            "{{job}}",
                        )
                    ],
                    about="Calls that are being served.",
                ),
                Panel(
                    title="Out of time",
                    queries=[
                        Query(
                            _rate(
                                "grpc_server_handled_total",
                                f'{_OURS}, grpc_code="DEADLINE_EXCEEDED", {_JOB}',
                                by="job, grpc_method",
                            ),
                            "{{grpc_method}} of {{job}}",
                        )
                    ],
                    about="Calls that came to their deadline.",
                    unit="reqps",
                ),
                Panel(
                    title="Envoy waits for services",
                    queries=[_quantile(0.95, "envoy_cluster_upstream_rq_time", by="envoy_cluster_name")],
                    about="Slowest twentieth, chats too.",
                    unit="ms",
                ),
            ],
        ),
        Row(
            "On what it waits",
            [
                Panel(
                    title="Database",
                    queries=_quantiles("realmultillm_database_transaction_seconds", by="job"),
                    about="Transactions, the wait for a connection included.",
                    unit="s",
                ),
                Panel(
                    title="Connections to the database",
                    queries=[
                        Query('sum by (job) (realmultillm_database_connections{state="in_use"})', "{{job}}"),
                        Query('sum by (job) (realmultillm_database_connections{state="limit"})', "limit of {{job}}"),
                    ],
                    about="In use, and how many there may be.",
                ),
                Panel(
                    title="Vault",
                    queries=[_quantile(0.95, "realmultillm_vault_request_seconds", by="operation")],
                    about="Slowest twentieth, by what it is asked for.",
                    unit="s",
                ),
                Panel(
                    title="Caches",
                    queries=[
                        Query(
                            f"{_rate('realmultillm_cache_hits_total', by='job, cache')}"
                            f" / ({_rate('realmultillm_cache_hits_total', by='job, cache')}"
                            f" + {_rate('realmultillm_cache_misses_total', by='job, cache')})",
                            "{{cache}} of {{job}}",
                        )
                    ],
                    about="Share of what was at hand; the rest was asked of another service.",
                    unit="percentunit",
                ),
                Panel(
                    title="What caches hold",
                    queries=[Query("sum by (job, cache) (realmultillm_cache_entries)", "{{cache}} of {{job}}")],
                    about="Values.",
                ),
                Panel(
                    title="Facts are stored after",
                    queries=_quantiles("realmultillm_ingest_lag_seconds"),
                    about="From the end of a chat to where it is counted.",
                    unit="s",
                ),
            ],
        ),
    ],
)

_COST = Dashboard(
    uid="realmultillm-cost",
    title="Cost",
    about="What calls to models cost, and whether all of it is known. People's own numbers are in the analytics API.",
    variables=[Variable("provider", "provider", "realmultillm_provider_state")],
    rows=[
        Row(
            "Money",
            [
                _stat(
                    "Last hour",
                    f"sum(increase(realmultillm_cost_usd_total{{{_PROVIDER}}}[1h]))",
                    "US dollars.",
                    unit="currencyUSD",
                ),
                _stat(
                    "Last day",
                    f"sum(increase(realmultillm_cost_usd_total{{{_PROVIDER}}}[1d]))",
                    "US dollars.",
                    unit="currencyUSD",
                ),
                _stat(
                    "Last 30 days",
                    f"sum(increase(realmultillm_cost_usd_total{{{_PROVIDER}}}[30d]))",
                    "US dollars, as far as Prometheus remembers; the analytics API has the exact sums.",
                    unit="currencyUSD",
                ),
                _stat(
                    "Unpriced",
                    f"sum(increase(realmultillm_unpriced_calls_total{{{_PROVIDER}}}[1d]))",
                    "Calls within a day whose cost nobody knows.",
                    bad=1,
                ),
                _stat(
                    "Reported",
                    f'sum(increase(realmultillm_cost_usd_total{{{_PROVIDER}, source="reported"}}[1d]))'
                    f" / sum(increase(realmultillm_cost_usd_total{{{_PROVIDER}}}[1d]))",
                    "Share of the cost that the providers said themselves.",
                    unit="percentunit",
                ),
            ],
        ),
        Row(
            "By whom and for what",
            [
                Panel(
                    title="Dollars an hour, by provider",
                    queries=[
                        Query(
                            f"3600 * {_rate('realmultillm_cost_usd_total', _PROVIDER, by='provider')}", "{{provider}}"
                        )
                    ],
                    about="At the pace of the moment.",
                    unit="currencyUSD",
                    stacked=True,
                ),
                Panel(
                    title="Dollars an hour, dearest models",
                    queries=[
                        Query(
                            f"topk(10, 3600 * {_rate('realmultillm_cost_usd_total', _PROVIDER, by='provider, model')})",
                            "{{provider}} {{model}}",
                        )
                    ],
                    about="At the pace of the moment.",
                    unit="currencyUSD",
                ),
                Panel(
                    title="Dearest models within a day",
                    queries=[
                        Query(
                            "topk(25, sum by (provider, model)"
                            f" (increase(realmultillm_cost_usd_total{{{_PROVIDER}}}[1d])))"
                        )
                    ],
                    about="US dollars.",
                    kind="table",
                    unit="currencyUSD",
                ),
            ],
        ),
        Row(
            "Tokens",
            [
                Panel(
                    title="By kind",
                    queries=[Query(_rate("realmultillm_tokens_total", _PROVIDER, by="type"), "{{type}}")],
                    about="A second. cached and cache_write are parts of prompt, reasoning is a part of completion.",
                ),
                Panel(
                    title="Served from the providers' caches",
                    queries=[
                        Query(
                            _rate("realmultillm_tokens_total", f'{_PROVIDER}, type="cached"', by="provider")
                            + " / "
                            + _rate("realmultillm_tokens_total", f'{_PROVIDER}, type="prompt"', by="provider"),
                            "{{provider}}",
                        )
                    ],
                    about="Share of the tokens sent, which are cheaper then.",
                    unit="percentunit",
                ),
                Panel(
                    title="Tokens of a call",
                    queries=[
                        Query(
                            "histogram_quantile(0.95, "
                            + _rate("gen_ai_client_token_usage_bucket", _PROVIDER, by="gen_ai_token_type, le")
                            + ")",
                            "{{gen_ai_token_type}} p95",
                        )
                    ],
                    about="The largest twentieth.",
                ),
            ],
        ),
        Row(
            "Whether all of it is known",
            [
                Panel(
                    title="Unpriced calls",
                    queries=[
                        Query(
                            "sum by (provider, model)"
                            f" (increase(realmultillm_unpriced_calls_total{{{_PROVIDER}}}[1h]))",
                            "{{provider}} {{model}}",
                        )
                    ],
                    about="Within an hour. docs/models.md tells how to give a model a price.",
                ),
                Panel(
                    title="Facts stored",
                    queries=[Query(_rate("realmultillm_ingested_records_total", by="result"), "{{result}}")],
                    about="Each fact counts once; duplicates are what was sent again.",
                    unit="reqps",
                ),
                Panel(
                    title="Facts on their way",
                    queries=[Query("sum by (job) (realmultillm_outbox_records)", "{{job}}")],
                    about="Written down, and not acknowledged yet.",
                ),
            ],
        ),
    ],
)

_SECURITY = Dashboard(
    uid="realmultillm-security",
    title="Security",
    about="Who is refused, and whether the protections work. Who did what is in the audit log.",
    rows=[
        Row(
            "Now",
            [
                _stat(
                    "Deaf caches",
                    "count(realmultillm_cache_watched == 0) or vector(0)",
                    "Caches that do not hear of revocations and changes.",
                    bad=1,
                ),
                _stat(
                    "Failed sign-ins",
                    'sum(increase(grpc_server_handled_total{grpc_method="SignIn", grpc_code!="OK"}[1h])) or vector(0)',
                    "Within an hour.",
                ),
                _stat(
                    "Invalid tokens",
                    'sum(increase(realmultillm_limit_decisions_total{limit="InvalidTokens"}[1h]))',
                    "Shown within an hour.",
                ),
                _stat(
                    "Refused by limits",
                    'sum(increase(realmultillm_limit_decisions_total{decision="refused"}[1h])) or vector(0)',
                    "Within an hour.",
                ),
                _stat(
                    "Vault fails",
                    "sum(increase(realmultillm_vault_failures_total[1h])) or vector(0)",
                    "Within an hour.",
                    bad=1,
                ),
                _stat(
                    "Certificate",
                    "min(envoy_server_days_until_first_cert_expiring)",
                    "Days until the first certificate of Envoy expires.",
                ),
            ],
        ),
        Row(
            "Who is refused",
            [
                Panel(
                    title="Sign-ins and sign-ups",
                    queries=[
                        Query(
                            _rate(
                                "grpc_server_handled_total",
                                'grpc_method=~"SignIn|SignUp"',
                                by="grpc_method, grpc_code",
                            ),
                            "{{grpc_method}} {{grpc_code}}",
                        )
                    ],
                    about="By how they ended.",
                    unit="reqps",
                ),
                Panel(
                    title="Not signed in",
                    queries=[
                        Query(_rate("grpc_server_handled_total", 'grpc_code="UNAUTHENTICATED"', by="job"), "{{job}}")
                    ],
                    about="Calls without a valid token.",
                    unit="reqps",
                ),
                Panel(
                    title="Not allowed",
                    queries=[
                        Query(
                            _rate("grpc_server_handled_total", 'grpc_code="PERMISSION_DENIED"', by="job, grpc_method"),
                            "{{grpc_method}} of {{job}}",
                        )
                    ],
                    about="Calls that the access policy denies, of people and of services.",
                    unit="reqps",
                ),
                Panel(
                    title="Refused by limits",
                    queries=[
                        Query(
                            _rate("realmultillm_limit_decisions_total", 'decision="refused"', by="limit"), "{{limit}}"
                        )
                    ],
                    about="By the method whose limit was reached.",
                    unit="reqps",
                ),
                Panel(
                    title="Invalid tokens",
                    queries=[
                        Query(
                            _rate("realmultillm_limit_decisions_total", 'limit="InvalidTokens"', by="job, decision"),
                            "{{job}} {{decision}}",
                        )
                    ],
                    about="Refused are those of addresses past the limit; they are not even looked up.",
                    unit="reqps",
                ),
                Panel(
                    title="Errors by reason",
                    queries=[
                        Query(
                            _rate(
                                "realmultillm_call_errors_total",
                                'reason=~"UNAUTHENTICATED|PERMISSION_DENIED|RATE_LIMIT_EXCEEDED|INVALID_ARGUMENT"',
                                by="grpc_service, reason",
                            ),
                            "{{grpc_service}} {{reason}}",
                        )
                    ],
                    about="As callers are told them.",
                    unit="reqps",
                ),
            ],
        ),
        Row(
            "Whether the protections work",
            [
                Panel(
                    title="Changes are heard of",
                    queries=[Query("min by (job, cache) (realmultillm_cache_watched)", "{{cache}} of {{job}}")],
                    about="Green while a revoked token or a deleted key is forgotten at once.",
                    kind="state-timeline",
                ),
                Panel(
                    title="Counted alone",
                    queries=[Query(_rate("realmultillm_limit_hits_alone_total", by="job"), "{{job}}")],
                    about="Hits that a process counted by itself, because Redis was away or there is none.",
                    unit="reqps",
                ),
                Panel(
                    title="Audit events on their way",
                    queries=[
                        Query('sum by (job) (realmultillm_outbox_records{outbox="audit"})', "{{job}}"),
                    ],
                    about="Written down, and not in the audit log yet.",
                ),
                Panel(
                    title="Vault is asked",
                    queries=[Query(_rate("realmultillm_vault_request_seconds_count", by="operation"), "{{operation}}")],
                    about="decrypt opens providers' keys; each is opened once for many chats.",
                    unit="reqps",
                ),
                Panel(
                    title="Vault fails",
                    queries=[Query(_rate("realmultillm_vault_failures_total", by="operation"), "{{operation}}")],
                    about="It was away, sealed, or denied the right.",
                    unit="reqps",
                ),
                Panel(
                    title="Administrators' changes",
                    queries=[
                        Query(
                            "sum by (grpc_method) (increase(grpc_server_handled_total{grpc_code="
                            '"OK", grpc_service=~".*(UserAdmin|PlatformConfig|EncryptionKey)Service",'
                            ' grpc_method!~"Get.*|List.*"}[1h]))',
                            "{{grpc_method}}",
                        )
                    ],
                    about="Within an hour. The audit log tells who made them.",
                ),
            ],
        ),
    ],
)

DASHBOARDS: Mapping[str, Dashboard] = {
    "overview": _OVERVIEW,
    "provider": _PROVIDERS,
    "latency": _LATENCY,
    "cost": _COST,
    "security": _SECURITY,
}
