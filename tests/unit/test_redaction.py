"""Attacks the redaction: secrets of every form in every wrapping must go, ordinary text must stay."""

import copy
import dataclasses
import io
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import tokens
from libs.redaction import REDACTED, Secret, redact, redact_value

# Without a form of its own: only the name gives it away.
PLAIN = "hunter2correcthorse"

SHAPED = {
    "openai": "sk-proj-Ab3dEf6hIj9_Kl-MnOpQrStUv",
    "openai, old": "sk-abcdefghijklmnopqrstuvwxyz123456",
    "anthropic": "sk-ant-api03-Zx9_cVb-nM12345678",
    "google": "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "google, new": "AQ.Ab8RN6JxY_z0123456789-abcdef",
    "openrouter": "sk-or-v1-0123456789abcdef0123456789abcdef",
    "grok": "xai-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "sandbox": "sk-sandbox-0123456789",
    "vault service": "hvs.CAESIJ2x_3-AbCdEfGhIjKlMnOp",
    "vault batch": "hvb.AAAAAQJ2x_3-AbCdEfGhIjKlMnOp",
    "bao": "s.Q8sXk2mVb7Tn4LpWc9Rd1Zf3",
    "ciphertext": "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==",
    "session": tokens.mint(tokens.SESSION_PREFIX).reveal(),
    "api token": tokens.mint(tokens.API_TOKEN_PREFIX).reveal(),
    "pem": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf\nn5a8f1==\n-----END EC PRIVATE KEY-----",
    "pem, cut off": "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49",
}

WRAPPINGS = [
    "{}",
    "it was {}.",
    "({})",
    "«{}»",
    "ключ{}",
    "line\n{}",
    "line\\n{}",  # a line break in JSON within text
    "a%3D{}",
    "https://example.test/v1/{}?x=1",
    "key_{}",
    "x={};y=1",
]

NAMES = [
    "password",
    "Password",
    "current_password",
    "newPassword",
    "adminPassword",
    "api_key",
    "apiKey",
    "APIKEY",
    "OPENAI_API_KEY",
    "x-api-key",
    "X-Goog-Api-Key",
    "x-vault-token",
    "authorization",
    "Proxy-Authorization",
    "cookie",
    "Set-Cookie",
    "secret",
    "client_secret",
    "clientSecret",
    "secret_id",
    "KEY_VAULT_VAULT_SECRET_ID",
    "aws_secret_access_key",
    "token",
    "accessToken",
    "refresh_token",
    "root_token",
    "unseal_key",
    "private_key",
    "privateKey",
    "passphrase",
]

FILINGS = [
    "{n}={v}",
    "{n}: {v}",
    "{n} = {v}",
    "?{n}={v}&x=1",
    '{{"{n}": "{v}"}}',
    '{{"{n}":"{v}","x":1}}',
    '{{"{n}": ["{v}"]}}',
    "{{'{n}': '{v}'}}",
    "{{b'{n}': b'{v}'}}",
    "[('{n}', '{v}')]",
    "((b'{n}', b'{v}'),)",
    '[["{n}", "{v}"]]',
    "_Metadatum(key='{n}', value='{v}')",
    "Config({n}='{v}', x=1)",
    'Config({n}="{v}")',
    "Config({n}=u'{v}')",
    "{n} => '{v}'",
    '{{\\"{n}\\": \\"{v}\\"}}',
    '{{\\\\\\"{n}\\\\\\": \\\\\\"{v}\\\\\\"}}',
    "said\\n{n}: {v}",
    '{n}="{v}',  # cut off before its closing quote
    '{{"{n}": 7, "x_{n}": "{v}"}}',
]


