// Our own GPU kernels: the operations of a decoding step other than matrix products, in one launch
// each where candle needs ten to twenty. Arithmetic is in f32 whatever the dtype, and rounded where
// torch rounds. Rows may have gaps between them: strides count elements. One thread computes one
// element unless stated otherwise.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

namespace {

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_f32(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void round_to(float x, float &to) { to = x; }
__device__ __forceinline__ void round_to(float x, __half &to) { to = __float2half(x); }
__device__ __forceinline__ void round_to(float x, __nv_bfloat16 &to) { to = __float2bfloat16(x); }

__device__ __forceinline__ uint64_t own_index() { return uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

// Adds a row to each of [rows, width], in place.
template <typename T> __device__ void add_row(T *x, const T *row, uint64_t rows, unsigned width) {
    const uint64_t index = own_index();
    if (index >= rows * width) return;
    round_to(to_f32(x[index]) + to_f32(row[index % width]), x[index]);
}

// Rotates the halves of every head: x [tokens, heads * 2 * half], cos and sin [tokens, half], out
// like x without gaps. Angles have the dtype of x or f32.
template <typename T, typename Angle>
__device__ void rotate(const T *x, uint64_t stride, const Angle *cos, const Angle *sin, T *out, uint64_t tokens, unsigned heads, unsigned half) {
    const uint64_t index = own_index(), pairs = uint64_t(heads) * half;
    if (index >= tokens * pairs) return;
    const uint64_t token = index / pairs;
    const unsigned pair = unsigned(index % pairs), offset = pair % half, first = pair / half * 2 * half + offset;
    const float c = to_f32(cos[token * half + offset]), s = to_f32(sin[token * half + offset]);
    const float a = to_f32(x[token * stride + first]), b = to_f32(x[token * stride + first + half]);
    T *to = out + token * 2 * pairs + first;
    // Products and sums are rounded separately, as in torch.
    round_to(__fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s)), to[0]);
    round_to(__fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)), to[half]);
}

// silu(gate) * up on [rows, width]; as in torch, the activation is rounded before the product.
template <typename T>
__device__ void swiglu(const T *gate, uint64_t gate_stride, const T *up, uint64_t up_stride, T *out, uint64_t rows, unsigned width) {
    const uint64_t index = own_index();
    if (index >= rows * width) return;
    const uint64_t row = index / width, column = index % width;
    const float x = to_f32(gate[row * gate_stride + column]);
    T activated;
    round_to(x / (1.0f + expf(-x)), activated);
    round_to(to_f32(activated) * to_f32(up[row * up_stride + column]), out[index]);
}

// Writes keys and values [tokens, width] to their rows of the cache.
template <typename T>
__device__ void store(const T *key, uint64_t key_stride, const T *value, uint64_t value_stride, const uint32_t *slots, T *keys, T *values,
                      uint64_t tokens, unsigned width) {
    const uint64_t index = own_index();
    if (index >= tokens * width) return;
    const uint64_t token = index / width, column = index % width, to = uint64_t(slots[token]) * width + column;
    keys[to] = key[token * key_stride + column];
    values[to] = value[token * value_stride + column];
}

// Copies `count` elements of a cache's keys and values from offset `from` to offset `to`; the
// ranges do not overlap.
template <typename T> __device__ void copy_rows(T *keys, T *values, uint64_t from, uint64_t to, uint64_t count) {
    const uint64_t index = own_index();
    if (index >= count) return;
    keys[to + index] = keys[from + index];
    values[to + index] = values[from + index];
}

// Number of keys that one thread block attends to; `combine_tiles` adds up the blocks. It does not
// depend on the rest of the batch, so neither does a sequence's result.
constexpr unsigned TILE = 128;
constexpr unsigned MAX_HEAD_DIM = 128;
// Numbers that a tile stores per query in addition to the weighted sum of values: the largest score
// and the sum of weights.
constexpr unsigned SOFTMAX_STATS = 2;

// Eight contiguous elements, loaded at once.
template <typename T> struct alignas(sizeof(T) == 4 ? 16 : 8 * sizeof(T)) Eight {
    T x[8];
};

