// libcudart: memory. Device memory is host memory that is filled with NaN, in an allocation of its own each.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "device.h"

FAKE_CUDA_API int cudaDeviceSynchronize();

namespace fake_cuda {
namespace {

constexpr std::size_t kDeviceBytes = std::size_t{16} << 30;
constexpr std::size_t kAlignment = 512;
// Of memory that nobody wrote: NaN as float16 and float32, or 0 where nothing is computed.
int poison = std::getenv("FAKE_CUDA_IDLE") ? 0 : 0xFF;

using Allocations = std::map<const char*, std::size_t>;  // first byte -> size
Allocations& device() { static auto& one = *new Allocations; return one; }
Allocations& pinned() { static auto& one = *new Allocations; return one; }
std::size_t in_use = 0;

const std::pair<const char* const, std::size_t>* containing(const Allocations& all, const void* memory) {
  const auto after = all.upper_bound(static_cast<const char*>(memory));
  if (after == all.begin()) return nullptr;
  const auto& found = *std::prev(after);
  return static_cast<const char*>(memory) < found.first + found.second ? &found : nullptr;
}

void* allocate(std::size_t bytes, Allocations& all) {
  const std::size_t whole = (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* const memory = std::aligned_alloc(kAlignment, whole);
  if (memory) {
    std::memset(memory, poison, whole);
    all[static_cast<const char*>(memory)] = std::max<std::size_t>(bytes, 1);
  }
  return memory;
}

const char* direction(Place from, Place to) {
  if (from == Place::kDevice && to == Place::kDevice) return "device to device";
  if (to == Place::kDevice) return from == Place::kPinned ? "pinned to device" : "pageable to device";
  if (from == Place::kDevice) return to == Place::kPinned ? "device to pinned" : "device to pageable";
  return "host to host";
}

// True if a copy of this kind fits its addresses, and stays inside allocations on the device.
bool is_possible(Place from, Place to, const void* target, const void* source, std::size_t bytes, int kind) {
  enum { kHostToHost, kHostToDevice, kDeviceToHost, kDeviceToDevice, kDefault };
  const bool from_device = from == Place::kDevice, to_device = to == Place::kDevice;
  if (from_device && !inside_allocation(source, bytes)) return false;
  if (to_device && !inside_allocation(target, bytes)) return false;
  switch (kind) {
    case kHostToHost: return !from_device && !to_device;
    case kHostToDevice: return !from_device && to_device;
    case kDeviceToHost: return from_device && !to_device;
    case kDeviceToDevice: return from_device && to_device;
    default: return kind == kDefault;
  }
}

struct Copy {
  char* target;
  const char* source;
  std::size_t bytes, rows, target_pitch, source_pitch;

  void run() const {
    for (std::size_t row = 0; row < rows; ++row) {
      std::memmove(target + row * target_pitch, source + row * source_pitch, bytes);
    }
  }

  std::string content() const {
    std::string result;
    for (std::size_t row = 0; row < rows; ++row) result.append(source + row * source_pitch, bytes);
    return result;
  }
};

std::string text(const std::string& bytes) {  // the first numbers, as int64
  std::string result;
  for (std::size_t at = 0; at + 8 <= std::min<std::size_t>(bytes.size(), 32); at += 8) {
    std::int64_t value;
    std::memcpy(&value, bytes.data() + at, 8);
    result += (at ? " " : "") + std::to_string(value);
  }
  return result;
}

int copy_on_stream(const Copy& copy, int kind, Stream* stream, const char* call) {
  const std::lock_guard lock(mutex());
  if (copy.bytes == 0 || copy.rows == 0) return finish(kSuccess, call);
  const Place from = place_of(copy.source), to = place_of(copy.target);
  const std::size_t wide = (copy.rows - 1) * copy.source_pitch + copy.bytes;
  const std::size_t target_wide = (copy.rows - 1) * copy.target_pitch + copy.bytes;
  if (!is_possible(from, to, copy.target, copy.source, std::max(wide, target_wide), kind)) {
    return finish(kInvalidValue, std::string(call) + ": a copy from or to a wrong address");
  }
  journal().copied[direction(from, to)] += static_cast<long>(copy.bytes * copy.rows);
  const bool leaves_host = from != Place::kDevice, reaches_host = to != Place::kDevice;
  if (is_capturing(stream)) {
    journal().host_copies_in_graphs += leaves_host || reaches_host;
    if (!leaves_host) {
      enqueue(stream, [copy] { copy.run(); });
      return finish(kSuccess, call);
    }
    // A replay reads the same host memory again; who wrote to it meanwhile gets a wrong result.
    enqueue(stream, [copy, before = copy.content()] {
      if (const std::string now = copy.content(); now != before) {
        ++journal().host_copies_changed;
        journal().changes.push_back(std::to_string(now.size()) + " bytes: " + text(before) + " -> " + text(now));
      }
      copy.run();
    });
  } else if (from == Place::kPageable && to == Place::kDevice && copy.rows == 1) {
    enqueue(stream, [copy, staged = copy.content()] { std::memcpy(copy.target, staged.data(), staged.size()); });
  } else {
    enqueue(stream, [copy] { copy.run(); });
    if (to == Place::kPageable || from == Place::kPageable) wait_for(stream);
  }
  return finish(kSuccess, call);
}

int refuse_in_capture(const char* call) { return finish(refused_while_capturing(), std::string(call) + " in a capture"); }

int free_from(Allocations& all, void* memory, const char* call) {
  const std::lock_guard lock(mutex());
  if (!memory) return finish(kSuccess, call);
  if (const int refused = refuse_in_capture(call)) return refused;
  const auto found = all.find(static_cast<char*>(memory));
  if (found == all.end()) return finish(kInvalidValue, std::string(call) + " of other memory");
  cudaDeviceSynchronize();
  if (&all == &device()) in_use -= found->second;
  std::memset(memory, poison, found->second);
  all.erase(found);
  std::free(memory);
  return finish(kSuccess, call);
}

}  // namespace

Place place_of(const void* memory) {
  const std::lock_guard lock(mutex());
  if (containing(device(), memory)) return Place::kDevice;
  return containing(pinned(), memory) ? Place::kPinned : Place::kPageable;
}

bool inside_allocation(const void* memory, std::size_t bytes) {
  const std::lock_guard lock(mutex());
  const auto* found = containing(device(), memory);
  return found && static_cast<const char*>(memory) + bytes <= found->first + found->second;
}

std::size_t bytes_in_use() { return in_use; }

}  // namespace fake_cuda

using namespace fake_cuda;

FAKE_CUDA_API int cudaMalloc(void** memory, std::size_t bytes) {
  const std::lock_guard lock(mutex());
  if (const int refused = refuse_in_capture("cudaMalloc")) return refused;
  *memory = nullptr;
  if (in_use + bytes > kDeviceBytes || !(*memory = allocate(bytes, device()))) {
    return finish(kOutOfMemory, "cudaMalloc", true);
  }
  in_use += std::max<std::size_t>(bytes, 1);
  ++journal().mallocs;
  return finish(kSuccess, "cudaMalloc");
}

FAKE_CUDA_API int cudaFree(void* memory) {
  const std::lock_guard lock(mutex());
  journal().frees += memory != nullptr;
  return free_from(device(), memory, "cudaFree");
}

FAKE_CUDA_API int cudaMallocHost(void** memory, std::size_t bytes) {
  const std::lock_guard lock(mutex());
  if (const int refused = refuse_in_capture("cudaMallocHost")) return refused;
  *memory = allocate(bytes, pinned());
  return finish(*memory ? kSuccess : kOutOfMemory, "cudaMallocHost");
}

FAKE_CUDA_API int cudaHostAlloc(void** memory, std::size_t bytes, unsigned) { return cudaMallocHost(memory, bytes); }

FAKE_CUDA_API int cudaFreeHost(void* memory) { return free_from(pinned(), memory, "cudaFreeHost"); }

FAKE_CUDA_API int cudaMallocFromPoolAsync(void** memory, std::size_t bytes, void*, Stream*) {
  return cudaMalloc(memory, bytes);
}

FAKE_CUDA_API int cudaFreeAsync(void* memory, Stream* stream) {
  wait_for(stream);
  return cudaFree(memory);
}

FAKE_CUDA_API int cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = kDeviceBytes;
  *free = kDeviceBytes - in_use;
  return kSuccess;
}

