"""Settings of the language model that explains alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from flows.settings.detection import SeverityName
from flows.settings.section import Section
from flows.settings.units import Count, Duration, Names, parse_duration

DEFAULT_URL: Final = "https://api.openai.com/v1"
"""Service that is asked when a model is named and no address."""

WANTED_URL: Final = "the address of a service such as https://host/v1, without user and password"


def _address(value: Any) -> Any:
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else ""
    try:
        url = urlsplit(text)
        # Reading the port is what checks it.
        there = url.scheme in ("http", "https") and url.hostname and url.port != 0
        # A password here would be shown where the address is.
        if there and url.username is None and not url.query and not url.fragment:
            return text.rstrip("/")
    except ValueError:
        pass
    raise ValueError(WANTED_URL)


def _positive(value: Any) -> timedelta:
    duration = parse_duration(value)
    if duration <= timedelta():
        msg = "more than 0s"
        raise ValueError(msg)
    return duration


def _switch(value: Any) -> Any:
    # YAML reads a bare `on` or `off` as true or false.
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Address = Annotated[str | None, BeforeValidator(_address)]
Positive = Annotated[Duration, BeforeValidator(_positive)]
Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


class Llm(Section):
    """The language model that explains alerts; nothing leaves this machine unless it is on.

    Attributes:
        enabled: Whether it is asked; unset means: when a model and an address or a key are set
            here. Variables of other programs (``OPENAI_API_KEY``) are never looked at.
        base_url: Service that speaks OpenAI's protocol; unset means OpenAI's own.
        model: Name of the model there.
        api_key: Key of the service.
        pseudonymise: Whether addresses of our networks and names are replaced on the way out;
            ``auto``: unless the service is on a loopback or private address.
        min_severity: Alerts less severe are explained by templates only.
        detectors: Detectors or rules whose alerts are explained by the model; empty means all.
        timeout: Longest wait for one answer.
        deadline: Longest time from an alert to its explanation, tries and waiting included.
        concurrency: Requests at a time.
        requests_per_hour: Most requests of a job in any hour; `netspectra ask` counts those of each
            user by themselves.
        tokens_per_hour: Most tokens in any hour, of questions and answers together, counted alike.
        kind_share: Share of both that alerts of one rule may use.
        max_per_alert: How often one alert is explained, when it has grown much since.
        max_answer_tokens: Longest answer.
    """

    enabled: bool | None = None
    base_url: Address = None
    model: str | None = None
    api_key: SecretStr | None = None
    pseudonymise: Switch = "auto"
    min_severity: SeverityName = "low"
    detectors: Names = ()
    timeout: Positive = timedelta(seconds=60)
    deadline: Positive = timedelta(minutes=15)
    concurrency: Annotated[Count, Field(ge=1, le=32)] = 2
    requests_per_hour: Annotated[Count, Field(ge=0)] = 60
    tokens_per_hour: Annotated[Count, Field(ge=0)] = 500_000
    kind_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_per_alert: Annotated[Count, Field(ge=1, le=100)] = 3
    max_answer_tokens: Annotated[Count, Field(ge=200, le=32_000)] = 2000

    @property
    def on(self) -> bool:
        """Whether the model is asked."""
        if self.enabled is not None:
            return self.enabled
        return bool(self.model and (self.base_url or self.api_key))

    @property
    def url(self) -> str:
        """Address of the service."""
        return self.base_url or DEFAULT_URL
