// Runs a kernel's items on the GPU; defined in launch.cu for the kernels that are listed there.
#pragma once

#include <cstdint>

namespace edgegrain {

// Puts `items` calls of `kernel` on a CUDA stream and does not wait. Null, or why they could not be put there.
template <class Kernel>
const char* launch(const Kernel& kernel, std::uint32_t items, void* stream);

}  // namespace edgegrain
