"""Sealed content opens for the record and the account that it was sealed for, unaltered, and in no other case."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from libs.sealed_content import KEY_BYTES, ContentDoesNotOpen, DataKey, seal, unseal

KEY = DataKey(bytes(range(KEY_BYTES)))
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CONTENTS = st.binary(max_size=200)


class TestOpening:
    @given(CONTENTS, IDS, IDS)
    def test_gives_back_what_was_sealed(self, content: bytes, record_id: str, user_id: str):
        sealed = seal(KEY, content, record_id=record_id, user_id=user_id)

        assert unseal(KEY, sealed, record_id=record_id, user_id=user_id) == content

    # Pairs that read the same when written one after the other are among them.
    @given(CONTENTS, st.text("ab", max_size=3), st.text("ab", max_size=3), st.text("ab", max_size=3))
    def test_fails_for_another_record_or_account(self, content: bytes, one: str, two: str, three: str):
        pairs = {(one + two, three), (one, two + three), (three, one + two), (one, three), ("", one + two + three)}
        for place in pairs:
            sealed = seal(KEY, content, record_id=place[0], user_id=place[1])
            for record_id, user_id in pairs - {place}:
                with pytest.raises(ContentDoesNotOpen):
                    unseal(KEY, sealed, record_id=record_id, user_id=user_id)

    @given(CONTENTS, st.data())
    def test_fails_when_a_bit_is_another(self, content: bytes, data: st.DataObject):
        sealed = bytearray(seal(KEY, content, record_id="rec_1", user_id="usr_1"))
        bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
        sealed[bit // 8] ^= 1 << bit % 8

        with pytest.raises(ContentDoesNotOpen):
            unseal(KEY, bytes(sealed), record_id="rec_1", user_id="usr_1")

    @given(CONTENTS, st.data())
    def test_fails_when_a_part_is_missing_or_added(self, content: bytes, data: st.DataObject):
        sealed = seal(KEY, content, record_id="rec_1", user_id="usr_1")
        cut = data.draw(st.integers(0, len(sealed) - 1))
        for other in (sealed[:cut], sealed[cut + 1 :], sealed + b"\0"):
            with pytest.raises(ContentDoesNotOpen):
                unseal(KEY, other, record_id="rec_1", user_id="usr_1")

    def test_fails_with_another_key(self):
        sealed = seal(KEY, b"content", record_id="rec_1", user_id="usr_1")

        with pytest.raises(ContentDoesNotOpen):
            unseal(DataKey(bytes(KEY_BYTES)), sealed, record_id="rec_1", user_id="usr_1")


class TestForm:
    def test_is_a_version_a_nonce_and_what_aes_gcm_makes_of_the_rest(self):
        sealed = seal(KEY, b"content", record_id="rec_1", user_id="usr_22")

        assert sealed[0] == 1
        bound = b"\x01\x00\x00\x00\x05rec_1\x00\x00\x00\x06usr_22"
        assert AESGCM(bytes(range(KEY_BYTES))).decrypt(sealed[1:13], sealed[13:], bound) == b"content"

    def test_every_record_has_a_nonce_of_its_own(self):
        nonces = {seal(KEY, b"", record_id="rec_1", user_id="usr_1")[1:13] for _ in range(1_000)}

        assert len(nonces) == 1_000

    def test_the_cipher_is_the_published_one(self):
        # Test case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)": AES-256, with associated data.
        key = DataKey(bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2))
        plaintext = bytes.fromhex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        )
        associated = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")

        assert key.cipher().encrypt(bytes.fromhex("cafebabefacedbaddecaf888"), plaintext, associated).hex() == (
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
            "76fc6ece0f4e1768cddf8853bb2d551b"
        )


class TestDataKey:
    @pytest.mark.parametrize("length", [0, 16, 31, 33])
    def test_has_32_bytes(self, length: int):
        with pytest.raises(ValueError, match="32 bytes"):
            DataKey(bytes(length))

    def test_does_not_show_itself(self):
        assert repr(KEY) == f"{KEY}" == "DataKey('[redacted]')"

    def test_is_overwritten_when_nobody_holds_it(self):
        key = DataKey(b"k" * KEY_BYTES)
        memory = memoryview(key._bytes)
        del key

        assert bytes(memory) == bytes(KEY_BYTES)
