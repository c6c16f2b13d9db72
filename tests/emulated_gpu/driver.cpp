// A CUDA driver (libcuda.so.1) that computes on the CPU, for testing a CUDA program without a GPU.
//
// It is strict where a GPU lets errors pass unnoticed:
// - Work is queued and runs when the host waits. So host memory that is reused before a copy has
//   read it, and results that are read too early, show up. As on a GPU, a copy from pageable memory
//   takes its bytes at once, and a copy from pinned memory when its turn comes.
// - New and freed memory is full of NaN, and a write past the end of an allocation is detected when
//   the allocation is freed.
// - Launches that a GPU refuses (no block, too many threads, too large a grid) are refused.
// A kernel is CUDA C++ compiled for the CPU (kernels.h). The types of its arguments are read from
// the PTX that the program provides. It shows nothing about a GPU's speed, rounding, or races
// between kernels of several streams: all work runs in one order.
#include <cuda.h>
#include <dirent.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emulation.h"

namespace {

using emulated::give_up;
using emulated::MAX_THREADS;

// ---- Memory ----

constexpr size_t GUARD = 256;
constexpr unsigned char NAN_BYTE = 0xFF;
// Bytes after the end of an allocation: not a number in any dtype, and different from unwritten
// memory.
unsigned char guard_byte(size_t i) { return i % 2 ? 0xFF : 0xA5; }
const size_t GPU_MEMORY = size_t(std::getenv("EMULATED_GPU_GIB") ? std::atoi(std::getenv("EMULATED_GPU_GIB")) : 16) << 30;

std::recursive_mutex global_lock;

// Number of operations of one kind, and their total size in bytes.
struct Traffic {
    const char *what;
    uint64_t times = 0, bytes = 0;
    void add(size_t size) {
        times++;
        bytes += size;
    }
};
Traffic to_gpu{"copy to the GPU"}, from_gpu{"copy from the GPU"}, on_gpu{"copy on the GPU"}, filled{"fill"}, allocated{"allocate"};

std::map<uintptr_t, size_t> allocations, pinned;
size_t in_use = 0, peak_in_use = 0;

// Whether `size` bytes at `place` are within one of `ranges`.
bool within(const std::map<uintptr_t, size_t> &ranges, uintptr_t place, size_t size) {
    auto after = ranges.upper_bound(place);
    if (after == ranges.begin()) return false;
    auto [start, length] = *std::prev(after);
    return place - start <= length && size <= length - (place - start);
}

CUresult allocate(CUdeviceptr *out, size_t size) {
    std::lock_guard lock(global_lock);
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    if (in_use + size > GPU_MEMORY) return CUDA_ERROR_OUT_OF_MEMORY;
    auto *bytes = static_cast<unsigned char *>(std::aligned_alloc(256, (size + GUARD + 255) / 256 * 256));
    if (!bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(bytes, NAN_BYTE, size);
    for (size_t i = 0; i < GUARD; i++) bytes[size + i] = guard_byte(i);
    allocations[uintptr_t(bytes)] = size;
    in_use += size;
    allocated.add(size);
    peak_in_use = std::max(peak_in_use, in_use);
    *out = CUdeviceptr(bytes);
    return CUDA_SUCCESS;
}

void check_guard(uintptr_t place, size_t size) {
    auto *bytes = reinterpret_cast<unsigned char *>(place);
    for (size_t i = 0; i < GUARD; i++)
        if (bytes[size + i] != guard_byte(i)) give_up("a kernel wrote past the end of an allocation of " + std::to_string(size) + " bytes");
}

void release(uintptr_t place, size_t size) {
    auto *bytes = reinterpret_cast<unsigned char *>(place);
    check_guard(place, size);
    std::memset(bytes, NAN_BYTE, size);
    std::free(bytes);
}

// ---- The queue ----

std::vector<std::function<void()>> queue;

void finish_queue() {
    std::lock_guard lock(global_lock);
    // Queued work never queues more.
    for (auto &work : queue) work();
    queue.clear();
}

// ---- Modules ----

// Calls a kernel by the x86-64 calling convention: six integers and eight floating-point numbers in
// registers, the rest on the stack.
struct Call {
    void *function;
    uint64_t integers[6] = {};
    double floating[8] = {};
    uint64_t stack[24] = {};

    void operator()() const {
        using Function = void (*)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, double, double, double, double, double,
                                  double, double, double, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                  uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                  uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
        auto *w = integers;
        auto *f = floating;
        auto *s = stack;
        reinterpret_cast<Function>(function)(w[0], w[1], w[2], w[3], w[4], w[5], f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], s[0], s[1],
                                             s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15],
                                             s[16], s[17], s[18], s[19], s[20], s[21], s[22], s[23]);
    }
};

