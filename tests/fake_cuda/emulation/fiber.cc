#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
namespace {

constexpr std::size_t kStack = 256 << 10, kGuard = 4 << 10;

}  // namespace

#if defined(__x86_64__)
// Saves what a function must preserve on the stack, keeps the stack pointer in *from, and continues from `to`.
extern "C" void edgegrain_switch_stack(void** from, void* to);
asm(R"(
  .text
  .type edgegrain_switch_stack, @function
edgegrain_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace {

// What a new stack's first switch returns into: the fiber is where the first `resume` has left it.
thread_local void (*starting)(Fiber*);
thread_local Fiber* started;

void first_call() {
  starting(started);
  std::abort();  // a fiber that is done is not resumed
}

}  // namespace
#endif

Fiber::Fiber() {
  void* const memory =
      mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE)) {
    std::perror("stack of a fiber");
    std::abort();
  }
  stack_ = static_cast<unsigned char*>(memory) + kGuard;
}

Fiber::~Fiber() { munmap(stack_ - kGuard, kStack + kGuard); }

void Fiber::begin(std::function<void()> work) {
  work_ = std::move(work);
  done_ = false;
  own_annotation_ = nullptr;
#if defined(__x86_64__)
  // Six registers and the address to return to; on entry the stack is 8 beyond a multiple of 16, as after a call.
  auto** top = reinterpret_cast<void**>(stack_ + kStack - 8);
  *--top = reinterpret_cast<void*>(first_call);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  own_ = top;
#else
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_;
  own_.uc_stack.ss_size = kStack;
  own_.uc_link = nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(this);
  const auto call = [](unsigned low, unsigned high) {
    enter(reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(high) << 32 | low));
  };
  makecontext(&own_, reinterpret_cast<void (*)()>(static_cast<void (*)(unsigned, unsigned)>(call)), 2,
              static_cast<unsigned>(address), static_cast<unsigned>(static_cast<std::uint64_t>(address) >> 32));
#endif
}

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&outer_annotation_, stack_, kStack);
#endif
#if defined(__x86_64__)
  starting = enter, started = this;
  edgegrain_switch_stack(&outer_, own_);
#else
  swapcontext(&outer_, &own_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(outer_annotation_, nullptr, nullptr);
#endif
}

void Fiber::enter(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &fiber->outer_bottom_, &fiber->outer_size_);
#endif
  fiber->work_();
  fiber->done_ = true;
  fiber->leave(true);
}

void Fiber::pause() { leave(false); }

void Fiber::leave([[maybe_unused]] bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &own_annotation_, outer_bottom_, outer_size_);
#endif
#if defined(__x86_64__)
  edgegrain_switch_stack(&own_, outer_);
#else
  swapcontext(&own_, &outer_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(own_annotation_, &outer_bottom_, &outer_size_);
#endif
}

}  // namespace emulation
