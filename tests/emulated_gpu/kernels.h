// CUDA's additions to C++, for compiling a kernel with the CPU's compiler: `g++ -include kernels.h
// -x c++ KERNEL.cu`. The threads of a block run one after another, each until it waits for others
// (`__syncthreads`, `__shfl_xor_sync`): see grid.cpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

// NVIDIA's dtypes, in their host versions.
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_fp8.h"
#include "vector_functions.h"

#include "emulation.h"

#define __CUDA_ARCH__ 900
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
// A CPU thread runs one block at a time, so shared memory is thread-local.
#define __shared__ static thread_local

#define threadIdx (emulated_place.thread)
#define blockIdx (emulated_place.block)
#define blockDim (emulated_place.block_size)
#define gridDim (emulated_place.grid_size)

inline void __syncthreads() { emulated_barrier(); }

inline unsigned emulated_lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = emulated_exchange(bits, emulated_lane() ^ unsigned(mask));
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

// Blocks may run on several CPU threads, so these must be atomic.
template <typename T, typename Change> T emulated_atomic(T *place, Change change) {
    using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
    auto *bits = reinterpret_cast<Bits *>(place);
    Bits old = __atomic_load_n(bits, __ATOMIC_RELAXED), fresh;
    T value;
    do {
        std::memcpy(&value, &old, sizeof(T));
        T changed = change(value);
        std::memcpy(&fresh, &changed, sizeof(T));
    } while (!__atomic_compare_exchange_n(bits, &old, fresh, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return value;
}
template <typename T> T atomicAdd(T *place, std::common_type_t<T> more) {
    return emulated_atomic(place, [&](T old) { return T(old + more); });
}
template <typename T> T atomicMax(T *place, std::common_type_t<T> other) {
    return emulated_atomic(place, [&](T old) { return old < other ? other : old; });
}
template <typename T> T atomicMin(T *place, std::common_type_t<T> other) {
    return emulated_atomic(place, [&](T old) { return other < old ? other : old; });
}
template <typename T> T atomicCAS(T *place, std::common_type_t<T> expected, std::common_type_t<T> fresh) {
    return emulated_atomic(place, [&](T old) { return old == expected ? fresh : old; });
}

// CUDA's min and max accept mixed integer types.
using std::isnan;
using std::signbit;
template <typename A, typename B> constexpr std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    return T(b) < T(a) ? T(b) : T(a);
}
template <typename A, typename B> constexpr std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    return T(a) < T(b) ? T(b) : T(a);
}

template <typename To, typename From> To emulated_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}
inline unsigned __float_as_uint(float x) { return emulated_cast<unsigned>(x); }
inline int __float_as_int(float x) { return emulated_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return emulated_cast<float>(x); }
inline float __int_as_float(int x) { return emulated_cast<float>(x); }
inline long long __double_as_longlong(double x) { return emulated_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return emulated_cast<double>(x); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678118654752440f); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
inline float __expf(float x) { return expf(x); }
// Each operation is rounded on its own, without fusing.
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
__attribute__((noinline)) inline float __fmul_rn(float a, float b) { return a * b; }
__attribute__((noinline)) inline float __fadd_rn(float a, float b) { return a + b; }
__attribute__((noinline)) inline float __fsub_rn(float a, float b) { return a - b; }
#pragma GCC pop_options

// Functions of 16-bit dtypes that NVIDIA's headers provide for the device only: computed in f32 and
// rounded once, as there.
#define EMULATED_SHORT(T, from, to)                                                                                    \
    inline T hexp(T x) { return to(expf(from(x))); }                                                                   \
    inline T hlog(T x) { return to(logf(from(x))); }                                                                   \
    inline T hsin(T x) { return to(sinf(from(x))); }                                                                   \
    inline T hcos(T x) { return to(cosf(from(x))); }                                                                   \
    inline T hsqrt(T x) { return to(sqrtf(from(x))); }                                                                 \
    inline T hrsqrt(T x) { return to(rsqrtf(from(x))); }                                                               \
    inline T hrcp(T x) { return to(1.0f / from(x)); }
EMULATED_SHORT(__half, __half2float, __float2half)
EMULATED_SHORT(__nv_bfloat16, __bfloat162float, __float2bfloat16)
#undef EMULATED_SHORT
