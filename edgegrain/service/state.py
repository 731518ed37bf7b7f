"""State of a running service: bundles, bodies, queues, workers, metrics; and the path of a job through them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from codec_contract.bundle.find import ALIASES, bundles_to_try, find_bundle, strength_of
from codec_contract.bundle.manifest import Manifest, verify_bundle
from codec_contract.errors import BundleError, ImageError
from codec_contract.payload import other_contract
from edge_encoder.contract_id import check_contract_id
from edgegrain.pictures import MAX_SIDES
from edgegrain.service.batcher import Answer, Batcher, BatchKey, Done, Job, Verb
from edgegrain.service.bodies import Bodies
from edgegrain.service.downloads import client_files, describe
from edgegrain.service.engine import RestoreOptions
from edgegrain.service.observability import ServiceMetrics
from edgegrain.service.problems import Problem, refused_as, retry_later
from edgegrain.service.settings import Settings
from edgegrain.service.workers import Workers
from sdk.payload import Payload, Scene, check_claims, check_restoration, check_side
from sdk.scenes import scene_size
from server_decoder.providers import require_provider


class ServiceState:
    """Bundles, bodies, queues, workers and metrics of one application; not ready once it is ``draining``."""

    def __init__(self, settings: Settings) -> None:
        """Verify the bundles and plan the workers; nothing runs yet."""
        if settings.device != "cpu":  # the CPU is always there; the check would load ONNX Runtime into this process
            require_provider(settings.device)
        self.settings = settings
        manifests = [verify_bundle(find_bundle(name, check=check_contract_id)) for name in settings.bundles]
        self.manifests: Mapping[str, Manifest] = {manifest.id: manifest for manifest in manifests}
        for manifest in manifests:
            if manifest.tile_overlap is not None:
                advice = "Use edgegrain compress, restore and batch, or sdk.Codec, for this one"
                tiled = f"bundle {manifest.id} takes photographs of any size, in tiles"
                raise BundleError(f"{tiled}; the service works with bundles of one square. {advice}")
        self.files = {manifest.id: client_files(manifest) for manifest in manifests}
        self.descriptions = [describe(manifest, self.files[manifest.id]) for manifest in manifests]
        self.metrics, self.draining, self._was_ready = ServiceMetrics(), False, False
        self.bodies = Bodies(settings.max_bytes_in_flight, settings.body_timeout)
        self.batcher = Batcher(settings, self.metrics, ready_in=lambda: self.workers.ready_in())
        folders = [str(manifest.folder.resolve()) for manifest in manifests]
        self.workers = Workers(settings, self.metrics, self.batcher, folders)
        self.metrics.workers_ready.set_function(lambda: len(self.workers.pids))
        self.metrics.ready.set_function(lambda: self.not_ready() is None)

    def not_ready(self) -> Problem | None:
        """The problem to answer while the service is not ready; None if it is ready."""
        if self.draining:
            return retry_later("draining", "the service is shutting down; use another one")
        return None if self.workers.pids else self._starting()

    def admit(self, verb: Verb) -> None:
        """Refuse a request that cannot be served, before its parameters and its body are read."""
        self.batcher.check_room(verb)
        self._was_ready = self._was_ready or bool(self.workers.pids)
        if not self._was_ready:  # later, while a worker restarts, requests wait in the queue
            raise self._starting()

    def manifest(self, name: str) -> Manifest:
        """The served bundle of an id or alias; `Problem` 404 if it is not served."""
        try:
            return self.manifests[ALIASES.get(name, name)]
        except KeyError:
            known = ", ".join(self.manifests)
            raise Problem("unknown-bundle", f"no bundle {name[:80]!r} is served here, only: {known}") from None

    def restore_job(self, payload: Payload | Scene, options: RestoreOptions, bundle: str | None = None) -> Job:
        """The job for a payload or scene, all of whose claims are checked here, before its body is decoded."""
        manifest = self.bundle_of(payload) if bundle is None else self.manifest(bundle)
        factor, faces, most = 1, 0, self.settings.max_pixels
        if isinstance(payload, Scene):
            faces = len(payload.faces)
            if faces > self.settings.max_scene_faces:
                many = f"the scene has {faces} faces, more than the {self.settings.max_scene_faces}"
                raise ImageError(f"{many} that are restored here in one request; restore it with the SDK")
            for face in payload.faces:
                check_claims(face.header, manifest)
            width, height = scene_size(payload, manifest.hr, options.size, most)
        else:
            with refused_as("size"):
                size = check_side(manifest, options.size)
            _, (width, height), factor = check_restoration(payload.header, manifest, size, most)
        longest = MAX_SIDES[options.format]
        if max(width, height) > longest:
            sides = f"{width} x {height} pixels, the sides of a {options.format.upper()} file have at most {longest}"
            raise ImageError(f"the picture would have {sides}; ask for image/png or size=native")
        with refused_as("strength"):
            options = dataclasses.replace(options, strength=strength_of(manifest, options.strength))
        pixels = max(width * height, (factor * manifest.hr) ** 2)
        return Job(BatchKey("restore", manifest.id, factor, faces), payload, options, pixels)

    def bundle_of(self, payload: Payload | Scene) -> Manifest:
        """The served bundle of a payload or scene; `PayloadError` if there is none."""
        header = (payload.faces[0] if isinstance(payload, Scene) else payload).header
        for manifest in self.manifests.values():
            if manifest.rate_of(header):
                return manifest
        known = ", ".join(rate.prefix for manifest in self.manifests.values() for rate in manifest.rates)
        raise other_contract(header, f"available: {known}; load the bundle it was made with")

    def bundles_to_try(self, bundle: str | None, quality: str | None, max_bytes: int | None) -> list[Manifest]:
        """The served bundles to compress a picture with, best quality first; without ``bundle`` those of the first."""
        base = self.manifest(next(iter(self.manifests)) if bundle is None else bundle)
        with refused_as("quality"):
            return bundles_to_try(base, self.manifests.values(), quality, max_bytes)

    async def answers(self, request: Request, jobs: Sequence[Job]) -> list[Answer]:
        """Queue jobs and wait for all of them; those that miss their deadline alone are answered with a `Problem`."""
        self.batcher.submit(jobs)
        work = asyncio.create_task(asyncio.wait([job.answer for job in jobs]))
        left = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({work, left}, timeout=self.settings.deadline, return_when=asyncio.FIRST_COMPLETED)
            if left.done() and not work.done():
                raise Problem("client-closed", "the client disconnected before the answer")
            if missing := sum(not job.answer.done() for job in jobs):
                late = self.batcher.refusal("deadline-exceeded", jobs[0].key.verb, missing)
                if missing == len(jobs):
                    raise late
                for job in jobs:
                    job.settle(late)
            return [job.answer.result() for job in jobs]
        finally:
            left.cancel()
            work.cancel()
            self.batcher.discard(jobs)

    async def done(self, request: Request, job: Job) -> Done:
        """Queue one job and wait for its result; its `Problem` is raised."""
        (answer,) = await self.answers(request, [job])
        if isinstance(answer, Problem):
            raise answer
        return answer

    def _starting(self) -> Problem:
        return retry_later("starting", "no worker is warm yet", self.workers.ready_in())


async def service_of(request: Request) -> ServiceState:
    """The state of the request's application; a coroutine, because FastAPI runs plain functions in threads."""
    service: ServiceState = request.app.state.service
    return service


Service = Annotated[ServiceState, Depends(service_of)]  # type of a route's parameter that receives the state


async def _disconnected(request: Request) -> None:
    """Wait until the client disconnects; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
