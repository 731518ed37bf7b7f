// The state of the fake device: memory, streams, graphs, and a journal of what a program did with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "fake_cuda.h"

#define FAKE_CUDA_API extern "C" __attribute__((visibility("default")))

namespace fake_cuda {

// CUDA's error numbers.
enum Status : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidConfiguration = 9,
  kInvalidDevice = 101,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureUnmatched = 903,
  kCaptureImplicit = 906,
  kCapturedEvent = 907,
};

struct Stream;

// Counts since the last reset; `violations` are calls that CUDA refuses.
struct Journal {
  long mallocs = 0, frees = 0, graphs = 0, replays = 0, kernels_in_graphs = 0;
  long host_copies_in_graphs = 0, host_copies_changed = 0;
  std::map<std::string, long> calls;    // of functions that do nothing here, and of kernels
  std::map<std::string, long> copied;   // bytes by direction and kind of host memory
  std::vector<std::string> violations, changes;
};

std::recursive_mutex& mutex();
Journal& journal();
void count(const std::string& call);

// The status, which `cudaGetLastError` returns later; a failure is a violation unless `expected`.
int finish(Status status, const std::string& what, bool expected = false);

// Memory.
enum class Place { kPageable, kPinned, kDevice };
Place place_of(const void* memory);
bool inside_allocation(const void* memory, std::size_t bytes);  // of device memory
std::size_t bytes_in_use();

// Streams. Work starts when something waits for it, and not before: the latest moment that CUDA permits.
void enqueue(Stream* stream, std::function<void()> work);
void wait_for(Stream* stream);       // null: the default stream, which waits for all blocking streams
bool is_capturing(Stream* stream);
Status refused_while_capturing();    // of calls that capturing forbids: kSuccess if nothing is captured

}  // namespace fake_cuda