// Attention of one query per sequence over its cached keys, for one key head and its GROUP query
// heads, in one tile of keys. q [sequences, key_heads * GROUP * dim]; keys and values [slots,
// key_heads * dim]; blocks [sequences, max_blocks], each of consecutive slots; lengths [sequences];
// partials [sequences, key_heads * GROUP, tiles, SOFTMAX_STATS + dim]. Grid: sequences, key heads,
// tiles; TILE threads.
template <typename T, unsigned GROUP>
__device__ void attend_tile(const T *q, const T *keys, const T *values, const uint32_t *blocks, const uint32_t *lengths, float *partials,
                            unsigned max_blocks, unsigned block_size, unsigned key_heads, unsigned dim, float scale) {
    const unsigned sequence = blockIdx.x, head = blockIdx.y, tile = blockIdx.z, thread = threadIdx.x;
    const unsigned length = lengths[sequence], first = tile * TILE;
    if (first >= length) return;
    const unsigned count = length - first < TILE ? length - first : TILE;

    __shared__ float queries[GROUP * MAX_HEAD_DIM];
    __shared__ float weights[GROUP * TILE];
    __shared__ uint32_t slots[TILE];
    // Partial sums: the threads split the keys into shares. A share has a thread per pair of
    // elements of a head, and GROUP rows here.
    __shared__ float sums[GROUP * 2 * TILE];

    const uint64_t width = uint64_t(key_heads) * dim;
    const T *own_queries = q + (uint64_t(sequence) * key_heads + head) * GROUP * dim;
    for (unsigned i = thread; i < GROUP * dim; i += TILE) queries[i] = to_f32(own_queries[i]) * scale;
    if (thread < count) {
        const unsigned at = first + thread;
        slots[thread] = blocks[uint64_t(sequence) * max_blocks + at / block_size] * block_size + at % block_size;
    }
    __syncthreads();

    // Each thread multiplies its key with each query.
    float scores[GROUP];
    for (unsigned g = 0; g < GROUP; g++) scores[g] = 0.0f;
    if (thread < count) {
        const T *key = keys + slots[thread] * width + head * dim;
        for (unsigned d = 0; d < dim; d += 8) {
            const Eight<T> eight = *reinterpret_cast<const Eight<T> *>(key + d);
            for (unsigned i = 0; i < 8; i++) {
                const float x = to_f32(eight.x[i]);
                for (unsigned g = 0; g < GROUP; g++) scores[g] += x * queries[g * dim + d + i];
            }
        }
    }
    for (unsigned g = 0; g < GROUP; g++) weights[g * TILE + thread] = thread < count ? scores[g] : -INFINITY;
    __syncthreads();

    // Each warp computes the softmax weights of some queries.
    const unsigned tiles = gridDim.z, part = SOFTMAX_STATS + dim;
    float *own_partials = partials + ((uint64_t(sequence) * key_heads + head) * GROUP * tiles + tile) * part;
    for (unsigned g = thread / 32; g < GROUP; g += TILE / 32) {
        float *row = weights + g * TILE;
        const unsigned lane = thread % 32;
        float largest = -INFINITY, sum = 0.0f;
        for (unsigned i = lane; i < TILE; i += 32) largest = fmaxf(largest, row[i]);
        for (unsigned other = 16; other > 0; other /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, other));
        for (unsigned i = lane; i < TILE; i += 32) {
            const float weight = expf(row[i] - largest);
            row[i] = weight;
            sum += weight;
        }
        for (unsigned other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffff, sum, other);
        if (lane == 0) {
            own_partials[uint64_t(g) * tiles * part] = largest;
            own_partials[uint64_t(g) * tiles * part + 1] = sum;
        }
    }
    __syncthreads();

    // Each thread sums two elements of the values over its share of the keys.
    const unsigned pairs = dim / 2, shares = TILE / pairs, share = thread / pairs, pair = thread % pairs;
    if (share < shares) {
        float left[GROUP], right[GROUP];
        for (unsigned g = 0; g < GROUP; g++) left[g] = right[g] = 0.0f;
        for (unsigned j = share; j < count; j += shares) {
            const T *value = values + slots[j] * width + head * dim + 2 * pair;
            const float x = to_f32(value[0]), y = to_f32(value[1]);
            for (unsigned g = 0; g < GROUP; g++) {
                left[g] += weights[g * TILE + j] * x;
                right[g] += weights[g * TILE + j] * y;
            }
        }
        for (unsigned g = 0; g < GROUP; g++) {
            sums[(share * GROUP + g) * dim + 2 * pair] = left[g];
            sums[(share * GROUP + g) * dim + 2 * pair + 1] = right[g];
        }
    }
    __syncthreads();
    for (unsigned i = thread; i < GROUP * dim; i += TILE) {
        float sum = 0.0f;
        for (unsigned s = 0; s < shares; s++) sum += sums[s * GROUP * dim + i];
        own_partials[uint64_t(i / dim) * tiles * part + SOFTMAX_STATS + i % dim] = sum;
    }
}

