// The version of CUDA that the fake driver runs: 13.0, or another one for tests of older drivers.
#pragma once

#include <cstdlib>

inline int driver_version() {
  const char* const chosen = std::getenv("FAKE_CUDA_DRIVER");  // such as 12080
  return chosen ? std::atoi(chosen) : 13000;
}