FAKE_CUDA_API int cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, int kind, Stream* stream) {
  return copy_on_stream({static_cast<char*>(target), static_cast<const char*>(source), bytes, 1, 0, 0}, kind, stream,
                        "cudaMemcpyAsync");
}

FAKE_CUDA_API int cudaMemcpy(void* target, const void* source, std::size_t bytes, int kind) {
  const std::lock_guard lock(mutex());
  if (const int refused = refuse_in_capture("cudaMemcpy")) return refused;
  const int status = cudaMemcpyAsync(target, source, bytes, kind, nullptr);
  if (status == kSuccess) wait_for(nullptr);
  return status;
}

FAKE_CUDA_API int cudaMemcpy2DAsync(void* target, std::size_t target_pitch, const void* source,
                                    std::size_t source_pitch, std::size_t width, std::size_t height, int kind,
                                    Stream* stream) {
  return copy_on_stream({static_cast<char*>(target), static_cast<const char*>(source), width, height, target_pitch,
                         source_pitch}, kind, stream, "cudaMemcpy2DAsync");
}

FAKE_CUDA_API int cudaMemcpyFromSymbol(void* target, const void*, std::size_t bytes, std::size_t, int) {
  std::memset(target, 0, bytes);
  return kSuccess;
}

FAKE_CUDA_API int cudaMemsetAsync(void* memory, int value, std::size_t bytes, Stream* stream) {
  const std::lock_guard lock(mutex());
  if (bytes && !inside_allocation(memory, bytes)) return finish(kInvalidValue, "cudaMemsetAsync of other memory");
  enqueue(stream, [=] { std::memset(memory, value, bytes); });
  return finish(kSuccess, "cudaMemsetAsync");
}

FAKE_CUDA_API int cudaMemset(void* memory, int value, std::size_t bytes) {
  const std::lock_guard lock(mutex());
  if (const int refused = refuse_in_capture("cudaMemset")) return refused;
  return cudaMemsetAsync(memory, value, bytes, nullptr);
}

FAKE_CUDA_API int cudaPointerGetAttributes(void* attributes, const void* memory) {
  struct { int type, device; const void *on_device, *on_host; } found = {};  // as cudaPointerAttributes begins
  enum { kUnregistered, kHost, kDevice };
  const Place place = place_of(memory);
  found.type = place == Place::kDevice ? kDevice : place == Place::kPinned ? kHost : kUnregistered;
  found.on_device = place == Place::kPageable ? nullptr : memory;
  found.on_host = place == Place::kDevice ? nullptr : memory;
  std::memcpy(attributes, &found, sizeof found);
  return kSuccess;
}

FAKE_CUDA_API void fake_cuda_poison(int byte) { poison = byte; }
