// Runs kernels. The threads of a block are fibers that switch where they wait for each other.
#include "emulation.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

void emulated::give_up(const std::string &why) {
    std::fprintf(stderr, "emulated GPU: %s\n", why.c_str());
    std::abort();
}

namespace {

extern "C" void emulated_switch(void **from, void *to);
// Saves the callee-saved registers on the stack of `from` and restores those of `to`.
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch, @function
emulated_switch:
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

constexpr size_t STACK = 64 << 10;
using emulated::MAX_THREADS;
// Runs the threads of a block from last to first, so that a missing wait changes the result.
const bool reversed = std::getenv("EMULATED_GPU_REVERSED") != nullptr;

// Runs blocks on one thread of the CPU.
struct Worker {
    enum State { Ready, AtBarrier, AtExchange, Done };
    struct Fiber {
        unsigned thread;
        State state;
        void *sp;
    };
    // Values that the lanes of a warp exchange. Two each, since a lane may reach its next exchange
    // before another has read.
    struct Lane {
        uint64_t bits[2];
        unsigned exchanges;
    };

    unsigned char *stacks;
    std::vector<Fiber> fibers = std::vector<Fiber>(MAX_THREADS);
    std::vector<Lane> lanes = std::vector<Lane>(MAX_THREADS);
    unsigned begun = 0, threads = 0, running = 0;
    const std::function<void()> *call = nullptr;
    void *home = nullptr;

    Worker() {
        void *memory = mmap(nullptr, STACK * MAX_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) emulated::give_up("no memory for the threads' stacks");
        stacks = static_cast<unsigned char *>(memory);
    }
    ~Worker() { munmap(stacks, STACK * MAX_THREADS); }

    // Runs `thread` as each thread of the block in `emulated_place`.
    void block(const std::function<void()> &thread, const std::string &name);
    void wait(State state) {
        Fiber &fiber = fibers[running];
        fiber.state = state;
        emulated_switch(&fiber.sp, home);
    }
    void resume(unsigned index);
    [[noreturn]] static void body();
};

thread_local Worker *worker = nullptr;

} // namespace

extern "C" {
thread_local emulated::Place emulated_place __attribute__((tls_model("initial-exec")));

void emulated_barrier() { worker->wait(Worker::AtBarrier); }

uint64_t emulated_exchange(uint64_t bits, unsigned lane) {
    unsigned thread = worker->fibers[worker->running].thread, other = thread / 32 * 32 + lane;
    Worker::Lane &own = worker->lanes[thread];
    unsigned turn = own.exchanges++ % 2;
    own.bits[turn] = bits;
    worker->wait(Worker::AtExchange);
    // A lane that does not exist returns the caller's value; on a GPU it is undefined.
    return other < worker->threads ? worker->lanes[other].bits[turn] : bits;
}
}

namespace {

void set_thread(unsigned thread) {
    const uint3 &size = emulated_place.block_size;
    emulated_place.thread = {thread % size.x, thread / size.x % size.y, thread / size.x / size.y};
}

// A fiber runs threads one after another until one waits; a waiting thread keeps its fiber.
void Worker::body() {
    Worker &own = *worker;
    const unsigned index = own.running;
    while (own.begun < own.threads) {
        Fiber &fiber = own.fibers[index];
        fiber.thread = own.begun++;
        if (reversed) fiber.thread = own.threads - 1 - fiber.thread;
        fiber.state = Ready;
        set_thread(fiber.thread);
        (*own.call)();
    }
    own.fibers[index].state = Done;
    emulated_switch(&own.fibers[index].sp, own.home);
    emulated::give_up("a fiber continued after its end");
}

void Worker::resume(unsigned index) {
    running = index;
    fibers[index].state = Ready;
    set_thread(fibers[index].thread);
    emulated_switch(&home, fibers[index].sp);
}

void Worker::block(const std::function<void()> &thread, const std::string &name) {
    const uint3 &size = emulated_place.block_size;
    call = &thread;
    threads = size.x * size.y * size.z;
    begun = 0;
    std::fill_n(lanes.begin(), threads, Lane{});
    unsigned used = 0;
    while (begun < threads) {
        // A new stack: six registers and the address that the switch returns to, as after a call.
        auto *top = reinterpret_cast<void **>(stacks + STACK * (used + 1)) - 1;
        *top = nullptr;
        *--top = reinterpret_cast<void *>(&Worker::body);
        for (int i = 0; i < 6; i++) *--top = nullptr;
        fibers[used].sp = top;
        running = used++;
        emulated_switch(&home, fibers[running].sp);
    }
    for (;;) {
        bool alive = false, moved = false, all_at_barrier = true;
        // The lanes of a warp continue once all of them that have not ended wait for each other.
        std::array<unsigned, MAX_THREADS / 32> at_exchange{}, left{};
        for (unsigned i = 0; i < used; i++) {
            if (fibers[i].state == Done) continue;
            alive = true;
            left[fibers[i].thread / 32]++;
            if (fibers[i].state == AtExchange) at_exchange[fibers[i].thread / 32]++;
            if (fibers[i].state != AtBarrier) all_at_barrier = false;
        }
        if (!alive) return;
        for (unsigned i = 0; i < used; i++) {
            if (fibers[i].state == Done) continue;
            unsigned warp = fibers[i].thread / 32;
            if (all_at_barrier || (fibers[i].state == AtExchange && at_exchange[warp] == left[warp])) {
                resume(i);
                moved = true;
            }
        }
        if (!moved) emulated::give_up("threads of " + name + " deadlock: they wait for each other forever");
    }
}

} // namespace

void emulated_grid(const std::string &name, const std::function<void()> &thread, uint3 grid, uint3 block) {
    static const unsigned cores = std::getenv("EMULATED_GPU_CORES") ? unsigned(std::atoi(std::getenv("EMULATED_GPU_CORES")))
                                                                     : std::thread::hardware_concurrency();
    // Never destroyed: work still queued at exit runs then.
    static auto &workers = *new std::vector<Worker>(std::max(cores, 1u));
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    std::atomic<uint64_t> next{0};
    auto take_blocks = [&](unsigned index) {
        Worker *before = worker;
        worker = &workers[index];
        emulated_place.grid_size = grid;
        emulated_place.block_size = block;
        for (uint64_t i = next++; i < blocks; i = next++) {
            emulated_place.block = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
            worker->block(thread, name);
        }
        worker = before;
    };
    std::vector<std::thread> others;
    const uint64_t large = 1 << 15;
    if (blocks > 1 && blocks * block.x * block.y * block.z >= large)
        for (unsigned i = 1; i < workers.size(); i++) others.emplace_back(take_blocks, i);
    take_blocks(0);
    for (auto &other : others) other.join();
}
