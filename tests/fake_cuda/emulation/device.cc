#include "device.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <vector>

#include "fiber.h"

namespace emulation {
namespace {

constexpr std::uint32_t kWarp = 32, kNobody = ~0u, kSeveral = ~1u;
constexpr std::size_t kWord = 4, kAlignment = 128;

// The history of a word of shared memory. Times are numbers of barriers.
struct Word {
  std::uint32_t writer = kNobody, written = 0, reader = kNobody, read = 0;
  bool under_way = false;
};

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  std::size_t bytes;
  bool valid;
};

struct Thread {
  enum class State { kReady, kAtBarrier, kInWarp, kDone } state = State::kReady;
  std::deque<std::vector<Copy>> groups;  // of copies, oldest first; the last one is open
};

struct Warp {
  void* brought[kWarp];
  std::uint32_t come = 0;
  const char* instruction = nullptr;
};

// One after another, all blocks that a thread of the host runs.
class Block {
 public:
  void run(const Grid& grid, std::uint32_t number, const std::function<void()>& work);

  std::uint32_t current = 0, number = 0;
  Grid grid{};
  std::unique_ptr<unsigned char[]> allocation;
  unsigned char* memory = nullptr;
  std::vector<Word> words;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::uint32_t barriers = 0, waiting = 0, left = 0;

  Thread& thread() { return threads[current]; }
  void pause() { fibers_[current]->pause(); }
  void write(std::uint32_t who, const void* to, std::size_t bytes);
  void read(std::uint32_t who, const void* from, std::size_t bytes);
  Word* words_of(const void* address, std::size_t bytes, const char* what);

 private:
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::minstd_rand random_{1};
};

thread_local Block block;

std::mutex allowed_mutex;
std::map<const void*, std::size_t>& allowed() {
  static std::map<const void*, std::size_t> sizes;
  return sizes;
}

void Block::run(const Grid& asked, std::uint32_t block_number, const std::function<void()>& work) {
  grid = asked, number = block_number;
  allocation.reset(new unsigned char[grid.shared + kAlignment]);
  const auto address = reinterpret_cast<std::uintptr_t>(allocation.get());
  memory = allocation.get() + (kAlignment - address % kAlignment) % kAlignment;
  std::memset(memory, 0xff, grid.shared);
  words.assign((grid.shared + kWord - 1) / kWord, Word{});
  threads.assign(grid.threads, Thread{});
  warps.assign((grid.threads + kWarp - 1) / kWarp, Warp{});
  barriers = 1, waiting = 0, left = grid.threads;
  while (fibers_.size() < grid.threads) fibers_.push_back(std::make_unique<Fiber>());
  for (std::uint32_t i = 0; i < grid.threads; ++i) {
    threads[i].groups.emplace_back();
    fibers_[i]->begin(work);
  }
  std::vector<std::uint32_t> ready(grid.threads);
  while (left) {
    ready.clear();
    for (std::uint32_t i = 0; i < grid.threads; ++i) {
      if (threads[i].state == Thread::State::kReady) ready.push_back(i);
    }
    if (ready.empty()) fail("block %u: threads wait for others that never come (a barrier in a branch?)", number);
    // A random thread first, then its neighbours in one of both directions: as random as the program's correctness
    // needs, without drawing a number per thread.
    const std::size_t first = random_() % ready.size();
    const bool forward = random_() % 2;
    for (std::size_t i = 0; i < ready.size(); ++i) {
      const std::size_t step = forward ? i : ready.size() - i;
      current = ready[(first + step) % ready.size()];
      fibers_[current]->resume();
      if (fibers_[current]->done() && threads[current].state != Thread::State::kDone) {
        threads[current].state = Thread::State::kDone;
        --left;
        for (const auto& group : threads[current].groups) {
          if (!group.empty()) fail("thread %u: ends with copies under way", current);
        }
      }
      if (left && waiting == left) {
        waiting = 0, ++barriers;
        for (Thread& thread : threads) {
          if (thread.state == Thread::State::kAtBarrier) thread.state = Thread::State::kReady;
        }
      }
    }
  }
}

Word* Block::words_of(const void* address, std::size_t bytes, const char* what) {
  const auto* at = static_cast<const unsigned char*>(address);
  if (at < memory || at + bytes > memory + grid.shared) {
    fail("block %u, thread %u: %s %zu bytes of shared memory at %td of %zu", number, current, what, bytes,
         at - memory, grid.shared);
  }
  return &words[static_cast<std::size_t>(at - memory) / kWord];
}

void Block::write(std::uint32_t who, const void* to, std::size_t bytes) {
  Word* word = words_of(to, bytes, "writes");
  for (std::size_t i = 0; i < bytes; i += kWord, ++word) {
    if (word->under_way) fail("thread %u writes where a copy is under way", who);
    if (word->writer != who && word->writer != kNobody && word->written == barriers) {
      fail("threads %u and %u write the same word without a barrier", word->writer, who);
    }
    if (word->reader != who && word->reader != kNobody && word->read == barriers) {
      fail("thread %u writes a word that another reads without a barrier", who);
    }
    word->writer = who, word->written = barriers;
  }
}

void Block::read(std::uint32_t who, const void* from, std::size_t bytes) {
  Word* word = words_of(from, bytes, "reads");
  for (std::size_t i = 0; i < bytes; i += kWord, ++word) {
    if (word->under_way) fail("thread %u reads a word whose copy has not arrived", who);
    if (word->writer == kNobody) fail("thread %u reads a word that nobody has written", who);
    if (word->writer != who && word->written == barriers) {
      fail("thread %u reads what thread %u has written, without a barrier", who, word->writer);
    }
    if (word->read != barriers || word->reader == kNobody) {
      word->reader = who;
    } else if (word->reader != who) {
      word->reader = kSeveral;
    }
    word->read = barriers;
  }
}

std::uint32_t processors = 132;
std::set<const void*> launched;  // guarded by allowed_mutex

}  // namespace

