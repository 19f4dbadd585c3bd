import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetUsageRequest(_message.Message):
    __slots__ = ("to", "group_by", "time_zone", "provider", "model")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    group_by: str
    time_zone: str
    provider: str
    model: str
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[str] = ..., time_zone: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., **kwargs) -> None: ...

class GetCostsRequest(_message.Message):
    __slots__ = ("to", "group_by", "time_zone", "provider", "model")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    group_by: str
    time_zone: str
    provider: str
    model: str
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[str] = ..., time_zone: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., **kwargs) -> None: ...

class GetPerformanceRequest(_message.Message):
    __slots__ = ("to", "group_by", "time_zone", "provider", "model")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    group_by: str
    time_zone: str
    provider: str
    model: str
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[str] = ..., time_zone: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., **kwargs) -> None: ...

class ExportAnalyticsRequest(_message.Message):
    __slots__ = ("to", "group_by", "time_zone", "provider", "model", "report")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    group_by: str
    time_zone: str
    provider: str
    model: str
    report: str
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[str] = ..., time_zone: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., report: _Optional[str] = ..., **kwargs) -> None: ...

class GetPlatformAnalyticsRequest(_message.Message):
    __slots__ = ("to", "group_by", "time_zone", "provider", "model", "user_id", "top")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    group_by: str
    time_zone: str
    provider: str
    model: str
    user_id: str
    top: int
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[str] = ..., time_zone: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., user_id: _Optional[str] = ..., top: _Optional[int] = ..., **kwargs) -> None: ...

class ExportPlatformAnalyticsRequest(_message.Message):
    __slots__ = ("to", "group_by", "time_zone", "provider", "model", "report", "user_id")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    group_by: str
    time_zone: str
    provider: str
    model: str
    report: str
    user_id: str
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[str] = ..., time_zone: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., report: _Optional[str] = ..., user_id: _Optional[str] = ..., **kwargs) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("to", "totals", "buckets")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    totals: UsageTotals
    buckets: _containers.RepeatedCompositeFieldContainer[UsageBucket]
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., totals: _Optional[_Union[UsageTotals, _Mapping]] = ..., buckets: _Optional[_Iterable[_Union[UsageBucket, _Mapping]]] = ..., **kwargs) -> None: ...

class UsageBucket(_message.Message):
    __slots__ = ("start_time", "provider", "model", "totals")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    provider: str
    model: str
    totals: UsageTotals
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., totals: _Optional[_Union[UsageTotals, _Mapping]] = ...) -> None: ...

class UsageTotals(_message.Message):
    __slots__ = ("requests", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "requests_by_end_state", "cache_write_tokens", "estimated_requests", "embedding_requests")
    class RequestsByEndStateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_BY_END_STATE_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    prompt_tokens: float
    completion_tokens: float
    reasoning_tokens: float
    cached_tokens: float
    requests_by_end_state: _containers.ScalarMap[str, int]
    cache_write_tokens: float
    estimated_requests: int
    embedding_requests: int
    def __init__(self, requests: _Optional[int] = ..., prompt_tokens: _Optional[float] = ..., completion_tokens: _Optional[float] = ..., reasoning_tokens: _Optional[float] = ..., cached_tokens: _Optional[float] = ..., requests_by_end_state: _Optional[_Mapping[str, int]] = ..., cache_write_tokens: _Optional[float] = ..., estimated_requests: _Optional[int] = ..., embedding_requests: _Optional[int] = ...) -> None: ...

class CostReport(_message.Message):
    __slots__ = ("to", "totals", "buckets")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    totals: CostTotals
    buckets: _containers.RepeatedCompositeFieldContainer[CostBucket]
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., totals: _Optional[_Union[CostTotals, _Mapping]] = ..., buckets: _Optional[_Iterable[_Union[CostBucket, _Mapping]]] = ..., **kwargs) -> None: ...

class CostBucket(_message.Message):
    __slots__ = ("start_time", "provider", "model", "totals")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    provider: str
    model: str
    totals: CostTotals
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., totals: _Optional[_Union[CostTotals, _Mapping]] = ...) -> None: ...