class TestKeysByTheirForm:
    @pytest.mark.parametrize("wrapping", WRAPPINGS)
    @pytest.mark.parametrize("kind", SHAPED)
    def test_goes_from_any_wrapping(self, kind: str, wrapping: str) -> None:
        secret = SHAPED[kind]
        shown = redact(wrapping.format(secret))
        assert secret not in shown
        assert secret[len(secret) // 2 :] not in shown
        assert REDACTED in shown

    @pytest.mark.parametrize("kind", SHAPED)
    def test_goes_from_json_within_json_within_json(self, kind: str) -> None:
        text = json.dumps({"a": json.dumps({"b": json.dumps({"c": SHAPED[kind]})})})
        assert SHAPED[kind][-12:] not in redact(text)

    @given(st.text(), st.sampled_from(sorted(SHAPED)), st.text())
    def test_goes_from_between_any_words(self, before: str, kind: str, after: str) -> None:
        assert SHAPED[kind] not in redact(f"{before} {SHAPED[kind]} {after}")

    @pytest.mark.parametrize("kind", ["session", "api token"])
    @given(before=st.text(), after=st.text())
    def test_the_platforms_own_go_whatever_they_are_glued_to(self, kind: str, before: str, after: str) -> None:
        shown = redact(f"{before}{SHAPED[kind]}{after}")
        assert SHAPED[kind][10:] not in shown
        assert REDACTED in shown

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Basic", "basic"])
    @pytest.mark.parametrize("value", ["abc.DEF-ghi_123", "dXNlcjpwYXNz", "YWxhZGRpbjpvcGVuc2VzYW1l=="])
    def test_goes_after_an_authorization_scheme(self, scheme: str, value: str) -> None:
        assert value not in redact(f"sent {scheme} {value} to the provider")


class TestSecretsByTheirName:
    @pytest.mark.parametrize("filing", FILINGS)
    @pytest.mark.parametrize("name", NAMES)
    def test_goes_from_any_filing(self, name: str, filing: str) -> None:
        shown = redact(filing.format(n=name, v=PLAIN))
        assert PLAIN not in shown
        assert REDACTED in shown

    @pytest.mark.parametrize(
        "value", ["it's", 'a "quoted" word', "back\\slash", "ends in \\", "two\nlines", "ключ→日本", "a,b;c&d}e)f]"]
    )
    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_goes_whole_whatever_it_consists_of(self, value: str, depth: int) -> None:
        text: object = {"password": f"begin {value} finish"}
        for _ in range(depth):
            text = {"body": json.dumps(text, ensure_ascii=False)}
        shown = redact(str(text["body"]))  # type: ignore[index]
        assert "begin" not in shown
        assert "finish" not in shown

    @given(st.text())
    def test_goes_whole_from_the_repr_of_any_dict(self, value: str) -> None:
        shown = redact(repr({"password": f"<<<{value}>>>", "after": 1}))
        assert ">>>" not in shown
        assert shown.endswith("'after': 1}")

    @given(st.text())
    def test_goes_whole_from_any_json(self, value: str) -> None:
        shown = json.loads(redact(json.dumps({"password": value, "after": 1})))
        assert shown == {"password": REDACTED, "after": 1}

    def test_goes_from_the_text_of_an_exception(self) -> None:
        error = ValueError("connect failed", {"headers": [("x-api-key", PLAIN)], "password": PLAIN})
        assert PLAIN not in redact(f"{error!r} {error}")

    def test_cookies_go_to_the_last_one(self) -> None:
        assert PLAIN not in redact(f"Cookie: theme=dark; __Host-session={PLAIN}; last=1")

    @pytest.mark.parametrize("scheme", ["Digest", "Token", "Basic", "Bearer"])
    def test_the_scheme_of_an_authorization_does_not_shield_it(self, scheme: str) -> None:
        assert PLAIN not in redact(f"authorization: {scheme} {PLAIN}")

    @pytest.mark.parametrize("joint", ["?", "&", "&amp;", "\\u0026"])
    def test_goes_from_the_key_parameter_of_a_url(self, joint: str) -> None:
        shown = redact(f"GET https://host/v1/models{joint}key={PLAIN}&alt=sse")
        assert PLAIN not in shown
        assert shown.endswith("&alt=sse")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+psycopg://auth:{}@127.0.0.1:5432/realmultillm",
            "postgres://auth:p@ss@{}@db/realmultillm",
            "redis://:{}@cache:6379/0",
            "https://user:{}@example.test/",
        ],
    )
    def test_goes_from_the_authority_of_a_url(self, url: str) -> None:
        shown = redact(f"cannot connect to {url.format(PLAIN)} (3 tries)")
        assert PLAIN not in shown
        assert shown.endswith(" (3 tries)")


class TestOrdinaryText:
    @pytest.mark.parametrize(
        "text",
        [
            "prompt_tokens=5 completion_tokens=7",
            '{"usage":{"prompt_tokens":5,"total_tokens":12}}',
            "max_tokens: 1000",
            "token_id=token-of-usr_1 user=usr_0123456789abcdef0123456789abcdef",
            '{"keyHint": "3f9a", "key_hint": "3f9a"}',
            "request_id=0d5a3c1e-5b1f-4c55-9c55-1d1f2b3c4d5e",
            "the password is too short",
            "keys of the providers",
            "ask-for-something mask-everything task-scheduler",
            "Basic authentication is not supported. Bearer credentials, please",
            "https://api.openai.com/v1/chat/completions?stream=true&keys=2",
            "http://127.0.0.1:5101/path?email=someone@example.test",
            "someone@example.test wrote at 12:30:05",
            "/realmultillm.chat.v1.ChatService/StreamChatCompletion",
            "secrets.token_bytes(32)",
            "s.connect_to_the_database_of_the_service()",
            "2026-11-22T15:00:00.000000Z",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        ],
    )
    def test_stays_as_it_is(self, text: str) -> None:
        assert redact(text) == text

    @given(st.text(alphabet=st.characters(categories=["L", "Zs"])))
    def test_words_stay_whatever_the_language(self, text: str) -> None:
        assert redact(text) == text

    def test_only_the_value_goes(self) -> None:
        assert redact('{"a": 1, "apiKey": "x", "b": 2}') == f'{{"a": 1, "apiKey": "{REDACTED}", "b": 2}}'


