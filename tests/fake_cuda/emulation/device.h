// Blocks of threads on the host. Every thread of a block is a fiber; a block runs on one thread of the host.
//
// A fiber runs until it waits: for its block (__syncthreads) or for its warp (ldmatrix, mma). Which fiber runs next is
// drawn at random, so that work that relies on an order fails. Every word of shared memory knows who wrote and who read
// it since the last barrier, and whether an asynchronous copy to it is under way: a read of a word that another thread
// wrote, that was never written, or whose copy has not arrived ends the program with a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace emulation {

struct Grid {
  std::uint32_t blocks, threads;
  std::size_t shared;  // bytes of dynamic shared memory
};

// The smallest of the devices that the kernels are compiled for.
constexpr std::size_t kSharedWithoutAsking = 48 << 10, kLargestShared = 99 << 10;

bool can_launch(const void* function, const Grid& grid);
bool allow_shared_memory(const void* function, int bytes);
void run_grid(const Grid& grid, const std::function<void()>& thread);

// Different `__global__` functions that were launched so far.
std::size_t launched_kernels();

// Multiprocessors of the device; kernels choose their tiles by it.
int multiprocessors();
void set_multiprocessors(int count);

// Of the thread that is running.
std::uint32_t thread_number();
std::uint32_t thread_count();
std::uint32_t block_number();
std::uint32_t block_count();

void wait_for_block();

// Calls `work` once, when all 32 threads of the warp have come, with what each of them brought. `name` says which
// instruction it is: a warp that is at different ones ends the program.
void with_warp(const char* name, void* brought, void (*work)(void* const (&brought)[32], std::uint32_t first_thread));

unsigned char* shared_memory();
void read_shared(std::uint32_t thread, const void* from, std::size_t bytes);
void write_shared(const void* to, std::size_t bytes);
void start_copy(void* to, const void* from, std::size_t bytes, bool valid);
void end_copies();                 // of a group
void wait_for_copies(std::size_t pending);  // groups that may be under way

void check_alignment(const void* address, std::size_t bytes, const char* what);
[[noreturn]] void fail(const char* what, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emulation