class CostTotals(_message.Message):
    __slots__ = ("cost_usd", "reported_cost_usd", "estimated_cost_usd", "requests", "unpriced_requests")
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    REPORTED_COST_USD_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_COST_USD_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    cost_usd: str
    reported_cost_usd: str
    estimated_cost_usd: str
    requests: int
    unpriced_requests: int
    def __init__(self, cost_usd: _Optional[str] = ..., reported_cost_usd: _Optional[str] = ..., estimated_cost_usd: _Optional[str] = ..., requests: _Optional[int] = ..., unpriced_requests: _Optional[int] = ...) -> None: ...

class PerformanceReport(_message.Message):
    __slots__ = ("to", "totals", "buckets")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    to: _timestamp_pb2.Timestamp
    totals: PerformanceTotals
    buckets: _containers.RepeatedCompositeFieldContainer[PerformanceBucket]
    def __init__(self, to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., totals: _Optional[_Union[PerformanceTotals, _Mapping]] = ..., buckets: _Optional[_Iterable[_Union[PerformanceBucket, _Mapping]]] = ..., **kwargs) -> None: ...

class PerformanceBucket(_message.Message):
    __slots__ = ("start_time", "provider", "model", "totals")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    provider: str
    model: str
    totals: PerformanceTotals
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., totals: _Optional[_Union[PerformanceTotals, _Mapping]] = ...) -> None: ...

class PerformanceTotals(_message.Message):
    __slots__ = ("requests", "errors", "error_rate", "latency_ms", "time_to_first_token_ms", "tokens_per_second")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    requests: int
    errors: int
    error_rate: float
    latency_ms: Percentiles
    time_to_first_token_ms: Percentiles
    tokens_per_second: Percentiles
    def __init__(self, requests: _Optional[int] = ..., errors: _Optional[int] = ..., error_rate: _Optional[float] = ..., latency_ms: _Optional[_Union[Percentiles, _Mapping]] = ..., time_to_first_token_ms: _Optional[_Union[Percentiles, _Mapping]] = ..., tokens_per_second: _Optional[_Union[Percentiles, _Mapping]] = ...) -> None: ...

class Percentiles(_message.Message):
    __slots__ = ("p50", "p90", "p95", "p99")
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P95_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    p50: float
    p90: float
    p95: float
    p99: float
    def __init__(self, p50: _Optional[float] = ..., p90: _Optional[float] = ..., p95: _Optional[float] = ..., p99: _Optional[float] = ...) -> None: ...

class PlatformReport(_message.Message):
    __slots__ = ("usage", "costs", "performance", "top_users", "top_models")
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    PERFORMANCE_FIELD_NUMBER: _ClassVar[int]
    TOP_USERS_FIELD_NUMBER: _ClassVar[int]
    TOP_MODELS_FIELD_NUMBER: _ClassVar[int]
    usage: UsageReport
    costs: CostReport
    performance: PerformanceReport
    top_users: _containers.RepeatedCompositeFieldContainer[TopUser]
    top_models: _containers.RepeatedCompositeFieldContainer[TopModel]
    def __init__(self, usage: _Optional[_Union[UsageReport, _Mapping]] = ..., costs: _Optional[_Union[CostReport, _Mapping]] = ..., performance: _Optional[_Union[PerformanceReport, _Mapping]] = ..., top_users: _Optional[_Iterable[_Union[TopUser, _Mapping]]] = ..., top_models: _Optional[_Iterable[_Union[TopModel, _Mapping]]] = ...) -> None: ...

class TopUser(_message.Message):
    __slots__ = ("user_id", "requests", "total_tokens", "cost_usd")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    requests: int
    total_tokens: float
    cost_usd: str
    def __init__(self, user_id: _Optional[str] = ..., requests: _Optional[int] = ..., total_tokens: _Optional[float] = ..., cost_usd: _Optional[str] = ...) -> None: ...

class TopModel(_message.Message):
    __slots__ = ("provider", "model", "requests", "total_tokens", "cost_usd")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    requests: int
    total_tokens: float
    cost_usd: str
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ..., requests: _Optional[int] = ..., total_tokens: _Optional[float] = ..., cost_usd: _Optional[str] = ...) -> None: ...
