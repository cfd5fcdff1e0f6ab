"""From settings to what Kafka clients want to be told, in one place for aiokafka and for Faust."""

import ssl
from pathlib import Path
from typing import Any

from stream.settings import KafkaSettings

# Shown to operators by the broker's own tools; import names of this package never leave the process.
CLIENT_NAME = "sluicegate"


class ConnectionProblem(Exception):
    """The broker cannot be used; the message is one line and names the place and the remedy."""


def group_name(prefix: str, agent: str) -> str:
    """The consumer group of an agent."""
    return f"{prefix}-{agent}"


def tls_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """TLS context of the settings, or None for a plaintext transport.

    Raises:
        ConnectionProblem: a certificate or key file cannot be used.
    """
    if settings.security not in ("tls", "sasl_tls"):
        return None
    try:
        context = ssl.create_default_context(cafile=_text(settings.ca_file))
        context.check_hostname = settings.check_hostname
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        files = [str(f) for f in (settings.ca_file, settings.certificate_file, settings.key_file) if f]
        message = f"kafka TLS files cannot be used ({', '.join(files) or 'system authorities'}): {error}"
        raise ConnectionProblem(message) from None
    return context


def password(settings: KafkaSettings) -> str:
    """The SASL password: the first line of its file, else the setting.

    Raises:
        ConnectionProblem: the file cannot be read.
    """
    if settings.sasl_password_file is None:
        return settings.sasl_password.get_secret_value()
    try:
        lines = settings.sasl_password_file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"kafka.sasl_password_file cannot be read: {error}"
        raise ConnectionProblem(message) from None
    return lines[0] if lines else ""


def client_arguments(settings: KafkaSettings, role: str) -> dict[str, Any]:
    """Keyword arguments common to aiokafka's producer, consumer and admin client.

    Args:
        settings: the broker.
        role: what the client is for; ends its client id.

    Raises:
        ConnectionProblem: a certificate, key or password file cannot be used.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "client_id": f"{CLIENT_NAME}-{role}",
        "request_timeout_ms": int(settings.request_timeout_s * 1000),
        "security_protocol": {
            "plaintext": "PLAINTEXT",
            "tls": "SSL",
            "sasl_plaintext": "SASL_PLAINTEXT",
            "sasl_tls": "SASL_SSL",
        }[settings.security],
    }
    context = tls_context(settings)
    if context is not None:
        arguments["ssl_context"] = context
    if settings.security.startswith("sasl"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = password(settings)
    return arguments


def unreachable(settings: KafkaSettings, error: BaseException) -> ConnectionProblem:
    """The one line for a broker that does not answer."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return ConnectionProblem(
        f"no Kafka broker answers at {settings.bootstrap} ({reason}); "
        "start one, or set kafka.bootstrap to where yours listens"
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
