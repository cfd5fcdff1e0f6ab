"""An operator's command: signed here, sent on commands.v1, and what the responder says to it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from response.settings import CommandSettings
from response.signing import Signer, load_signer
from schemas.action import Action
from schemas.command import Command, Verb
from schemas.topics import COMMANDS
from schemas.word import iso_time
from sluicegate.action_reader import read_actions
from sluicegate.problems import CommandProblem
from stream.connection import client_arguments, unreachable
from stream.settings import KafkaSettings

# A command may take several steps; this long after the last one nothing more is expected.
_SETTLED_S = 1.0


@dataclass(frozen=True)
class Wish:
    """What the operator wants."""

    verb: Verb
    target: str
    cluster: str
    reason: str = ""
    seconds: int = 0


def signer_of(settings: CommandSettings) -> Signer:
    """The key by which this machine's operator signs.

    Raises:
        CommandProblem: no key is configured.
        KeyFileError: the file cannot be used.
    """
    if settings.private_key_file is None or not settings.key_id:
        message = (
            "no key to sign with: set response.commands.private_key_file and response.commands.key_id "
            "(SLUICEGATE_RESPONSE__COMMANDS__PRIVATE_KEY_FILE, __KEY_ID); sluicegate keys new makes one"
        )
        raise CommandProblem(message)
    return load_signer(settings.private_key_file, settings.key_id)


def make_command(wish: Wish, signer: Signer, now: float) -> Command:
    """The signed command of a wish; `now` is s since epoch."""
    return signer.sign(
        Command(
            id=secrets.token_hex(16),
            cluster=wish.cluster,
            verb=wish.verb,
            target=wish.target,
            seconds=wish.seconds,
            reason=wish.reason,
            issued_at=iso_time(now),
        )
    )


async def send(kafka: KafkaSettings, command: Command, wait_s: float) -> list[Action]:
    """Send a command, durable when this returns, and give what the responder says within a time.

    Raises:
        ConnectionProblem: the broker does not answer.
    """
    async with aclosing(read_actions(kafka, None, follow=True)) as audit:
        # The first look places the reader at the end, before anything can be said.
        await anext(audit)
        producer = AIOKafkaProducer(**client_arguments(kafka, "command"), acks="all")
        try:
            await producer.start()
            topic = COMMANDS.name(kafka.prefix)
            await producer.send_and_wait(topic, command.encode(), key=command.target.encode())
        except (KafkaError, OSError) as error:
            raise unreachable(kafka, error) from None
        finally:
            await producer.stop()
        return await _answers(audit, command, wait_s)


async def _answers(audit: AsyncIterator[Action | None], command: Command, wait_s: float) -> list[Action]:
    found: list[Action] = []
    until = time.monotonic() + wait_s
    async for action in audit:
        if action is not None and answers(action, command):
            found.append(action)
            until = min(until, time.monotonic() + _SETTLED_S)
        elif time.monotonic() > until:
            break
    return found


def answers(action: Action, command: Command) -> bool:
    """Whether a step of the audit is about a command; what was not believed is known by its target only."""
    if action.command_id is not None:
        return action.command_id == command.id
    return action.target == command.target and action.message.startswith(f"command {command.verb}: ")


def sent(kafka: KafkaSettings, command: Command, wait_s: float) -> list[Action]:
    """`send` in a loop of its own."""
    return asyncio.run(send(kafka, command, wait_s))
