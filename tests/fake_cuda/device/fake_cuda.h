// What a program can ask of the fake device beyond CUDA: used by emulated kernels and by the tests.
#pragma once

#include <cstddef>

extern "C" {

// Puts `run(state)` on a stream, as a kernel would be; `bytes` of `state` are copied. Null, or a reason of refusal.
const char* fake_cuda_enqueue(void* stream, const char* name, void (*run)(const void* state), const void* state,
                              std::size_t bytes);

// The journal as JSON; valid until the next call.
const char* fake_cuda_report();
void fake_cuda_reset();

// With 1, kernels that are enqueued are counted and not run, as all others.
void fake_cuda_idle(int idle);

// With 1, captures fail at their end.
void fake_cuda_fail_captures(int fail);

// Captures end this much later, so that calls of other threads fall into them.
void fake_cuda_prolong_captures(int milliseconds);

// Fills memory that is allocated from now on with this byte instead of NaN.
void fake_cuda_poison(int byte);

// Counts a call of a function that does nothing.
void fake_cuda_count(const char* call);
}
