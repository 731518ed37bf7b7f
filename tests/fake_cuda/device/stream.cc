// libcudart: streams, events, stream capture and graphs.
#include <chrono>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <set>
#include <thread>

#include "device.h"

namespace fake_cuda {

using Work = std::function<void()>;

struct Graph {
  std::vector<Work> works;
};

// A capture in progress; `mode` is CUDA's number.
struct Capture {
  enum Mode { kGlobal, kThreadLocal, kRelaxed };
  Graph graph;
  Stream* origin;
  int mode;
  std::thread::id thread;
  bool valid = true;
};

struct Stream {
  bool blocking = true;
  std::deque<std::pair<std::uint64_t, Work>> queue;  // number and work
  std::shared_ptr<Capture> capture;
};

struct Event {
  Stream* stream = nullptr;
  std::uint64_t number = 0;  // of the last work before it was recorded
  std::shared_ptr<Capture> capture;
};

namespace {

constexpr auto kAll = std::numeric_limits<std::uint64_t>::max();
std::uint64_t last_number = 0;
bool fail_captures = false;
int prolong_captures = 0;  // milliseconds

Stream& default_stream() { static auto& one = *new Stream; return one; }
std::set<Stream*>& streams() { static auto& all = *new std::set<Stream*>{&default_stream()}; return all; }
std::set<std::shared_ptr<Capture>>& captures() { static auto& all = *new std::set<std::shared_ptr<Capture>>; return all; }

// Null and CUDA's names of the default stream, 1 (legacy) and 2 (one a thread), are one stream here.
Stream& resolve(Stream* stream) {
  return reinterpret_cast<std::uintptr_t>(stream) <= 2 ? default_stream() : *stream;
}

void run_until(Stream& stream, std::uint64_t number) {
  while (!stream.queue.empty() && stream.queue.front().first <= number) {
    const Work work = std::move(stream.queue.front().second);
    stream.queue.pop_front();
    work();
  }
}

void append(Stream& stream, Work work) { stream.queue.emplace_back(++last_number, std::move(work)); }

// The default stream waits for earlier work of all blocking streams, and they wait for its.
void wait_as_cuda_does(Stream& stream) {
  const std::uint64_t number = last_number;
  if (&stream == &default_stream()) {
    append(stream, [number] {
      for (Stream* const other : streams()) {
        if (other->blocking && other != &default_stream()) run_until(*other, number);
      }
    });
  } else if (stream.blocking && !default_stream().queue.empty()) {
    append(stream, [number] { run_until(default_stream(), number); });
  }
}

void invalidate() {
  for (const auto& capture : captures()) capture->valid = false;
}

}  // namespace

bool is_capturing(Stream* stream) { return resolve(stream).capture != nullptr; }

void enqueue(Stream* given, Work work) {
  const std::lock_guard lock(mutex());
  Stream& stream = resolve(given);
  if (stream.capture) {
    stream.capture->graph.works.push_back(std::move(work));
    return;
  }
  wait_as_cuda_does(stream);
  append(stream, std::move(work));
}

void wait_for(Stream* given) {
  const std::lock_guard lock(mutex());
  Stream& stream = resolve(given);
  if (&stream == &default_stream()) wait_as_cuda_does(stream);
  run_until(stream, kAll);
}

Status refused_while_capturing() {
  for (const auto& capture : captures()) {
    const bool here = capture->thread == std::this_thread::get_id();
    if (capture->mode == Capture::kGlobal || (capture->mode == Capture::kThreadLocal && here)) {
      invalidate();
      return capture->origin->blocking ? kCaptureImplicit : kCaptureUnsupported;
    }
  }
  return kSuccess;
}

namespace {

int end_of_stream_wait(Stream& stream, const char* call) {
  if (stream.capture) {
    invalidate();
    return finish(kCaptureUnsupported, std::string(call) + " of a stream that is captured");
  }
  wait_for(&stream);
  return finish(kSuccess, call);
}

}  // namespace
}  // namespace fake_cuda

using namespace fake_cuda;

FAKE_CUDA_API int cudaStreamCreateWithFlags(Stream** stream, unsigned flags) {
  constexpr unsigned kNonBlocking = 1;
  const std::lock_guard lock(mutex());
  *stream = new Stream;
  (*stream)->blocking = !(flags & kNonBlocking);
  streams().insert(*stream);
  return kSuccess;
}

FAKE_CUDA_API int cudaStreamCreate(Stream** stream) { return cudaStreamCreateWithFlags(stream, 0); }

FAKE_CUDA_API int cudaStreamDestroy(Stream* stream) {
  const std::lock_guard lock(mutex());
  run_until(*stream, kAll);
  streams().erase(stream);
  return kSuccess;  // the object stays: events may refer to it
}

FAKE_CUDA_API int cudaStreamSynchronize(Stream* stream) {
  const std::lock_guard lock(mutex());
  return end_of_stream_wait(resolve(stream), "cudaStreamSynchronize");
}

FAKE_CUDA_API int cudaDeviceSynchronize() {
  const std::lock_guard lock(mutex());
  if (const Status refused = refused_while_capturing()) return finish(refused, "cudaDeviceSynchronize in a capture");
  for (Stream* const stream : streams()) run_until(*stream, kAll);
  return finish(kSuccess, "cudaDeviceSynchronize");
}