// Combines the tiles of a query: partials as above, out [sequences, heads * dim]. Grid: sequences,
// heads; one thread per element of a head.
template <typename T>
__device__ void combine_tiles(const float *partials, const uint32_t *lengths, T *out, unsigned max_tiles, unsigned dim) {
    const unsigned sequence = blockIdx.x, head = blockIdx.y, d = threadIdx.x, heads = gridDim.y;
    const unsigned tiles = (lengths[sequence] + TILE - 1) / TILE, part = SOFTMAX_STATS + dim;
    const float *own = partials + (uint64_t(sequence) * heads + head) * max_tiles * part;
    float largest = -INFINITY, weights = 0.0f, sum = 0.0f;
    for (unsigned t = 0; t < tiles; t++) largest = fmaxf(largest, own[t * part]);
    for (unsigned t = 0; t < tiles; t++) {
        const float factor = expf(own[t * part] - largest);
        weights += factor * own[t * part + 1];
        sum += factor * own[t * part + SOFTMAX_STATS + d];
    }
    round_to(sum / weights, out[(uint64_t(sequence) * heads + head) * dim + d]);
}

} // namespace

#define ATTEND(T, NAME, GROUP)                                                                                                             \
    extern "C" __global__ void __launch_bounds__(TILE) attend_tile_##NAME##_##GROUP(                                                       \
        const T *q, const T *keys, const T *values, const uint32_t *blocks, const uint32_t *lengths, float *partials, unsigned max_blocks,   \
        unsigned block_size, unsigned key_heads, unsigned dim, float scale) {                                                              \
        attend_tile<T, GROUP>(q, keys, values, blocks, lengths, partials, max_blocks, block_size, key_heads, dim, scale);                    \
    }

#define ROTATE(T, Angle, NAME)                                                                                                             \
    extern "C" __global__ void rotate_##NAME(const T *x, uint64_t stride, const Angle *cos, const Angle *sin, T *out, uint64_t tokens,     \
                                             unsigned heads, unsigned half) {                                                              \
        rotate(x, stride, cos, sin, out, tokens, heads, half);                                                                             \
    }

#define KERNELS(T, NAME)                                                                                                                   \
    ROTATE(T, T, NAME)                                                                                                                     \
    extern "C" __global__ void add_row_##NAME(T *x, const T *row, uint64_t rows, unsigned width) { add_row(x, row, rows, width); }         \
    extern "C" __global__ void swiglu_##NAME(const T *gate, uint64_t gate_stride, const T *up, uint64_t up_stride, T *out, uint64_t rows,  \
                                             unsigned width) {                                                                             \
        swiglu(gate, gate_stride, up, up_stride, out, rows, width);                                                                        \
    }                                                                                                                                      \
    extern "C" __global__ void store_##NAME(const T *key, uint64_t key_stride, const T *value, uint64_t value_stride,                      \
                                            const uint32_t *slots, T *keys, T *values, uint64_t tokens, unsigned width) {                  \
        store(key, key_stride, value, value_stride, slots, keys, values, tokens, width);                                                   \
    }                                                                                                                                      \
    extern "C" __global__ void copy_rows_##NAME(T *keys, T *values, uint64_t from, uint64_t to, uint64_t count) {                          \
        copy_rows(keys, values, from, to, count);                                                                                          \
    }                                                                                                                                      \
    extern "C" __global__ void combine_tiles_##NAME(const float *partials, const uint32_t *lengths, T *out, unsigned max_tiles,               \
                                                   unsigned dim) {                                                                         \
        combine_tiles(partials, lengths, out, max_tiles, dim);                                                                                \
    }                                                                                                                                      \
    ATTEND(T, NAME, 1)                                                                                                                     \
    ATTEND(T, NAME, 2)                                                                                                                     \
    ATTEND(T, NAME, 3)                                                                                                                     \
    ATTEND(T, NAME, 4)                                                                                                                     \
    ATTEND(T, NAME, 5)                                                                                                                     \
    ATTEND(T, NAME, 6)                                                                                                                     \
    ATTEND(T, NAME, 7)                                                                                                                     \
    ATTEND(T, NAME, 8)

KERNELS(float, f32)
KERNELS(__half, f16)
KERNELS(__nv_bfloat16, bf16)
ROTATE(__half, float, f16_f32)
ROTATE(__nv_bfloat16, float, bf16_f32)