struct Kernel {
    std::string name;
    void *function;
    // Size of an argument in bytes, and whether it is passed in a floating-point register.
    struct Argument {
        unsigned bytes;
        bool floating;
    };
    std::vector<Argument> arguments;
    std::atomic<uint64_t> launches{0}, threads{0};
};

struct Module {
    std::map<std::string, Kernel> kernels;
};

std::vector<Module *> modules;

// Opens the compiled kernels in the folder of this library.
const std::vector<void *> &compiled() {
    static const std::vector<void *> handles = [] {
        Dl_info own;
        if (!dladdr(reinterpret_cast<void *>(&finish_queue), &own)) give_up("the path of this library is unknown");
        std::string folder = own.dli_fname;
        folder = folder.substr(0, folder.rfind('/') + 1) + "kernels/";
        std::vector<void *> found;
        DIR *listing = opendir(folder.c_str());
        if (!listing) give_up("missing folder " + folder);
        while (dirent *entry = readdir(listing)) {
            std::string file = entry->d_name;
            if (file.size() < 3 || file.substr(file.size() - 3) != ".so") continue;
            void *handle = dlopen((folder + file).c_str(), RTLD_NOW | RTLD_LOCAL);
            if (!handle) give_up(dlerror());
            found.push_back(handle);
        }
        closedir(listing);
        return found;
    }();
    return handles;
}

// Parses the kernels of a PTX text and their arguments: `.entry NAME(.param .u64 .ptr .align 1
// NAME_param_0, .param .align 2 .b8 NAME_param_1[2])`.
Module *read_ptx(const char *ptx) {
    auto *module = new Module;
    for (const char *entry = std::strstr(ptx, ".entry "); entry; entry = std::strstr(entry, ".entry ")) {
        entry += std::strlen(".entry ");
        const char *open = std::strchr(entry, '('), *body = std::strchr(entry, '{');
        if (!open || !body) give_up("a PTX text ends within an entry");
        std::string name(entry, open > body ? body : open);
        while (!name.empty() && std::isspace(static_cast<unsigned char>(name.back()))) name.pop_back();
        Kernel &kernel = module->kernels[name];
        kernel.name = name;
        kernel.function = nullptr;
        for (void *library : compiled())
            if (void *function = dlsym(library, name.c_str())) kernel.function = function;
        const char *close = open > body ? open : std::strchr(open, ')');
        for (const char *at = std::strstr(open, ".param "); at && at < close; at = std::strstr(at, ".param ")) {
            at += std::strlen(".param ");
            const char *end = at;
            while (*end != ',' && *end != ')') end++;
            std::string text(at, end);
            unsigned count = 1;
            if (size_t bracket = text.find('['); bracket != std::string::npos) count = unsigned(std::atoi(text.c_str() + bracket + 1));
            auto has = [&](const char *type) { return text.find(type) != std::string::npos; };
            bool floating = has(".f32") || has(".f64");
            unsigned bytes = has(".b8") || has(".u8") || has(".s8") ? 1
                             : has(".b16") || has(".u16") || has(".s16") ? 2
                             : has(".b32") || has(".u32") || has(".s32") || has(".f32") ? 4
                                                                                        : 8;
            kernel.arguments.push_back({bytes * count, floating});
        }
    }
    return module;
}

// At exit: checks memory that was not freed, and writes the counts.
void report_at_exit() {
    finish_queue();
    for (auto [place, size] : allocations) check_guard(place, size);

    const char *path = std::getenv("EMULATED_GPU_COUNTS");
    if (!path) return;
    FILE *file = std::fopen(path, "w");
    if (!file) return;
    std::fprintf(file, "what,times,threads or bytes\n");
    for (const Traffic *traffic : {&to_gpu, &from_gpu, &on_gpu, &filled, &allocated})
        if (traffic->times) std::fprintf(file, "%s,%lu,%lu\n", traffic->what, traffic->times, traffic->bytes);
    for (Module *module : modules)
        for (auto &[name, kernel] : module->kernels)
            if (kernel.launches) std::fprintf(file, "%s,%lu,%lu\n", name.c_str(), kernel.launches.load(), kernel.threads.load());
    std::fclose(file);
}

struct Event {
    uint64_t recorded = 0, done = 0;
};

CUcontext primary_context() { return reinterpret_cast<CUcontext>(&global_lock); }
thread_local CUcontext current = nullptr;
std::atomic<uintptr_t> handles{1};

} // namespace

void emulated_queue(std::function<void()> work) {
    std::lock_guard lock(global_lock);
    queue.push_back(std::move(work));
    // Limits how far the host runs ahead.
    if (queue.size() >= 1024) finish_queue();
}

