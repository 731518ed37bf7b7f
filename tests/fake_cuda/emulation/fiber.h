// Fibers: functions with a stack of their own that hand over to each other.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulation {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next `resume` begin `work`, which must not throw. Only when the fiber has not begun or is done.
  void begin(std::function<void()> work);

  // From outside: runs the fiber until it pauses or is done.
  void resume();

  // From inside: returns to whoever resumed it.
  void pause();

  bool done() const { return done_; }

 private:
  static void enter(Fiber* fiber);
  void leave(bool last);

  std::function<void()> work_;
  unsigned char* stack_;
  bool done_ = true;
  void *own_annotation_ = nullptr, *outer_annotation_ = nullptr;  // of AddressSanitizer
  const void* outer_bottom_ = nullptr;
  std::size_t outer_size_ = 0;
#if defined(__x86_64__)
  void *own_ = nullptr, *outer_ = nullptr;  // stack pointers
#else
  ucontext_t own_, outer_;
#endif
};

}  // namespace emulation
