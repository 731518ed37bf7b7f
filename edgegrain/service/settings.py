"""The service's configuration: one frozen object, read from the environment by whoever starts the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from codec_contract.errors import ServiceError

ENVIRONMENT_PREFIX = "EDGEGRAIN_SERVE_"
MIN_TOKEN_LENGTH = 16


def _ascending(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if not sizes or sizes[0] != 1 or any(low >= high for low, high in zip(sizes, sizes[1:], strict=False)):
        raise ValueError("batch sizes begin with 1 and ascend, for instance 1,2,4,8")
    return sizes


def _long_enough(tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for token in tokens:
        text = token.get_secret_value()
        if len(text) < MIN_TOKEN_LENGTH or not text.isascii() or any(character.isspace() for character in text):
            raise ValueError(f"a token is at least {MIN_TOKEN_LENGTH} ASCII characters without spaces")
    return tokens


class Settings(BaseSettings):
    """Everything that can be set; each field is also the variable ``EDGEGRAIN_SERVE_<FIELD>``.

    Lists are written with commas. Times are seconds.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port; 0 takes a free one and logs it.")
    bundles: Annotated[tuple[str, ...], NoDecode] = Field(
        ("faces",), min_length=1, description="Ids, aliases or folders of the bundles that are served.")

    device: Literal["cpu", "cuda"] = Field("cpu", description="Where decoders run; never another than asked for.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes; each holds every bundle.")
    threads: int | None = Field(None, ge=1, description="Threads of a worker's networks on the CPU; unset: all cores.")
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], NoDecode, AfterValidator(_ascending)] = (
        Field((1, 2, 4, 8), description="Batches that are formed, each warmed up before the service is ready."))
    batch_wait: float = Field(0.002, ge=0, le=1, description="How long an idle worker waits for others that are about.")

    queue_size: int = Field(128, ge=1, le=100_000, description="Pictures that may wait; more are refused with 503.")
    deadline: float = Field(10, gt=0, le=600, description="A request that is not answered by then gets 503.")
    body_timeout: float = Field(10, gt=0, le=600, description="A body that has not arrived by then gets 408.")
    worker_timeout: float = Field(60, gt=0, le=3600, description="A batch that takes longer costs its worker its life.")
    start_timeout: float = Field(300, gt=0, le=3600, description="A worker that is not warm by then is started anew.")

    max_picture_bytes: int = Field(16 << 20, ge=1, description="Largest body of /v1/compress.")
    max_pixels: int = Field(1 << 24, ge=1, le=1 << 28, description="Largest picture that is read or made, in pixels.")
    max_batch_items: int = Field(32, ge=1, le=1024, description="Most payloads in one multipart request.")
    max_bytes_in_flight: int = Field(
        256 << 20, ge=1 << 20, description="Bodies of all requests together; more are refused with 503.")

    tokens: Annotated[tuple[SecretStr, ...], NoDecode, AfterValidator(_long_enough)] = Field(
        (), description="Bearer tokens, one of which /v1 and /metrics then require.")
    tokens_file: Path | None = Field(None, description="A file of such tokens, one a line.")
    rate_limit: float = Field(0, ge=0, description="Pictures per second and client (token, else address); 0: no limit.")
    rate_burst: int = Field(20, ge=1, description="Pictures a client may send at once under a rate limit.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field((), description="Origins whose pages may call; none.")
    trusted_proxies: str = Field("127.0.0.1", description="Addresses whose X-Forwarded-For is believed.")
    docs: bool = Field(True, description="Serve the interactive documentation at /docs.")
    page: bool = Field(True, description="Serve the demonstration page at /.")

    drain_delay: float = Field(
        0, ge=0, le=600, description="After SIGTERM: not ready, but serving, so that load balancers notice.")
    drain_timeout: int = Field(30, ge=1, le=3600, description="After that delay: time for what was accepted.")
    keep_alive: int = Field(30, ge=1, le=3600, description="Idle connections are kept that long.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("bundles", "batch_sizes", "tokens", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def all_tokens(self) -> tuple[SecretStr, ...]:
        """``tokens`` and those of ``tokens_file``.

        Raises:
            ServiceError: the file cannot be read, holds no token or one that is too short.
        """
        if self.tokens_file is None:
            return self.tokens
        try:
            lines = self.tokens_file.read_text("utf-8").split()
        except (OSError, ValueError) as error:
            raise ServiceError(f"cannot read the tokens file {self.tokens_file}: {error}") from error
        if not lines:
            raise ServiceError(f"the tokens file {self.tokens_file} holds no token; put one on each line")
        try:
            return self.tokens + _long_enough(tuple(SecretStr(line) for line in lines))
        except ValueError as error:
            raise ServiceError(f"the tokens file {self.tokens_file}: {error}") from error
