"""What a service writes to stderr, as its operator sees it: each test runs a process of its own."""

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

KEY = "sk-proj-Ab3dEf6hIj9_KlMnOp"

_START = """
import logging
import structlog
from libs.redaction import Secret
from libs.telemetry import configure_logging
configure_logging("auth", level={level!r}, log_format={form!r})
log = structlog.get_logger()
KEY = {key!r}
"""


def written(code: str, *, form: str = "json", level: str = "info") -> str:
    program = _START.format(level=level, form=form, key=KEY) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def lines(code: str, *, level: str = "info") -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(code, level=level).splitlines()]


class TestJson:
    def test_each_line_is_one_object_with_time_level_service_and_facts(self) -> None:
        (line,) = lines("log.info('call', method='/a/B', ms=1.5, code='OK')")
        assert line.pop("timestamp").endswith("Z")
        assert line == {
            "event": "call",
            "level": "info",
            "service": "auth",
            "method": "/a/B",
            "ms": 1.5,
            "code": "OK",
        }

    def test_secrets_go_and_the_rest_stays_json(self) -> None:
        (line,) = lines(
            """
            log.info(
                f'sent "{KEY}"', api_key='hunter2', nested={'headers': [('x-api-key', 'hunter2')], 'n': 1},
                note='password="hunter2', value=Secret('hunter2'), raw=b'token=hunter2', prompt_tokens=5,
            )
            """
        )
        assert "hunter2" not in str(line)
        assert KEY not in str(line)
        assert line["event"] == 'sent "[redacted]"'
        assert line["nested"]["n"] == 1
        assert line["prompt_tokens"] == 5

    def test_an_exception_is_told_without_its_secret(self) -> None:
        (line,) = lines(
            """
            try:
                try:
                    raise KeyError(f'first\\n{KEY}')
                except KeyError as error:
                    key_in_a_local = 'hunter2'
                    raise ValueError({'password': key_in_a_local}) from error
            except ValueError:
                log.exception('unhandled error')
            """
        )
        assert line["level"] == "error"
        assert "ValueError" in line["exception"]
        assert "KeyError" in line["exception"]
        assert KEY not in str(line)
        assert "hunter2" not in str(line)

    def test_whatever_is_logged_a_line_is_written(self) -> None:
        found = lines(
            """
            log.info('huge', number=2**70)
            log.info('half a character', text='\\ud83d')
            log.info('odd names', counts={1: 'a', None: 'b', (1, 2): 'c'})
            log.info('odd values', values=[object(), {1}, float('nan'), ValueError('x')])
            """
        )
        assert [line["event"].strip("'") for line in found] == ["huge", "half a character", "odd names", "odd values"]
        assert str(2**70) in str(found[0]["number"])

    def test_the_line_of_every_call_has_the_form_of_all_others(self) -> None:
        both = "; ".join(f"{log}('call', method='/a/B', ms=1.5)" for log in ("log.info", "log_own_facts"))
        slow, fast = lines(f"from libs.telemetry import log_own_facts\n{both}")
        assert slow.pop("timestamp").endswith("Z")
        assert fast.pop("timestamp").endswith("Z")
        assert fast == slow

    def test_lines_of_a_busy_loop_come_whole_and_in_order_also_those_of_its_last_moment(self) -> None:
        found = lines(
            """
            import asyncio, threading
            async def main():
                for number in range(100):
                    log.info('line', number=number)
                    if number == 50:
                        await asyncio.sleep(0.1)
            asyncio.run(main())
            thread = threading.Thread(target=log.info, args=('from a thread',))
            thread.start(); thread.join()
            log.info('after the loop')
            """
        )
        assert [line.get("number") for line in found[:100]] == list(range(100))
        assert [line["event"] for line in found[100:]] == ["from a thread", "after the loop"]

    def test_lines_below_the_level_are_not_written(self) -> None:
        found = lines("log.debug('a'); log.info('b'); log.warning('c')", level="WARNING")
        assert [line["event"] for line in found] == ["c"]

    def test_a_line_break_does_not_begin_a_line(self) -> None:
        (line,) = lines('log.info(\'one\\n{"event":"forged"}\')')
        assert line["event"].startswith("one\n")


class TestConsole:
    def test_people_read_event_and_facts(self) -> None:
        text = written("log.info('serving', port=5101)", form="console")
        assert "serving" in text
        assert "port=5101" in text

    def test_secrets_go(self) -> None:
        text = written(
            """
            log.info('sent', api_key='hunter2', note=f'with {KEY}', value=Secret('hunter2'))
            try:
                key_in_a_local = 'hunter2'
                raise ValueError(f'password={key_in_a_local} {KEY}')
            except ValueError:
                log.exception('failed')
            """,
            form="console",
        )
        assert "ValueError" in text
        assert "hunter2" not in text
        assert KEY not in text

    def test_colors_do_not_shield_secrets(self) -> None:
        text = written(
            """
            import io, sys
            class Terminal(io.StringIO):
                def isatty(self): return True
            screen, sys.stderr = Terminal(), Terminal()
            sys.stderr = screen
            configure_logging('auth', level='info', log_format='console')
            log = structlog.get_logger()
            log.info('sent', api_key='hunter2', note=KEY)
            sys.stderr = sys.__stderr__
            sys.stderr.write(screen.getvalue())
            """,
            form="console",
        )
        assert "\x1b[" in text
        assert "hunter2" not in text
        assert KEY not in text


class TestStandardLibraryLogging:
    @pytest.mark.parametrize("form", ["json", "console"])
    def test_is_redacted_too(self, form: str) -> None:
        text = written(
            """
            logger = logging.getLogger('some.package')
            logger.warning('connecting to %s', 'postgresql://auth:hunter2@db/x')
            try:
                raise ValueError(f'refused {KEY}')
            except ValueError:
                logger.exception('failed with %r', {'password': 'hunter2'})
            """,
            form=form,
        )
        assert "connecting to postgresql://auth:[redacted]@db/x" in text
        assert "ValueError" in text
        assert "hunter2" not in text
        assert KEY not in text

    def test_has_the_form_of_our_own_lines(self) -> None:
        (line,) = lines("logging.getLogger('some.package').error('down')")
        assert (line["event"], line["level"], line["logger"], line["service"]) == (
            "down",
            "error",
            "some.package",
            "auth",
        )

    def test_headers_that_are_not_ascii_are_not_told(self) -> None:
        (line,) = lines(
            """
            logger = logging.getLogger("grpc._cython.cygrpc")
            logger.error("Invalid encoding on %s", b"Quokka-Harbor-71")
            logger.error("Something else")
            """
        )
        assert line["event"] == "Something else"

    def test_is_asked_for_warnings_only(self) -> None:
        assert lines("logging.getLogger('some.package').info('chatter')", level="debug") == []