bool emulated_is_on_gpu(const void *place, size_t size) {
    std::lock_guard lock(global_lock);
    return within(allocations, uintptr_t(place), size);
}

extern "C" {

CUresult cuInit(unsigned) {
    static const bool counted = (std::atexit(report_at_exit), true);
    (void)counted;
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
    const char *gpus = std::getenv("EMULATED_GPUS");
    *count = gpus ? std::atoi(gpus) : 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int index) {
    int count;
    cuDeviceGetCount(&count);
    if (index < 0 || index >= count) return CUDA_ERROR_INVALID_DEVICE;
    *device = index;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice) {
    std::snprintf(name, size_t(length), "Emulated GPU");
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    std::memset(uuid, device, sizeof *uuid);
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
    *bytes = GPU_MEMORY;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = MAX_THREADS; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    *context = primary_context();
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext context) {
    current = context;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = current;
    return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize() {
    finish_queue();
    return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char **name) {
    switch (error) {
    case CUDA_ERROR_INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case CUDA_ERROR_OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case CUDA_ERROR_INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
    case CUDA_ERROR_NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case CUDA_ERROR_NOT_SUPPORTED: *name = "CUDA_ERROR_NOT_SUPPORTED"; break;
    default: *name = "CUDA_ERROR_UNKNOWN"; break;
    }
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    cuGetErrorName(error, text);
    return CUDA_SUCCESS;
}

// All work runs in one order. So a stream is just a number, and an event counts how often it was
// recorded and reached.
CUresult cuStreamCreate(CUstream *stream, unsigned) {
    *stream = reinterpret_cast<CUstream>(handles++ << 4);
    return CUDA_SUCCESS;
}
CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
CUresult cuStreamDestroy(CUstream) { return CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream) {
    finish_queue();
    return CUDA_SUCCESS;
}
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) { return CUDA_SUCCESS; }
CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus *status) {
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}
CUresult cuEventCreate(CUevent *event, unsigned) {
    *event = reinterpret_cast<CUevent>(new Event);
    return CUDA_SUCCESS;
}
// An event may be destroyed before its turn, so its memory is never freed.
CUresult cuEventDestroy(CUevent) { return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream) {
    std::lock_guard lock(global_lock);
    auto *it = reinterpret_cast<Event *>(event);
    const uint64_t turn = ++it->recorded;
    emulated_queue([=] { it->done = turn; });
    return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) {
    std::lock_guard lock(global_lock);
    auto *it = reinterpret_cast<Event *>(event);
    return it->done == it->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
// As on a GPU, an event that was never recorded is not waited for.
CUresult cuEventSynchronize(CUevent event) {
    std::lock_guard lock(global_lock);
    if (cuEventQuery(event) != CUDA_SUCCESS) finish_queue();
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *out, size_t size) { return allocate(out, size); }
CUresult cuMemAllocAsync(CUdeviceptr *out, size_t size, CUstream) { return allocate(out, size); }
CUresult cuMemFreeAsync(CUdeviceptr place, CUstream) {
    std::lock_guard lock(global_lock);
    auto found = allocations.find(place);
    if (found == allocations.end()) return CUDA_ERROR_INVALID_VALUE;
    size_t size = found->second;
    allocations.erase(found);
    in_use -= size;
    emulated_queue([=] { release(place, size); });
    return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr place) {
    CUresult freed = cuMemFreeAsync(place, nullptr);
    finish_queue();
    return freed;
}
CUresult cuMemGetInfo(size_t *free, size_t *total) {
    std::lock_guard lock(global_lock);
    *free = GPU_MEMORY - in_use;
    *total = GPU_MEMORY;
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **out, size_t size, unsigned) {
    std::lock_guard lock(global_lock);
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    *out = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (!*out) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(*out, NAN_BYTE, size);
    pinned[uintptr_t(*out)] = size;
    return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *place) {
    std::lock_guard lock(global_lock);
    auto found = pinned.find(uintptr_t(place));
    if (found == pinned.end()) return CUDA_ERROR_INVALID_VALUE;
    // A GPU does not wait here: a copy that has yet to read these bytes is an error of the program.
    std::memset(place, NAN_BYTE, found->second);
    pinned.erase(found);
    emulated_queue([=] { std::free(place); });
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice) {
    *pool = reinterpret_cast<CUmemoryPool>(&allocations);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) { return cuDeviceGetDefaultMemPool(pool, device); }
CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *) {
    std::lock_guard lock(global_lock);
    if (attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH) peak_in_use = in_use;
    return CUDA_SUCCESS;
}
CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void *value) {
    std::lock_guard lock(global_lock);
    auto *out = static_cast<uint64_t *>(value);
    switch (attribute) {
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: *out = peak_in_use; break;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: *out = in_use; break;
    default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}
CUresult cuMemPoolTrimTo(CUmemoryPool, size_t) { return CUDA_SUCCESS; }

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream) {
    std::lock_guard lock(global_lock);
    if (size == 0) return CUDA_SUCCESS;
    if (!within(allocations, to, size)) return CUDA_ERROR_INVALID_VALUE;
    to_gpu.add(size);
    if (within(pinned, uintptr_t(from), size)) {
        emulated_queue([=] { std::memcpy(reinterpret_cast<void *>(to), from, size); });
    } else {
        auto *bytes = static_cast<const unsigned char *>(from);
        emulated_queue([to, taken = std::vector(bytes, bytes + size)] { std::memcpy(reinterpret_cast<void *>(to), taken.data(), taken.size()); });
    }
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size) {
    CUresult copied = cuMemcpyHtoDAsync(to, from, size, nullptr);
    finish_queue();
    return copied;
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream) {
    std::lock_guard lock(global_lock);
    if (size == 0) return CUDA_SUCCESS;
    if (!within(allocations, from, size)) return CUDA_ERROR_INVALID_VALUE;
    from_gpu.add(size);
    const bool to_pinned = within(pinned, uintptr_t(to), size);
    emulated_queue([=] { std::memcpy(to, reinterpret_cast<void *>(from), size); });
    if (!to_pinned) finish_queue();
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t size) {
    CUresult copied = cuMemcpyDtoHAsync(to, from, size, nullptr);
    finish_queue();
    return copied;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) {
    std::lock_guard lock(global_lock);
    if (size == 0) return CUDA_SUCCESS;
    if (!within(allocations, to, size) || !within(allocations, from, size)) return CUDA_ERROR_INVALID_VALUE;
    on_gpu.add(size);
    emulated_queue([=] { std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), size); });
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t size) { return cuMemcpyDtoDAsync(to, from, size, nullptr); }
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream) {
    std::lock_guard lock(global_lock);
    if (size == 0) return CUDA_SUCCESS;
    if (!within(allocations, to, size)) return CUDA_ERROR_INVALID_VALUE;
    filled.add(size);
    emulated_queue([=] { std::memset(reinterpret_cast<void *>(to), value, size); });
    return CUDA_SUCCESS;
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t size) { return cuMemsetD8Async(to, value, size, nullptr); }

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    std::lock_guard lock(global_lock);
    modules.push_back(read_ptx(static_cast<const char *>(image)));
    *module = reinterpret_cast<CUmodule>(modules.back());
    return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    std::lock_guard lock(global_lock);
    auto &kernels = reinterpret_cast<Module *>(module)->kernels;
    auto found = kernels.find(name);
    if (found == kernels.end()) return CUDA_ERROR_NOT_FOUND;
    if (!found->second.function) {
        std::fprintf(stderr, "emulated GPU: the kernel %s has no CPU version\n", name);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    *function = reinterpret_cast<CUfunction>(&found->second);
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned shared, CUstream, void **values, void **) {
    std::lock_guard lock(global_lock);
    auto &kernel = *reinterpret_cast<Kernel *>(function);
    const uint64_t threads = uint64_t(block_x) * block_y * block_z;
    if (grid_x == 0 || grid_y == 0 || grid_z == 0 || threads == 0 || threads > MAX_THREADS || block_z > 64 || grid_x > 0x7fffffff ||
        grid_y > 65535 || grid_z > 65535)
        return CUDA_ERROR_INVALID_VALUE;
    if (shared > 48 << 10) return CUDA_ERROR_INVALID_VALUE;
    Call call{kernel.function};
    unsigned integers = 0, floating = 0, on_stack = 0;
    for (size_t i = 0; i < kernel.arguments.size(); i++) {
        auto [bytes, in_floating] = kernel.arguments[i];
        if (bytes > 8) give_up("an argument of " + kernel.name + " has more than eight bytes");
        uint64_t value = 0;
        std::memcpy(&value, values[i], bytes);
        if (in_floating && floating < 8) {
            std::memcpy(&call.floating[floating++], &value, 8);
        } else if (!in_floating && integers < 6) {
            call.integers[integers++] = value;
        } else {
            if (on_stack == std::size(call.stack)) give_up(kernel.name + " has too many arguments");
            call.stack[on_stack++] = value;
        }
    }
    const uint3 grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
    kernel.launches++;
    kernel.threads += threads * grid_x * grid_y * grid_z;
    emulated_queue([&kernel, call, grid, block] { emulated_grid(kernel.name, call, grid, block); });
    return CUDA_SUCCESS;
}
}
