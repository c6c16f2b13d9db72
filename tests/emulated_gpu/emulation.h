// What the parts of the emulated GPU know of one another.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "vector_types.h"

namespace emulated {
// Where the running thread is.
struct Place {
    uint3 thread, block, block_size, grid_size;
};

// The most threads of a block.
constexpr unsigned MAX_THREADS = 1024;

// Ends the program: what it did is no use of a GPU.
[[noreturn]] void give_up(const std::string &why);
} // namespace emulated

extern "C" {
// For kernels (kernels.h): where their thread is, as set by grid.cpp.
extern thread_local emulated::Place emulated_place __attribute__((tls_model("initial-exec")));
// Waits for all threads of the block.
void emulated_barrier();
// Gives `bits` to the lanes of the warp and returns those of lane `lane`.
uint64_t emulated_exchange(uint64_t bits, unsigned lane);
}

// grid.cpp: runs `thread` as each thread of each block of a grid, at once; `name` is for errors.
void emulated_grid(const std::string &name, const std::function<void()> &thread, uint3 grid, uint3 block);
// driver.cpp: does `work` in its turn.
void emulated_queue(std::function<void()> work);
// driver.cpp: whether these bytes are the GPU's.
bool emulated_is_on_gpu(const void *place, size_t size);
