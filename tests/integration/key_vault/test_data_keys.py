"""Data keys: made for an account, opened for it alone, and wrapped anew without being opened."""

from __future__ import annotations

import grpc
import pytest
from realmultillm.keyvault.v1 import encryption_key_service_pb2 as encryption_keys

from libs.sealed_content import KEY_BYTES, DataKey, seal, unseal
from libs.worker.data_keys import connect_data_keys
from tests.integration.key_vault.deployment import Replica
from tests.support.rpc import Identities, violations
from tests.support.waiting import eventually

State = encryption_keys.KeyRotation.State
TAMPERED = "vault:v1:" + "A" * 80


class TestDataKeys:
    async def test_a_worker_seals_and_the_owner_alone_opens(self, replica: Replica, identity: Identities):
        async with connect_data_keys(replica.address, identity("worker-openai")) as keys:
            made, same, others = await keys.of("usr_1"), await keys.of("usr_1"), await keys.of("usr_2")
        sealed = seal(made.key, b"what was said", record_id="rec_1", user_id="usr_1")
        owner = await replica.data_keys("analytics", user_id="usr_1")

        opened = await owner.unwrap(others.wrapped, made.wrapped, TAMPERED, made.wrapped)

        assert same is made
        assert [len(key) for key in opened] == [0, KEY_BYTES, 0, KEY_BYTES]
        assert unseal(DataKey(opened[1]), sealed, record_id="rec_1", user_id="usr_1") == b"what was said"

    async def test_a_rotation_is_for_new_ones_and_rewrapping_for_the_others(self, replica: Replica):
        worker, analytics = await replica.data_keys("worker-openai"), await replica.data_keys("analytics")
        owner, admin = await replica.data_keys("analytics", user_id="usr_1"), await replica.key_admin()
        before = await worker.generate("usr_1")
        minimum = (await admin.key("chat-history")).min_decryption_version
        begun = await admin.rotate("chat-history")
        key = await eventually(lambda: admin.key("chat-history"), lambda key: bool(key.rotation.state != State.RUNNING))
        after = await worker.generate("usr_1")

        rewrapped, *refused = await analytics.rewrap(
            ("usr_1", before.wrapped_key), ("usr_2", before.wrapped_key), ("usr_1", TAMPERED)
        )

        assert key.rotation.state == State.COMPLETED
        assert "earlier versions, which still open them" in key.rotation.message
        assert key.min_decryption_version == minimum
        assert refused == ["", ""]
        for wrapped in (after.wrapped_key, rewrapped):
            assert wrapped.startswith(f"vault:v{begun.target_version}:")
        assert await owner.unwrap(before.wrapped_key, rewrapped) == [before.key, before.key]

    async def test_a_whole_page_is_opened_by_one_call(self, replica: Replica):
        worker, owner = await replica.data_keys("worker-openai"), await replica.data_keys("analytics", user_id="usr_1")
        made = await worker.generate("usr_1")

        assert await owner.unwrap(*[made.wrapped_key] * 500) == [made.key] * 500
        assert len(await (await replica.data_keys("analytics")).rewrap(*[("usr_1", made.wrapped_key)] * 500)) == 500

    async def test_what_cannot_be_a_key_is_told_together(self, replica: Replica):
        analytics, owner = await replica.data_keys("analytics"), await replica.data_keys("analytics", user_id="usr_1")
        with pytest.raises(grpc.aio.AioRpcError) as wrong_keys:
            await analytics.rewrap(("", "vault:v1:"), ("usr_1", "not wrapped"))
        with pytest.raises(grpc.aio.AioRpcError) as no_keys:
            await owner.unwrap()
        with pytest.raises(grpc.aio.AioRpcError) as no_owner:
            await (await replica.data_keys("worker-openai")).generate("")

        assert violations(wrong_keys.value) == ["keys[1].wrappedKey", "keys[0].userId"]
        assert violations(no_keys.value) == ["wrappedKeys"]
        assert violations(no_owner.value) == ["userId"]

    @pytest.mark.parametrize("service", ["envoy", "worker-openai", "provider-router"])
    async def test_nobody_but_analytics_opens_them(self, replica: Replica, service: str):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await (await replica.data_keys(service, user_id="usr_1")).unwrap(TAMPERED)

        assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED
