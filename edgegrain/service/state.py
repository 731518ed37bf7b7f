"""State of a running service: bundles, queues, workers, access, metrics; and the path of a job through them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message

from codec_contract.bundle.find import ALIASES, bundles_to_try, find_bundle, strength_of
from codec_contract.bundle.manifest import Manifest, verify_bundle
from codec_contract.errors import BundleError, EdgegrainError, ImageError, ServiceError
from codec_contract.payload import Header, require_contract
from edge_encoder.contract_check import check_contract_id
from edgegrain.service.access import Access
from edgegrain.service.batcher import VERBS, Answer, Batcher, BatchKey, Done, Job, Reason, Refused, Verb
from edgegrain.service.bodies import ByteBudget
from edgegrain.service.downloads import ServedFile, client_files
from edgegrain.service.engine import (
    CompressOptions,
    RestoreOptions,
    check_faces,
    check_result,
    read_claims,
    require_servable,
)
from edgegrain.service.observability import ServiceMetrics
from edgegrain.service.problems import MEDIA_TYPE, Problem, problem_of, retry_later, wrong_parameter
from edgegrain.service.settings import Settings
from edgegrain.service.workers import COMMAND, Workers
from sdk.payload import Scene, coder_tables, enlargement
from server_decoder.decoder_session import require_provider

logger = logging.getLogger(__name__)

LONGEST_BATCH = 0.5
"""Longest expected seconds of a batch of several pictures on a CPU, where batches gain little and others wait for them.
"""
_REFUSALS: dict[Reason, tuple[str, str]] = {
    "full": ("queue-full", "too many requests are waiting; try again later"),
    "late": ("queue-full", "the requests that are waiting take longer than the deadline; try again later"),
    "starting": ("starting", "no worker is warm yet, and the deadline is earlier; try again later"),
    "timeout": ("deadline-exceeded", "the request took longer than its deadline; try again later"),
}
"""Reason of a refusal -> kind and detail of its problem."""


class ServiceState:
    """Bundles, queues, workers, access and metrics of one application.

    Attributes:
        settings: the service's settings.
        manifests: id -> manifest of the served bundles, in the order of the settings.
        files: id -> files of the bundle that clients download.
        steps: id -> step of the LR's levels.
        draining: True once shutdown has begun; the service is not ready then.
    """

    def __init__(self, settings: Settings, worker_command: Sequence[str] = COMMAND) -> None:
        """Verify the bundles and plan the workers; nothing runs yet."""
        if settings.device != "cpu":  # the CPU is always there; the check would load ONNX Runtime into this process
            require_provider(settings.device)
        self.settings = settings
        manifests = [verify_bundle(find_bundle(name, check=check_contract_id)) for name in settings.bundles]
        self.manifests: Mapping[str, Manifest] = {manifest.id: manifest for manifest in manifests}
        if len(self.manifests) != len(manifests):
            raise ServiceError(f"bundles are named twice: {', '.join(manifest.id for manifest in manifests)}")
        for manifest in manifests:
            require_servable(manifest)
            if manifest.hr**2 > settings.max_pixels:
                raise ServiceError(f"bundle {manifest.id} makes {manifest.hr} x {manifest.hr} pixels, max_pixels is "
                                   f"{settings.max_pixels}; raise it")
        self.files: Mapping[str, Mapping[str, ServedFile]] = {
            manifest.id: client_files(manifest) for manifest in manifests}
        self.steps: Mapping[str, int] = {manifest.id: coder_tables(manifest).step for manifest in manifests}
        self.metrics = ServiceMetrics()
        self.access = Access([token.get_secret_value() for token in settings.all_tokens()],
                             rate=settings.rate_limit, burst=settings.rate_burst)
        self.budget = ByteBudget(settings.max_bytes_in_flight)
        self.batcher = Batcher(
            limits={"restore": settings.queue_size, "compress": settings.compress_queue_size},
            sizes=settings.batch_sizes, wait=settings.batch_wait, max_pixels=settings.max_pixels,
            workers=settings.workers, longest=LONGEST_BATCH if settings.device == "cpu" else math.inf,
            arriving=lambda: self.budget.arriving > 0, ready_in=lambda: self.workers.ready_in(),
            on_refused=lambda verb, reason, count: self.metrics.refused.labels(verb, reason).inc(count))
        self.workers = Workers(
            self.batcher,
            {"folders": [str(manifest.folder.resolve()) for manifest in manifests], "device": settings.device,
             "threads": settings.threads, "batch_sizes": list(settings.batch_sizes),
             "max_pixels": settings.max_pixels, "max_photo_pixels": settings.max_photo_pixels,
             "max_scene_faces": settings.max_scene_faces,
             "log_level": settings.log_level, "decoder_form": settings.decoder_form},
            settings.workers, start_timeout=settings.start_timeout, batch_timeout=settings.worker_timeout,
            command=worker_command, on_batch=self._note_batch, on_lost=self.metrics.worker_losses.inc)
        self.metrics.watch(
            verbs=VERBS, queue_depth=self.batcher.depth, expected_seconds=self.batcher.expected,
            workers_ready=lambda: len(self.workers.pids), ready=lambda: self.not_ready() is None)
        self.draining = False
        self._was_ready = False

    def not_ready(self) -> Problem | None:
        """The problem to answer while the service is not ready; None if it is ready."""
        if self.draining:
            return retry_later("draining", "the service is shutting down; use another one", 1)
        if not self.workers.pids:
            return self._starting()
        return None

    def require_room(self, verb: Verb) -> None:
        """Raise `Problem` 503 while the queue of a verb is full, or takes longer than the deadline."""
        try:
            self.batcher.check_room(verb, self.settings.deadline)
        except Refused as error:
            raise _refused(error) from error

    def admit(self, request: Request) -> None:
        """Refuse requests that cannot be served, before their body is read."""
        self.access.charge(request)
        self._was_ready = self._was_ready or bool(self.workers.pids)
        if not self._was_ready:  # later, while a worker restarts, requests wait in the queue
            raise self._starting()

    def answer(self, request: Request, problem: Problem) -> JSONResponse:
        """The answer for a problem, which is counted and logged."""
        self.metrics.errors.labels(problem.kind).inc()
        request.state.problem = problem.kind
        request_id = getattr(request.state, "request_id", None)
        return JSONResponse(problem.document(request_id), problem.status, problem.headers, MEDIA_TYPE)

    def manifest(self, name: str) -> Manifest:
        """The served bundle of an id or alias; `Problem` 404 if it is not served."""
        try:
            return self.manifests[ALIASES.get(name, name)]
        except KeyError:
            known = ", ".join(self.manifests)
            raise Problem("unknown-bundle", f"no bundle {name[:80]!r} is served here, only: {known}") from None

    def restore_job(self, payload: bytes, options: RestoreOptions, bundle: str | None = None) -> Job:
        """Make the job for a payload or scene, after its claims were checked."""
        claims = read_claims(payload)
        faces = len(claims.faces) if isinstance(claims, Scene) else 0
        manifest = self.bundle_of(claims) if bundle is None else self.manifest(bundle)
        try:
            factor = 1 if isinstance(claims, Scene) else enlargement(claims, manifest, options.size)
        except ImageError as error:
            raise wrong_parameter("size", str(error)) from error
        pixels = check_result(claims, manifest, options, self.settings.max_pixels)
        if isinstance(claims, Scene):
            check_faces(claims, manifest, options.size, self.settings.max_scene_faces)
        if options.seed and "seed" not in manifest.decoder.get("controls", ()):
            raise wrong_parameter("seed", f"bundle {manifest.id} has no control 'seed': its decoder takes no noise")
        try:
            options = dataclasses.replace(options, strength=strength_of(manifest, options.strength))
        except ImageError as error:
            raise wrong_parameter("strength", str(error)) from error
        return self._job(BatchKey("restore", manifest.id, options.seed, factor, faces), payload, options, pixels)

    def bundle_of(self, claims: Header | Scene) -> Manifest:
        """The served bundle of a payload or scene; `PayloadError` if there is none."""
        header = claims.faces[0].header if isinstance(claims, Scene) else claims
        wanted = require_contract(header, [manifest.lr_contract_id for manifest in self.manifests.values()])
        return next(item for item in self.manifests.values() if item.lr_contract_id == wanted)

    def bundles_to_try(self, bundle: str | None, quality: str | None, max_bytes: int | None) -> list[Manifest]:
        """The served bundles to compress a picture with, best quality first.

        Args:
            bundle: id or alias; None for the first.
            quality, max_bytes: as for `codec_contract.bundle.find.bundles_to_try`.
        """
        base = self.manifest(next(iter(self.manifests)) if bundle is None else bundle)
        try:
            return bundles_to_try(base, self.manifests.values(), quality, max_bytes)
        except BundleError as error:
            raise wrong_parameter("quality", str(error)) from error

    def compress_job(self, picture: bytes, options: CompressOptions, manifest: Manifest) -> Job:
        """Make the job for a picture file, which only a worker opens."""
        key = BatchKey("compress", manifest.id, faces=int(options.faces != "largest"))
        return self._job(key, picture, options, manifest.hr**2)

    async def answers(self, request: Request, jobs: Sequence[Job]) -> list[Answer]:
        """Queue jobs and wait for all of them; those that miss their deadline alone are answered with `Refused`."""
        try:
            self.batcher.submit(jobs)
        except Refused as error:
            raise _refused(error) from error
        work = asyncio.create_task(asyncio.wait([job.answer for job in jobs]))
        left = asyncio.create_task(_disconnected(request))
        loop = asyncio.get_running_loop()
        try:
            remaining = min(job.deadline for job in jobs) - loop.time()
            await asyncio.wait({work, left}, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return [job.answer.result() for job in jobs]
            if left.done():
                raise Problem("client-closed", "the client disconnected before the answer")
            missing = [job for job in jobs if not job.answer.done()]
            refused = self.batcher.refusal("timeout", jobs[0].key.verb, self.settings.deadline, len(missing))
            if len(missing) == len(jobs):
                raise _refused(refused)
            return [job.answer.result() if job.answer.done() else refused for job in jobs]
        finally:
            left.cancel()
            work.cancel()
            self.batcher.discard(jobs)

    def _job(self, key: BatchKey, data: bytes, options: RestoreOptions | CompressOptions, pixels: int) -> Job:
        """The job of a request whose body has just arrived."""
        loop = asyncio.get_running_loop()
        return Job(key, data, options, loop.time() + self.settings.deadline, pixels, loop.create_future())

    def _starting(self) -> Problem:
        return retry_later("starting", "no worker is warm yet", max(1, math.ceil(self.workers.ready_in())))

    def _note_batch(self, jobs: list[Job], seconds: Mapping[str, float], began: float) -> None:
        verb = jobs[0].key.verb
        self.metrics.batch_size.labels(verb).observe(len(jobs))
        for stage, duration in seconds.items():
            self.metrics.stage_seconds.labels(verb, stage).observe(duration)
        for job in jobs:
            self.metrics.stage_seconds.labels(verb, "queue").observe(began - job.queued)


def data_of(answer: Answer) -> Done:
    """The result of a job; raises its error as a `Problem`."""
    if isinstance(answer, Done):
        return answer
    if isinstance(answer, EdgegrainError):
        raise problem_of(answer) from answer
    if isinstance(answer, Refused):
        raise _refused(answer) from answer
    raise retry_later("worker-lost", "the process that worked on this request was lost; try again",
                      answer.retry_after) from answer


async def service_of(request: Request) -> ServiceState:
    """The state of the request's application; a coroutine, because FastAPI runs plain functions in threads."""
    state = request.app.state.service
    if not isinstance(state, ServiceState):
        raise TypeError("the application was not made by create_app")
    return state


Service = Annotated[ServiceState, Depends(service_of)]
"""Type of a route's parameter that receives the state."""


async def _disconnected(request: Request) -> None:
    """Wait until the client disconnects; the body must have been read."""
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await request.receive()


def _refused(error: Refused) -> Problem:
    kind, detail = _REFUSALS[error.reason]
    return retry_later(kind, detail, error.retry_after)
