"""Tells people what they have used, what it cost, and how well it went."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from realmultillm.analytics.v1 import analytics_service_pb2 as analytics
from realmultillm.analytics.v1.analytics_service_pb2_grpc import (
    AnalyticsServiceServicer,
    PlatformAnalyticsServiceServicer,
)

from libs.errors import Violation
from libs.rpc.identity import caller, current_call
from services.analytics.csv_export import MEASURES_OF, REPORTS, records, table_of
from services.analytics.question import Question
from services.analytics.record_pages import RecordPages
from services.analytics.report_messages import (
    to_cost_report,
    to_performance_report,
    to_question,
    to_top_models,
    to_top_users,
    to_usage_report,
)
from services.analytics.reports import (
    ALL_MEASURES,
    COST_REPORT_MEASURES,
    PERFORMANCE_MEASURES,
    USAGE_MEASURES,
    Reports,
)

_COST_AND_TOKENS = ("requests", "prompt_tokens", "completion_tokens", "cost_picos")
_DEFAULT_TOP = 10
_MOST_TOP = 100


class AnalyticsServicer(AnalyticsServiceServicer):
    """Answers about the caller's own chats, whatever the request says. `clock` tells the time."""

    def __init__(self, reports: Reports, pages: RecordPages, *, clock: Callable[[], datetime]) -> None:
        self._reports = reports
        self._pages = pages
        self._clock = clock

    async def GetUsage(self, request: analytics.GetUsageRequest, _context: Any) -> analytics.UsageReport:
        question = self._question(request)
        return to_usage_report(question, await self._reports.sums(question, USAGE_MEASURES))

    async def GetCosts(self, request: analytics.GetCostsRequest, _context: Any) -> analytics.CostReport:
        question = self._question(request)
        return to_cost_report(question, await self._reports.sums(question, COST_REPORT_MEASURES))

    async def GetPerformance(
        self, request: analytics.GetPerformanceRequest, _context: Any
    ) -> analytics.PerformanceReport:
        question = self._question(request)
        return to_performance_report(question, await self._reports.sums(question, PERFORMANCE_MEASURES))

    async def ExportAnalytics(
        self, request: analytics.ExportAnalyticsRequest, _context: Any
    ) -> AsyncIterator[HttpBody]:
        question = self._question(request, broken_report_rules(request.report))
        async for body in _export(self._reports, self._pages, question, request.report):
            yield body

    def _question(self, request: Any, beside: Iterable[Violation] = ()) -> Question:
        return to_question(request, user_id=caller().user_id, now=self._clock(), beside=beside)


class PlatformAnalyticsServicer(PlatformAnalyticsServiceServicer):
    """Answers administrators about the chats of all people. `clock` tells the time."""

    def __init__(self, reports: Reports, pages: RecordPages, *, clock: Callable[[], datetime]) -> None:
        self._reports = reports
        self._pages = pages
        self._clock = clock

    async def GetPlatformAnalytics(
        self, request: analytics.GetPlatformAnalyticsRequest, _context: Any
    ) -> analytics.PlatformReport:
        question = self._question(request, broken_top_rules(request.top))
        top = request.top or _DEFAULT_TOP
        sums = await self._reports.sums(question, ALL_MEASURES)
        by_model = await self._reports.sums(replace(question, group_by="model"), _COST_AND_TOKENS)
        return analytics.PlatformReport(
            usage=to_usage_report(question, sums),
            costs=to_cost_report(question, sums),
            performance=to_performance_report(question, sums),
            top_users=to_top_users(await self._reports.spenders(question, top)),
            top_models=to_top_models(by_model.groups, top),
        )

    async def ExportPlatformAnalytics(
        self, request: analytics.ExportPlatformAnalyticsRequest, _context: Any
    ) -> AsyncIterator[HttpBody]:
        question = self._question(request, broken_report_rules(request.report))
        async for body in _export(self._reports, self._pages, question, request.report):
            yield body

    def _question(self, request: Any, beside: Iterable[Violation]) -> Question:
        return to_question(request, user_id=request.user_id or None, now=self._clock(), beside=beside)


def broken_report_rules(report: str) -> list[Violation]:
    """Lists what is wrong with the name of what to export."""
    return [] if report in REPORTS else [Violation("report", f"must be one of {', '.join(REPORTS)}.")]


def broken_top_rules(top: int) -> list[Violation]:
    """Lists what is wrong with how many people and models to list."""
    rule = f"must be from 1 to {_MOST_TOP}; 0 means {_DEFAULT_TOP}."
    return [] if 0 <= top <= _MOST_TOP else [Violation("top", rule)]


async def _export(reports: Reports, pages: RecordPages, question: Question, report: str) -> AsyncIterator[HttpBody]:
    name = f"{report}-{question.span.start:%Y-%m-%d}-{question.span.end:%Y-%m-%d}.csv"
    current_call().answer_headers.append(("content-disposition", f'attachment; filename="{name}"'))
    if report == "records":
        async for piece in records(question, pages.read(question)):
            yield HttpBody(content_type="text/csv; charset=utf-8", data=piece)
        return
    sums = await reports.sums(question, MEASURES_OF[report])
    yield HttpBody(content_type="text/csv; charset=utf-8", data=table_of(report, question, sums))
