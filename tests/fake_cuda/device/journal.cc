// The journal: counters and violations, as JSON.
#include <sstream>

#include "device.h"

namespace fake_cuda {

std::recursive_mutex& mutex() {
  static auto& one = *new std::recursive_mutex;  // never destroyed: ONNX Runtime frees memory while the process ends
  return one;
}

Journal& journal() {
  static auto& one = *new Journal;
  return one;
}

void count(const std::string& call) {
  const std::lock_guard lock(mutex());
  ++journal().calls[call];
}

namespace {

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') result += '\\';
    result += letter;
  }
  return result + '"';
}

template <class Items, class Write>
std::string joined(const Items& items, const char* brackets, Write write) {
  std::string result(1, brackets[0]);
  for (const auto& item : items) result += (result.size() > 1 ? ", " : "") + write(item);
  return result + brackets[1];
}

std::string object(const std::map<std::string, long>& counts) {
  return joined(counts, "{}", [](const auto& item) { return quoted(item.first) + ": " + std::to_string(item.second); });
}

}  // namespace
}  // namespace fake_cuda

FAKE_CUDA_API const char* fake_cuda_report() {
  using namespace fake_cuda;
  const std::lock_guard lock(mutex());
  const Journal& now = journal();
  static auto& text = *new std::string;
  std::map<std::string, long> numbers = {
      {"mallocs", now.mallocs}, {"frees", now.frees}, {"bytes_in_use", static_cast<long>(bytes_in_use())},
      {"graphs", now.graphs}, {"replays", now.replays}, {"kernels_in_graphs", now.kernels_in_graphs},
      {"host_copies_in_graphs", now.host_copies_in_graphs}, {"host_copies_changed", now.host_copies_changed}};
  text = object(numbers);
  text.pop_back();
  text += ", \"calls\": " + object(now.calls) + ", \"copied\": " + object(now.copied) +
          ", \"violations\": " + joined(now.violations, "[]", quoted) +
          ", \"changes\": " + joined(now.changes, "[]", quoted) + "}";
  return text.c_str();
}

FAKE_CUDA_API void fake_cuda_reset() {
  const std::lock_guard lock(fake_cuda::mutex());
  fake_cuda::journal() = {};
}

FAKE_CUDA_API void fake_cuda_count(const char* call) { fake_cuda::count(call); }
