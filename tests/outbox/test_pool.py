"""The pool over real HTTP: order, retries with the same id, and nobody held up by anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

from reconciler.ledger.changes import Filter
from reconciler.ledger.subscriptions import Form, Ordering, Standing, Subscription
from reconciler.outbox.policy import Policy
from tests.ledger.factories import DEEPEST, nested, ref, tombstone
from tests.outbox.harness import QUICK, Answer, Told, node, receiving, until

ERP = Subscription("erp", "")


def story(told: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(told())


def test_each_version_is_told_thin_signed_and_in_order(ledger_url: str) -> None:
    async def told() -> None:
        async with receiving() as receiver, node(ledger_url, [replace(ERP, url=receiver.url)]) as at:
            for value in (1, 2):
                await at.change(ref("ch_1"), value, minute=value)
            await at.read(ref("ch_1"), tombstone(ref("ch_1")), minute=3)
            await until(lambda: len(receiver.told) == 3)
            first, second, third = receiver.told
            assert first.message["type"] == "resource.changed"
            assert first.data | {"recorded_at": ""} == {
                "ref": "stripe/main/charge/ch_1",
                "version": 1,
                "previous_version": None,
                "state": "present",
                "cause": "manual",
                "changed": ["*"],
                "recorded_at": "",
                "url": "https://books.example/api/v1/resources/stripe/main/charge/ch_1",
            }
            assert (second.data["version"], second.data["previous_version"], second.data["changed"]) == (
                2,
                1,
                ["value"],
            )
            assert (third.data["version"], third.data["state"], third.data["changed"]) == (3, "deleted", ["*"])
            assert len({each.id for each in receiver.told}) == 3
            await until(lambda: set(at.outcomes().values()) == {"delivered"})
            attempts = at.ledger.telling.attempts("erp")
            assert [(each.attempt.status, each.attempt.answer) for each in attempts] == [(200, b"ok")] * 3
            assert {each.attempt.message_id for each in attempts} == {each.id for each in receiver.told}

    story(told)


def test_the_full_form_brings_the_state_along(sqlite_ledger_url: str) -> None:
    async def told() -> None:
        async with (
            receiving() as receiver,
            node(sqlite_ledger_url, [replace(ERP, url=receiver.url, form=Form.FULL)]) as at,
        ):
            values = [{"deep": [1]}, nested(DEEPEST)]
            for minute, value in enumerate(values):
                await at.change(ref("ch_1"), value, minute=minute)
            await until(lambda: len(receiver.told) == 2)
            assert [each.data["body"] for each in receiver.told] == [{"id": "ch_1", "value": each} for each in values]

    story(told)


def test_what_fails_is_sent_again_with_the_same_id_and_bytes(ledger_url: str) -> None:
    failing = {"left": 3}

    def answering(_: Told) -> Answer:
        failing["left"] -= 1
        return Answer(500) if failing["left"] >= 0 else Answer()

    async def told() -> None:
        async with receiving(answering=answering) as receiver, node(ledger_url, [replace(ERP, url=receiver.url)]) as at:
            await at.change(ref("ch_1"), 1)
            await until(lambda: len(receiver.told) == 4)
            assert len({(each.id, each.body) for each in receiver.told}) == 1
            await until(lambda: set(at.outcomes().values()) == {"delivered"})
            subscriber = at.ledger.telling.subscriber("erp")
            assert subscriber is not None
            assert (subscriber.failures, subscriber.failing_since) == (0, None), "and it has recovered"

    story(told)


def test_a_resource_waits_for_its_own_older_version_and_for_nobody_elses(ledger_url: str) -> None:
    healed = {"ch_1": False}

    def answering(told: Told) -> Answer:
        return Answer(500) if told.what == ("ch_1", 1) and not healed["ch_1"] else Answer()

    async def told() -> None:
        async with receiving(answering=answering) as receiver, node(ledger_url, [replace(ERP, url=receiver.url)]) as at:
            await at.change(ref("ch_1"), 1, minute=1)
            await until(lambda: len(receiver.told) >= 1)
            await at.change(ref("ch_1"), 2, minute=2)
            await at.change(ref("ch_2"), 1, minute=3)
            await until(lambda: ("ch_2", 1) in receiver.what and receiver.what.count(("ch_1", 1)) >= 3)
            assert ("ch_1", 2) not in receiver.what
            healed["ch_1"] = True
            await until(lambda: ("ch_1", 2) in receiver.what)
            await until(lambda: set(at.outcomes().values()) == {"delivered"})

    story(told)


def test_whoever_wants_the_newest_is_spared_what_it_overtook(ledger_url: str) -> None:
    async def told() -> None:
        async with receiving() as receiver:
            erp = replace(ERP, url=receiver.url, ordering=Ordering.NEWEST)
            async with node(ledger_url, [erp]) as at:
                receiver.hold.clear()
                await at.change(ref("ch_1"), 1, minute=1)
                await until(lambda: receiver.what == [("ch_1", 1)])
                for value in (2, 3, 4):
                    await at.change(ref("ch_1"), value, minute=value)
                receiver.hold.set()
                await until(lambda: receiver.what == [("ch_1", 1), ("ch_1", 4)])
                assert receiver.told[1].data["previous_version"] == 3, "so that the gap can be seen"
                await until(lambda: sorted(map(str, at.outcomes().values())) == ["delivered"] * 2 + ["skipped"] * 2)

    story(told)


def test_gone_is_gone_until_somebody_resumes(ledger_url: str) -> None:
    answers = [Answer(410)]

    async def told() -> None:
        async with (
            receiving(answering=lambda _: answers[0]) as receiver,
            node(ledger_url, [replace(ERP, url=receiver.url)]) as at,
        ):
            await at.change(ref("ch_1"), 1)

            def standing() -> Standing | None:
                subscriber = at.ledger.telling.subscriber("erp")
                return None if subscriber is None else subscriber.standing

            await until(lambda: standing() is Standing.DISABLED)
            await at.change(ref("ch_2"), 1)
            assert len(receiver.told) == 1
            assert set(at.outcomes().values()) == {None}, "nothing is lost meanwhile"
            answers[0] = Answer()
            now = at.ledger.telling.subscribers()[0].changed_at
            await at.commit.call(lambda ledger: ledger.telling.stand("erp", Standing.ACTIVE, "", now))
            at.applied.ring()
            await until(lambda: set(at.outcomes().values()) == {"delivered"})
            assert receiver.told[0].id in [each.id for each in receiver.told[1:]]

    story(told)


def test_a_subscriber_that_asks_for_time_gets_it(sqlite_ledger_url: str) -> None:
    async def told() -> None:
        async with (
            receiving(answering=lambda _: Answer(429, {"retry-after": "3600"})) as receiver,
            node(sqlite_ledger_url, [replace(ERP, url=receiver.url)]) as at,
        ):
            await at.change(ref("ch_1"), 1)
            await until(lambda: at.ledger.telling.subscribers()[0].failures == 1)
            await at.change(ref("ch_2"), 1)
            (subscriber,) = at.ledger.telling.subscribers()
            (attempt,) = at.ledger.telling.attempts("erp")
            assert subscriber.shut_until - attempt.attempt.at > timedelta(minutes=59)
            (door,) = at.ledger.telling.doors()
            assert door.ready_at == subscriber.shut_until, "nothing else is sent before it either"

    story(told)


def test_only_the_fields_that_somebody_wants_are_told(ledger_url: str) -> None:
    async def told() -> None:
        async with receiving() as receiver:
            erp = replace(ERP, url=receiver.url, wanted=Filter(fields=frozenset({"value.status"})))
            async with node(ledger_url, [erp]) as at:
                await at.change(ref("ch_1"), {"status": "a", "note": 1}, minute=1)
                await at.change(ref("ch_1"), {"status": "a", "note": 2}, minute=2)
                await at.change(ref("ch_1"), {"status": "b", "note": 2}, minute=3)
                await until(lambda: len(at.outcomes()) == 3 and None not in at.outcomes().values())
                assert receiver.what == [("ch_1", 1), ("ch_1", 3)]
                assert sorted(map(str, at.outcomes().values())) == ["delivered", "delivered", "filtered"]

    story(told)


def test_a_dead_letter_lets_the_next_version_go_and_is_sent_when_asked_for(ledger_url: str) -> None:
    refused = {"ch_1": True}
    policy = replace(QUICK, attempts=2, give_up_after=timedelta(0))

    def answering(told: Told) -> Answer:
        return Answer(400, body=b"no") if told.what == ("ch_1", 1) and refused["ch_1"] else Answer()

    async def told() -> None:
        async with (
            receiving(answering=answering) as receiver,
            node(ledger_url, [replace(ERP, url=receiver.url)], policy=policy) as at,
        ):
            await at.change(ref("ch_1"), 1, minute=1)
            await at.change(ref("ch_1"), 2, minute=2)
            await until(lambda: ("ch_1", 2) in receiver.what)
            (dead,) = at.ledger.telling.dead("erp")
            assert (dead.ref, dead.version, dead.attempts, dead.error) == (ref("ch_1"), 1, 2, "answered 400")
            refused["ch_1"] = False
            now = dead.ended_at
            assert await at.commit.call(lambda ledger: ledger.telling.revive("erp", None, now)) == 1
            at.applied.ring()
            await until(lambda: receiver.what.count(("ch_1", 1)) == 3)
            await until(lambda: set(at.outcomes().values()) == {"delivered"})
            assert len({each.id for each in receiver.told if each.what == ("ch_1", 1)}) == 1

    story(told)


def test_one_who_hangs_holds_up_nobody_else(ledger_url: str) -> None:
    async def told() -> None:
        async with receiving() as hanging, receiving() as receiver:
            hanging.hold.clear()
            both = [Subscription("hangs", hanging.url), Subscription("well", receiver.url)]
            async with node(ledger_url, both) as at:
                for number in range(8):
                    await at.change(ref(f"ch_{number}"), 1)
                await until(lambda: len(receiver.told) == 8)
                assert len(hanging.told) == 1, "it has earned one request at a time, and that one hangs"

    story(told)


def test_redirects_are_failures_and_long_answers_are_cut(sqlite_ledger_url: str) -> None:
    async def told() -> None:
        async with receiving() as other, receiving() as receiver:
            answers = [Answer(307, {"location": other.url}), Answer(200, body=b"x" * 1_000_000)]
            receiver.answering = lambda _: answers.pop(0) if len(answers) > 1 else answers[0]
            async with node(sqlite_ledger_url, [replace(ERP, url=receiver.url)]) as at:
                await at.change(ref("ch_1"), 1)
                await until(lambda: set(at.outcomes().values()) == {"delivered"})
            assert other.told == []
            second, first = at.ledger.telling.attempts("erp")
            assert (first.attempt.status, second.attempt.status) == (307, 200)
            assert second.attempt.answer == b"x" * 1024

    story(told)


def test_two_nodes_tell_everything_once(postgres_ledger_url: str) -> None:
    async def told() -> None:
        async with receiving() as receiver:
            erp = replace(ERP, url=receiver.url)
            async with node(postgres_ledger_url, [erp]) as one, node(postgres_ledger_url, [erp], owner="node2") as two:
                for value in range(5):
                    for number in range(4):
                        await (one, two)[number % 2].change(ref(f"ch_{number}"), value, minute=value)
                await until(lambda: len(one.outcomes()) == 20 and None not in one.outcomes().values())
            assert sorted(receiver.what) == [(f"ch_{n}", v) for n in range(4) for v in range(1, 6)]
            for number in range(4):
                assert [v for name, v in receiver.what if name == f"ch_{number}"] == [1, 2, 3, 4, 5]

    story(told)


def test_the_defaults_try_for_three_days() -> None:
    policy = Policy()
    spent, attempts = timedelta(0), 1
    while not (attempts >= policy.attempts and spent >= policy.give_up_after):
        spent += policy.backoff(attempts, 0.99)
        attempts += 1
    assert attempts > 10
    assert timedelta(days=3) <= spent < timedelta(days=3, hours=1)
    assert [round(policy.backoff(n, 1).total_seconds()) for n in (1, 2, 3, 12, 13, 50)] == [1, 2, 4, 2048, 3600, 3600]
