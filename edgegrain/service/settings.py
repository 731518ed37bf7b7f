"""`Settings`: the service's configuration as one frozen object, read from the environment at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from codec_contract.errors import ServiceError
from codec_contract.fit import MAX_PHOTO_PIXELS
from edge_encoder.preprocessing import FORMATS

ENVIRONMENT_PREFIX = "EDGEGRAIN_SERVE_"
MIN_TOKEN_LENGTH = 16


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not parts:  # as tokens, it would let everyone in
        raise ValueError("it lists nothing; separate values with commas, or leave it unset")
    return parts


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_split)]  # a list, separated by commas


def _readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    named = tuple(name.upper() for name in formats)
    if not set(named) <= set(FORMATS):
        raise ValueError(f"formats are some of {', '.join(FORMATS)}")
    return named


def _long_enough(tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for token in tokens:
        text = token.get_secret_value()
        if len(text) < MIN_TOKEN_LENGTH or not text.isascii() or any(character.isspace() for character in text):
            raise ValueError(f"a token is at least {MIN_TOKEN_LENGTH} ASCII characters without spaces")
    return tokens


class Described(BaseModel):
    """A model of known fields, which are described by the texts below them, of one line or several."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split())


class Settings(Described, BaseSettings):
    """All settings; each field is also the environment variable ``EDGEGRAIN_SERVE_<FIELD>``.

    Lists are separated by commas. Times are in seconds.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all of IPv4, :: for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port; 0 picks a free one and logs it.")
    bundles: Listed[str] = Field(("faces", "faces-256-lr32"), min_length=1)
    """Ids, folders or hf:// names of the served bundles."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device of the decoders, without fallback to the other one."""
    decoder_form: Literal["auto", "default", "fused", "int8"] = "auto"
    """auto: the form of a bundle's decoder for the device, if it can run; default: never."""
    workers: int = Field(1, ge=1, le=64, description="Worker processes; each holds every bundle.")
    threads: int | None = Field(None, ge=1, le=4096)
    """Threads of a worker's networks on the CPU; unset: all cores."""
    batch_sizes: Annotated[
        Listed[Annotated[int, Field(ge=1, le=1024)]], AfterValidator(lambda sizes: tuple(sorted({1, *sizes})))
    ] = Field((1, 2, 4, 8), description="Batch sizes, besides 1; on CUDA each is warmed up at the start.")

    queue_size: int = Field(128, ge=1, le=100_000)
    """Most payloads that wait to be restored; more are refused with 503."""
    compress_queue_size: int = Field(64, ge=1, le=100_000)
    """Most pictures that wait to be compressed; more are refused with 503."""
    deadline: float = Field(10, gt=0, le=600, description="A request that is expected to take longer gets 503.")
    head_timeout: float = Field(75, gt=0, le=600)
    """A connection is closed if it sends no complete request head in this time; more than the 60 s for which load
    balancers keep idle ones."""
    body_timeout: float = Field(10, gt=0, le=600, description="A body that has not arrived by then gets 408.")
    worker_timeout: float = Field(30, gt=0, le=3600, description="A worker that exceeds this on a batch is killed.")
    start_timeout: float = Field(300, gt=0, le=3600, description="A worker that is not ready by then is restarted.")

    max_picture_bytes: int = Field(32 << 20, ge=1, description="Largest body of /v1/compress.")
    formats: Annotated[Listed[str], AfterValidator(_readable)] = Field(
        ("JPEG", "PNG", "WEBP", "HEIF"), description=f"Formats of pictures to read, some of {', '.join(FORMATS)}."
    )
    max_photo_pixels: int = Field(MAX_PHOTO_PIXELS, ge=1, le=1 << 28, description="Largest picture to read, in pixels.")
    max_pixels: int = Field(1 << 24, ge=1, le=1 << 28, description="Largest picture that is restored, in pixels.")
    max_batch_items: int = Field(64, ge=1, le=1024, description="Most payloads in a form.")
    max_scene_faces: int = Field(16, ge=1, le=64, description="Most faces in a scene to make or to restore.")
    max_bytes_in_flight: int = Field(256 << 20, ge=1 << 20)
    """Bodies of all requests together, in bytes; more are refused with 503."""

    tokens: Annotated[Listed[SecretStr], AfterValidator(_long_enough)] = ()
    """Bearer tokens; if set, /v1 and /metrics require one."""
    cors_origins: Listed[str] = Field((), description="Origins whose pages may call this.")
    mark: bool = Field(True, description="Mark restored pictures as generated, in their XMP.")
    docs: bool = Field(False, description="Serve /docs, a form for requests whose scripts come from cdn.jsdelivr.net.")
    page: bool = Field(True, description="Serve the demonstration page at /.")

    drain_delay: float = Field(0, ge=0, le=600)
    """After SIGTERM: not ready, but serving, so that load balancers react."""
    drain_timeout: int = Field(30, ge=1, le=3600, description="After that delay: time for accepted requests.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")


def check_variables(environment: Mapping[str, str]) -> None:
    """Refuse variables with the prefix of the settings that are no settings, for instance misspelt ones.

    Empty variables count as unset, except that of the tokens: the service would answer every client.
    """
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields}
    wrong = [name for name in environment if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() not in known]
    if wrong:
        advice = "correct or unset the variable, 'edgegrain serve --show-settings' prints all"
        names = ", ".join(sorted(wrong))
        raise ServiceError(f"not a setting: {names}; {advice}; on Kubernetes set enableServiceLinks: false")
    if "" in (value for name, value in environment.items() if name.upper() == f"{ENVIRONMENT_PREFIX}TOKENS"):
        empty = f"{ENVIRONMENT_PREFIX}TOKENS is empty, so every client could call the service"
        raise ServiceError(f"{empty}; set it, or unset it if that is intended")
