"""What OpenAI's model families take. https://platform.openai.com/docs/guides/reasoning

A model nobody here has heard of is taken for one of the newest family.
"""

from __future__ import annotations

import re

from libs.worker.openai_dialect import ModelRules

# Families that do not reason, fine-tuned ones (`ft:gpt-4o:…`) included.
_WITHOUT_REASONING = re.compile(r"(ft:)?(gpt-3|gpt-4|chatgpt-|davinci|babbage)|gpt-[5-9][^-]*-chat")
# From 5.1 on a model can be told not to reason, and then takes what models without reasoning take.
_ALWAYS_REASONING = re.compile(r"(ft:)?(o\d|gpt-5(-|$))")

_EFFORTS = (
    (re.compile(r"(ft:)?o\d"), ("low", "medium", "high")),
    (re.compile(r"gpt-5(-|$)"), ("minimal", "low", "medium", "high")),
    (re.compile(r"gpt-5\.1"), ("none", "low", "medium", "high")),
    (re.compile(r"gpt-5\.[2-5]"), ("none", "low", "medium", "high", "xhigh")),
)

# Families that do not chat: for embeddings, moderation, sound, pictures and films, to complete a text, and those that
# are offered over another API only. What takes or gives sound and no text alone is among them.
_NO_CHATS = re.compile(
    r"(ft:)?("
    r"text-(embedding|moderation)|omni-moderation|whisper|tts-|dall-e|sora|computer-use|"
    r"babbage|davinci|gpt-3\.5-turbo-instruct|"
    r"[^:]*-(audio|image|realtime|transcribe|tts|deep-research)(-|:|$)|"
    r"(o\d|gpt-5(\.5)?)-pro"
    r")"
)

_MOST_STOPS = 4

_PLAIN = ModelRules(most_stops=_MOST_STOPS, efforts=())


def chats(model: str) -> bool:
    """Tells whether a model answers chats; of one nobody here has heard of that is assumed.

    The families are those of the types of the official `openai` SDK, and of https://platform.openai.com/docs/models.
    """
    return _NO_CHATS.match(model) is None


def rules_of(model: str, effort: str) -> ModelRules:
    """Returns what a model takes when it is asked with this effort."""
    if _WITHOUT_REASONING.match(model):
        return _PLAIN
    efforts = next((efforts for family, efforts in _EFFORTS if family.match(model)), None)
    always = _ALWAYS_REASONING.match(model) is not None
    thinks = always or effort != "none"
    return ModelRules(
        system_role="developer",
        sampling=not thinks,
        penalties=not thinks,
        # Whether a newer model thinks when nobody says so differs, and stop texts are not ours to drop: it decides.
        stop=not (always or effort not in ("", "none")),
        most_stops=_MOST_STOPS,
        efforts=efforts,
    )