class TestValues:
    def test_a_secret_goes_under_any_name(self) -> None:
        assert redact_value({"value": Secret(PLAIN), "rows": [Secret(PLAIN)]}) == {
            "value": REDACTED,
            "rows": [REDACTED],
        }

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("value", [PLAIN, PLAIN.encode(), [PLAIN], {"a": PLAIN}, 1234567890])
    def test_everything_under_a_secret_name_goes(self, name: str, value: object) -> None:
        assert redact_value({"outer": [{name: value}]}) == {"outer": [{name: REDACTED}]}

    @pytest.mark.parametrize("name", ["x-api-key", b"x-api-key"])
    def test_everything_paired_with_a_secret_name_goes(self, name: str | bytes) -> None:
        assert redact_value([(name, PLAIN), ("accept", "*/*")]) == [
            [name if isinstance(name, str) else repr(name), REDACTED],
            ["accept", "*/*"],
        ]

    def test_what_hides_itself_stays_hidden(self) -> None:
        @dataclasses.dataclass
        class Request:
            path: str
            body: bytes = dataclasses.field(repr=False)

        assert "path='/x'" in redact_value(Request("/x", PLAIN.encode()))
        assert PLAIN not in redact_value(Request("/x", PLAIN.encode()))

    def test_numbers_and_nothing_stay(self) -> None:
        assert redact_value({"prompt_tokens": 5, "ok": True, "ms": 1.5, "none": None, 3: (1, 2)}) == {
            "prompt_tokens": 5,
            "ok": True,
            "ms": 1.5,
            "none": None,
            "3": [1, 2],
        }


class TestSecret:
    secret = Secret(PLAIN)

    @pytest.mark.parametrize(
        "show",
        [
            str,
            repr,
            ascii,
            format,
            lambda s: f"{s}",
            lambda s: f"{s!s}",
            lambda s: f"{s!r}",
            lambda s: f"{s!a}",
            lambda s: f"{s:>40}",
            lambda s: "{}".format(s),  # noqa: UP032
            lambda s: "%s" % s,  # noqa: UP031
            lambda s: "%s and %r" % (s, s),  # noqa: UP031
            lambda s: "%(key)s" % {"key": s},  # noqa: UP031
            lambda s: str([s]),
            lambda s: repr({"key": s}),
            lambda s: str(ValueError(s)),
            lambda s: repr(KeyError(s)),
        ],
    )
    def test_does_not_show_itself(self, show: object) -> None:
        assert PLAIN not in show(self.secret)  # type: ignore[operator]

    def test_prints_closed(self) -> None:
        out = io.StringIO()
        print(self.secret, [self.secret], file=out)
        assert PLAIN not in out.getvalue()

    def test_logs_closed(self) -> None:
        out = io.StringIO()
        logger = logging.Logger("test")  # noqa: LOG001 - one that no other test sees
        logger.addHandler(logging.StreamHandler(out))
        logger.warning("key %s %r", self.secret, self.secret)
        logger.warning(self.secret)
        assert out.getvalue().count(REDACTED) == 3
        assert PLAIN not in out.getvalue()

    def test_a_dataclass_shows_it_closed(self) -> None:
        @dataclasses.dataclass
        class Settings:
            url: Secret

        assert PLAIN not in repr(Settings(self.secret))
        assert PLAIN not in str(dataclasses.asdict(Settings(self.secret)))

    def test_a_traceback_shows_it_closed(self) -> None:
        try:
            raise RuntimeError(self.secret)
        except RuntimeError:
            assert PLAIN not in traceback.format_exc()

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_stays_closed_through_pickle(self, protocol: int) -> None:
        again = pickle.loads(pickle.dumps(self.secret, protocol))
        assert type(again) is Secret
        assert again.reveal() == PLAIN

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    def test_stays_closed_when_copied(self, duplicate: object) -> None:
        assert type(duplicate(self.secret)) is Secret  # type: ignore[operator]

    def test_reveals_plain_text_of_the_plain_type(self) -> None:
        assert self.secret.reveal() == PLAIN
        assert type(self.secret.reveal()) is str
