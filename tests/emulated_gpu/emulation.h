// Interfaces between the parts of the emulated GPU.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "vector_types.h"

namespace emulated {
// Index of the running thread in its block and grid.
struct Place {
    uint3 thread, block, block_size, grid_size;
};

// Largest number of threads per block.
constexpr unsigned MAX_THREADS = 1024;

// Ends the program after a misuse of the GPU.
[[noreturn]] void give_up(const std::string &why);
} // namespace emulated

extern "C" {
// Used by kernels (kernels.h) and set by grid.cpp.
extern thread_local emulated::Place emulated_place __attribute__((tls_model("initial-exec")));
// Waits for all threads of the block.
void emulated_barrier();
// Publishes `bits` to the lanes of the warp and returns those of lane `lane`.
uint64_t emulated_exchange(uint64_t bits, unsigned lane);
}

// grid.cpp: runs `thread` as each thread of each block of a grid, immediately; `name` is used in
// errors.
void emulated_grid(const std::string &name, const std::function<void()> &thread, uint3 grid, uint3 block);
// driver.cpp: queues `work`.
void emulated_queue(std::function<void()> work);
// driver.cpp: whether these bytes are GPU memory.
bool emulated_is_on_gpu(const void *place, size_t size);