FAKE_CUDA_API int cudaStreamIsCapturing(Stream* stream, int* status) {
  enum { kNone, kActive, kInvalidated };
  const std::lock_guard lock(mutex());
  const auto& capture = resolve(stream).capture;
  *status = !capture ? kNone : capture->valid ? kActive : kInvalidated;
  return kSuccess;
}

FAKE_CUDA_API void fake_cuda_fail_captures(int wanted) { fail_captures = wanted; }

FAKE_CUDA_API void fake_cuda_prolong_captures(int milliseconds) { prolong_captures = milliseconds; }

FAKE_CUDA_API int cudaStreamBeginCapture(Stream* given, int mode) {
  const std::lock_guard lock(mutex());
  Stream& stream = resolve(given);
  if (&stream == &default_stream()) return finish(kCaptureImplicit, "capture of the default stream");
  if (stream.capture) return finish(kCaptureUnsupported, "capture of a stream that is captured already");
  stream.capture = std::make_shared<Capture>();
  stream.capture->origin = &stream;
  stream.capture->mode = mode;
  stream.capture->thread = std::this_thread::get_id();
  captures().insert(stream.capture);
  return finish(kSuccess, "cudaStreamBeginCapture");
}

FAKE_CUDA_API int cudaStreamEndCapture(Stream* given, Graph** graph) {
  std::this_thread::sleep_for(std::chrono::milliseconds(prolong_captures));
  const std::lock_guard lock(mutex());
  *graph = nullptr;
  Stream& stream = resolve(given);
  const auto capture = stream.capture;
  if (!capture || capture->origin != &stream) return finish(kCaptureUnmatched, "end of a capture that did not begin");
  for (Stream* const joined : streams()) {
    if (joined->capture == capture) joined->capture = nullptr;
  }
  captures().erase(capture);
  if (!capture->valid) return finish(kCaptureInvalidated, "end of an invalidated capture");
  if (fail_captures) return finish(kCaptureInvalidated, "end of a capture that shall fail", true);
  *graph = new Graph(std::move(capture->graph));
  ++journal().graphs;
  return finish(kSuccess, "cudaStreamEndCapture");
}

FAKE_CUDA_API int cudaGraphInstantiate(Graph** executable, const Graph* graph, unsigned long long) {
  *executable = new Graph(*graph);
  return kSuccess;
}

FAKE_CUDA_API int cudaGraphLaunch(const Graph* graph, Stream* stream) {
  const std::lock_guard lock(mutex());
  ++journal().replays;
  for (const Work& work : graph->works) enqueue(stream, work);
  return finish(kSuccess, "cudaGraphLaunch");
}

FAKE_CUDA_API int cudaGraphDestroy(const Graph* graph) {
  delete graph;
  return kSuccess;
}

FAKE_CUDA_API int cudaGraphExecDestroy(const Graph* graph) {
  delete graph;
  return kSuccess;
}

FAKE_CUDA_API int cudaLaunchHostFunc(Stream* stream, void (*function)(void*), void* data) {
  enqueue(stream, [=] { function(data); });
  return kSuccess;
}

FAKE_CUDA_API int cudaEventCreate(Event** event) {
  *event = new Event;
  return kSuccess;
}

FAKE_CUDA_API int cudaEventCreateWithFlags(Event** event, unsigned) { return cudaEventCreate(event); }

FAKE_CUDA_API int cudaEventDestroy(const Event* event) {
  delete event;
  return kSuccess;
}

FAKE_CUDA_API int cudaEventRecord(Event* event, Stream* given) {
  const std::lock_guard lock(mutex());
  Stream& stream = resolve(given);
  *event = {&stream, last_number, stream.capture};
  return finish(kSuccess, "cudaEventRecord");
}

FAKE_CUDA_API int cudaEventRecordWithFlags(Event* event, Stream* stream, unsigned) {
  return cudaEventRecord(event, stream);
}

FAKE_CUDA_API int cudaEventSynchronize(const Event* event) {
  const std::lock_guard lock(mutex());
  if (event->capture && captures().count(event->capture)) {
    invalidate();
    return finish(kCapturedEvent, "cudaEventSynchronize of a captured event");
  }
  if (event->stream) run_until(*event->stream, event->number);
  return finish(kSuccess, "cudaEventSynchronize");
}

FAKE_CUDA_API int cudaEventElapsedTime(float* milliseconds, const Event*, const Event*) {
  *milliseconds = 1;
  return kSuccess;
}

FAKE_CUDA_API int cudaStreamWaitEvent(Stream* given, const Event* event, unsigned) {
  const std::lock_guard lock(mutex());
  Stream& stream = resolve(given);
  if (event->capture && captures().count(event->capture)) {
    stream.capture = event->capture;  // it joins the capture
  } else if (event->stream && event->stream != &stream) {
    enqueue(given, [other = event->stream, number = event->number] { run_until(*other, number); });
  }
  return finish(kSuccess, "cudaStreamWaitEvent");
}