bool can_launch(const void* function, const Grid& grid) {
  const std::lock_guard<std::mutex> lock(allowed_mutex);
  launched.insert(function);
  const auto found = allowed().find(function);
  const std::size_t shared = found == allowed().end() ? kSharedWithoutAsking : found->second;
  return grid.blocks >= 1 && grid.blocks <= 0x7fffffffu && grid.threads >= 1 && grid.threads <= 1024 &&
         grid.shared <= shared;
}

bool allow_shared_memory(const void* function, int bytes) {
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kLargestShared) return false;
  const std::lock_guard<std::mutex> lock(allowed_mutex);
  auto& size = allowed()[function];
  size = std::max(kSharedWithoutAsking, static_cast<std::size_t>(bytes));
  return true;
}

void run_grid(const Grid& grid, const std::function<void()>& thread) {
  for (std::uint32_t number = 0; number < grid.blocks; ++number) block.run(grid, number, thread);
}

std::size_t launched_kernels() {
  const std::lock_guard<std::mutex> lock(allowed_mutex);
  return launched.size();
}

int multiprocessors() { return static_cast<int>(processors); }
void set_multiprocessors(int count) { processors = static_cast<std::uint32_t>(count); }

std::uint32_t thread_number() { return block.current; }
std::uint32_t thread_count() { return block.grid.threads; }
std::uint32_t block_number() { return block.number; }
std::uint32_t block_count() { return block.grid.blocks; }

void wait_for_block() {
  block.thread().state = Thread::State::kAtBarrier;
  ++block.waiting;
  block.pause();
}

void with_warp(const char* name, void* brought, void (*work)(void* const (&brought)[32], std::uint32_t)) {
  const std::uint32_t number = block.current / kWarp, first = number * kWarp;
  Warp& warp = block.warps[number];
  if (warp.come == 0) {
    warp.instruction = name;
  } else if (std::strcmp(warp.instruction, name)) {
    fail("warp %u: threads are at different instructions, %s and %s", number, warp.instruction, name);
  }
  warp.brought[block.current - first] = brought;
  if (++warp.come < kWarp) {
    block.thread().state = Thread::State::kInWarp;
    block.pause();
    return;
  }
  warp.come = 0;
  work(warp.brought, first);
  for (std::uint32_t i = first; i < first + kWarp; ++i) block.threads[i].state = Thread::State::kReady;
}

unsigned char* shared_memory() { return block.memory; }
void read_shared(std::uint32_t thread, const void* from, std::size_t bytes) { block.read(thread, from, bytes); }
void write_shared(const void* to, std::size_t bytes) { block.write(block.current, to, bytes); }

// The bytes arrive as late as they may, and what was there is lost at once.
void start_copy(void* to, const void* from, std::size_t bytes, bool valid) {
  block.write(block.current, to, bytes);
  Word* word = block.words_of(to, bytes, "copies to");
  for (std::size_t i = 0; i < bytes; i += kWord) (word++)->under_way = true;
  std::memset(to, 0xff, bytes);
  block.thread().groups.back().push_back(
      {static_cast<unsigned char*>(to), static_cast<const unsigned char*>(from), bytes, valid});
}

void end_copies() { block.thread().groups.emplace_back(); }

void wait_for_copies(std::size_t pending) {
  auto& groups = block.thread().groups;
  while (groups.size() > pending + 1) {
    for (const Copy& copy : groups.front()) {
      Word* word = block.words_of(copy.to, copy.bytes, "copies to");
      for (std::size_t i = 0; i < copy.bytes; i += kWord) (word++)->under_way = false;
      block.write(block.current, copy.to, copy.bytes);
      if (copy.valid) {
        std::memcpy(copy.to, copy.from, copy.bytes);
      } else {
        std::memset(copy.to, 0, copy.bytes);
      }
    }
    groups.pop_front();
  }
}

void check_alignment(const void* address, std::size_t bytes, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes) {
    fail("thread %u: %s of %zu bytes at %p, which is not aligned", block.current, what, bytes, address);
  }
}

void fail(const char* what, ...) {
  std::va_list arguments;
  va_start(arguments, what);
  std::fprintf(stderr, "emulated GPU: block %u of %u: ", block.number, block.grid.blocks);
  std::vfprintf(stderr, what, arguments);
  std::fprintf(stderr, "\n");
  va_end(arguments);
  std::abort();
}

}  // namespace emulation
