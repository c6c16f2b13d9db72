// Tests our GPU kernels (src/device/cuda/kernels.cu) on the emulated GPU against plain f64 code, in
// usual and odd shapes. scripts/test-cuda-kernels builds and runs it.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "../../src/device/cuda/kernels.cu"

static int cases = 0, failed = 0;

// Returns number `i` of a fixed sequence in [-1, 1).
static double number(uint64_t i) {
    uint64_t x = (i + 1) * 0x9E3779B97F4A7C15u;
    x ^= x >> 31;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 29;
    return double(x >> 11) / double(uint64_t(1) << 52) - 1.0;
}

// Rows of `width` numbers with `gap` elements between them, which are NaN, like the element after
// the last row.
template <typename T> struct Rows {
    std::vector<T> all;
    uint64_t stride;
    unsigned gap;
    Rows(uint64_t count, uint64_t width, unsigned gap, uint64_t seed, double scale = 1.0) : stride(width + gap), gap(gap) {
        all.resize(count * stride + gap + 1);
        for (auto &x : all) round_to(NAN, x);
        for (uint64_t r = 0; r < count; r++)
            for (uint64_t c = 0; c < width; c++) round_to(float(scale * number(seed * 1000003 + r * width + c)), all[gap + r * stride + c]);
    }
    const T *data() const { return all.data() + gap; }
    double at(uint64_t row, uint64_t column) const { return to_f32(all[gap + row * stride + column]); }
};

// An output filled with NaN, followed by guard elements that a kernel must not write.
template <typename T> struct Result {
    std::vector<T> all;
    uint64_t count;
    explicit Result(uint64_t count) : all(count + 64), count(count) {
        for (auto &x : all) round_to(NAN, x);
    }
    bool is_guard_intact() const {
        for (uint64_t i = count; i < all.size(); i++)
            if (!std::isnan(to_f32(all[i]))) return false;
        return true;
    }
};

template <typename T> constexpr double UNIT = sizeof(T) == 4 ? 3e-6 : (std::is_same_v<T, __half> ? 1.0 / 1024 : 1.0 / 128);
// Smallest difference that a dtype can resolve near zero.
template <typename T> constexpr double MIN_STEP = std::is_same_v<T, __half> ? 6e-8 : 1e-37;
template <typename T> const char *type_name() { return sizeof(T) == 4 ? "f32" : std::is_same_v<T, __half> ? "f16" : "bf16"; }

static void check(bool passed, const std::string &what) {
    cases++;
    if (passed) return;
    failed++;
    std::printf("FAILED: %s\n", what.c_str());
}

// Compares each number with the expected one, allowing a rounding error of it, or of the largest
// one where sums cancel.
template <typename T> void compare(const Result<T> &found, const std::vector<double> &expected, double of_largest, const std::string &what) {
    double largest = 0.0;
    for (double x : expected) largest = std::max(largest, std::abs(x));
    for (uint64_t i = 0; i < expected.size(); i++) {
        const double difference = std::abs(to_f32(found.all[i]) - expected[i]);
        if (!(difference <= UNIT<T> * std::abs(expected[i]) + of_largest * largest + MIN_STEP<T>)) {
            check(false, what + ", element " + std::to_string(i) + ": " + std::to_string(to_f32(found.all[i])) + ", expected " + std::to_string(expected[i]));
            return;
        }
    }
    check(found.is_guard_intact(), what + ": write past the end");
}

static uint3 blocks_for(uint64_t elements, unsigned threads) { return {unsigned((elements + threads - 1) / threads), 1, 1}; }

template <typename T, typename Angle> void test_rotate() {
    const unsigned shapes[][4] = {{1, 1, 1, 0}, {3, 5, 4, 7}, {257, 2, 40, 0}, {33, 16, 64, 24}, {100, 3, 16, 1}};
    for (const auto &[tokens, heads, half, gap] : shapes) {
        const unsigned width = heads * 2 * half;
        Rows<T> x(tokens, width, gap, 1);
        Rows<Angle> cos(tokens, half, 0, 2), sin(tokens, half, 0, 3);
        Result<T> out(uint64_t(tokens) * width);
        emulated_grid("a kernel", [&, heads = heads, half = half, tokens = tokens] { rotate(x.data(), x.stride, cos.data(), sin.data(), out.all.data(), tokens, heads, half); },
                      blocks_for(uint64_t(tokens) * width / 2, 256), {256, 1, 1});
        std::vector<double> expected(uint64_t(tokens) * width);
        for (unsigned t = 0; t < tokens; t++)
            for (unsigned h = 0; h < heads; h++)
                for (unsigned i = 0; i < half; i++) {
                    const unsigned a = h * 2 * half + i, b = a + half;
                    expected[t * width + a] = x.at(t, a) * cos.at(t, i) - x.at(t, b) * sin.at(t, i);
                    expected[t * width + b] = x.at(t, b) * cos.at(t, i) + x.at(t, a) * sin.at(t, i);
                }
        compare(out, expected, 1e-6, std::string("rotate ") + type_name<T>() + " " + std::to_string(tokens) + " x " + std::to_string(width));
    }
}

template <typename T> void test_add_row() {
    const unsigned shapes[][2] = {{1, 1}, {3, 257}, {100, 33}};
    for (const auto &[rows, width] : shapes) {
        Rows<T> x(rows, width, 0, 9), row(1, width, 0, 10);
        Result<T> out(uint64_t(rows) * width);
        std::vector<double> expected(uint64_t(rows) * width);
        for (uint64_t i = 0; i < expected.size(); i++) {
            out.all[i] = x.data()[i];
            expected[i] = x.at(i / width, i % width) + row.at(0, i % width);
        }
        emulated_grid("a kernel", [&, rows = rows, width = width] { add_row(out.all.data(), row.data(), rows, width); },
                      blocks_for(uint64_t(rows) * width, 256), {256, 1, 1});
        compare(out, expected, 1e-6, std::string("add a row ") + type_name<T>() + " " + std::to_string(rows) + " x " + std::to_string(width));
    }
}

template <typename T> void test_swiglu() {
    const unsigned shapes[][3] = {{1, 1, 0}, {3, 257, 5}, {100, 33, 0}, {128, 137, 8}};
    for (const auto &[rows, width, gap] : shapes)
        for (double scale : {1.0, 200.0}) {
            Rows<T> gate(rows, width, gap, 4, scale), up(rows, width, gap + 3, 5);
            Result<T> out(uint64_t(rows) * width);
            emulated_grid("a kernel", [&, rows = rows, width = width] { swiglu(gate.data(), gate.stride, up.data(), up.stride, out.all.data(), rows, width); },
                          blocks_for(uint64_t(rows) * width, 256), {256, 1, 1});
            std::vector<double> expected(uint64_t(rows) * width);
            for (unsigned r = 0; r < rows; r++)
                for (unsigned c = 0; c < width; c++) expected[r * width + c] = gate.at(r, c) / (1.0 + std::exp(-gate.at(r, c))) * up.at(r, c);
            compare(out, expected, 1e-6, std::string("swiglu ") + type_name<T>() + " " + std::to_string(rows) + " x " + std::to_string(width));
        }
}

// Returns the slot of a sequence's token by the sequence's blocks, which may be in any order.
static uint32_t slot(const std::vector<uint32_t> &blocks, unsigned most, unsigned size, unsigned sequence, unsigned at) {
    return blocks[sequence * most + at / size] * size + at % size;
}

template <typename T, unsigned GROUP> void test_attend(unsigned key_heads, unsigned dim, unsigned block_size, double scale_of_scores) {
    const std::vector<uint32_t> lengths = {1, block_size - 1, block_size, block_size + 1, 127, 128, 129, 300, 256};
    const unsigned sequences = unsigned(lengths.size()), most = (300 + block_size - 1) / block_size, count = sequences * most;
    std::vector<uint32_t> blocks(count);
    // Each block once, in no order: the stride shares no factor with the number of blocks.
    unsigned stride = 7;
    while (std::__gcd(stride, count) != 1) stride++;
    for (unsigned i = 0; i < count; i++) blocks[i] = i * stride % count;

    const unsigned width = key_heads * dim, heads = key_heads * GROUP, slots = count * block_size;
    const std::string name = std::string(type_name<T>()) + ", " + std::to_string(GROUP) + " x " + std::to_string(key_heads) + " heads of " + std::to_string(dim);
    // Our kernel stores these from rows with gaps between them. A slot in which nothing is stored is
    // NaN and must not be read.
    Result<T> keys(uint64_t(slots) * width), values(uint64_t(slots) * width);
    unsigned tokens = 0;
    for (uint32_t length : lengths) tokens += length;
    Rows<T> k(tokens, width, 8, 6, scale_of_scores), v(tokens, width, 24, 7);
    std::vector<uint32_t> to;
    for (unsigned s = 0; s < sequences; s++)
        for (unsigned at = 0; at < lengths[s]; at++) to.push_back(slot(blocks, most, block_size, s, at));
    emulated_grid("a kernel", [&] { store(k.data(), k.stride, v.data(), v.stride, to.data(), keys.all.data(), values.all.data(), tokens, width); },
                  blocks_for(uint64_t(tokens) * width, 256), {256, 1, 1});
    bool stored = keys.is_guard_intact() && values.is_guard_intact();
    for (unsigned t = 0; t < tokens; t++)
        for (unsigned c = 0; c < width; c++)
            stored &= to_f32(keys.all[uint64_t(to[t]) * width + c]) == k.at(t, c) && to_f32(values.all[uint64_t(to[t]) * width + c]) == v.at(t, c);
    check(stored, "store " + name);

    // Copies the first block over an unused one, as for a sample that gets its own copy.
    Result<T> more_keys(uint64_t(block_size) * width * 2), more_values(uint64_t(block_size) * width * 2);
    const uint64_t block = uint64_t(block_size) * width;
    for (uint64_t i = 0; i < block; i++) more_keys.all[block + i] = k.data()[i % width], more_values.all[block + i] = v.data()[i % width];
    emulated_grid("a kernel", [&] { copy_rows(more_keys.all.data(), more_values.all.data(), block, 0, block); }, blocks_for(block, 256), {256, 1, 1});
    bool copied = more_keys.is_guard_intact() && more_values.is_guard_intact();
    for (uint64_t i = 0; i < 2 * block; i++)
        copied &= to_f32(more_keys.all[i]) == k.at(0, i % width) && to_f32(more_values.all[i]) == v.at(0, i % width);
    check(copied, "copy rows " + name);

    const unsigned tiles = (300 + TILE - 1) / TILE;
    const float scale = float(1.0 / std::sqrt(double(dim)));
    Rows<T> q(sequences, heads * dim, 0, 8);
    Result<float> partials(uint64_t(sequences) * heads * tiles * (SOFTMAX_STATS + dim));
    Result<T> out(uint64_t(sequences) * heads * dim);
    emulated_grid("a kernel", [&] { attend_tile<T, GROUP>(q.data(), keys.all.data(), values.all.data(), blocks.data(), lengths.data(), partials.all.data(), most, block_size, key_heads, dim, scale); },
                  {sequences, key_heads, tiles}, {TILE, 1, 1});
    emulated_grid("a kernel", [&] { combine_tiles(partials.all.data(), lengths.data(), out.all.data(), tiles, dim); }, {sequences, heads, 1}, {dim, 1, 1});
    check(partials.is_guard_intact(), "attend " + name + ": write past the partial results");

    std::vector<double> expected(uint64_t(sequences) * heads * dim);
    unsigned first = 0;
    for (unsigned s = 0; s < sequences; first += lengths[s++])
        for (unsigned h = 0; h < heads; h++) {
            const unsigned offset = h / GROUP * dim;
            std::vector<double> scores(lengths[s]);
            double largest = -INFINITY, sum = 0.0;
            for (unsigned j = 0; j < lengths[s]; j++) {
                for (unsigned d = 0; d < dim; d++) scores[j] += q.at(s, h * dim + d) * k.at(first + j, offset + d) * scale;
                largest = std::max(largest, scores[j]);
            }
            for (double &score : scores) sum += score = std::exp(score - largest);
            for (unsigned d = 0; d < dim; d++) {
                double mixed = 0.0;
                for (unsigned j = 0; j < lengths[s]; j++) mixed += scores[j] / sum * v.at(first + j, offset + d);
                expected[(uint64_t(s) * heads + h) * dim + d] = mixed;
            }
        }
    compare(out, expected, 2e-6 * std::max(1.0, scale_of_scores), "attend " + name);
}

template <typename T> void test_all() {
    test_rotate<T, T>();
    test_rotate<T, float>();
    test_add_row<T>();
    test_swiglu<T>();
    // Heads of the supported models and odd ones; scores that are nearly equal, and scores
    // dominated by one key.
    for (double scale : {1.0, 60.0}) {
        test_attend<T, 8>(2, 128, 32, scale);
        test_attend<T, 7>(4, 128, 32, scale);
        test_attend<T, 4>(8, 128, 16, scale);
        test_attend<T, 2>(2, 32, 32, scale);
        test_attend<T, 1>(3, 8, 32, scale);
        test_attend<T, 3>(1, 24, 32, scale);
        test_attend<T, 5>(2, 80, 64, scale);
        test_attend<T, 6>(1, 64, 32, scale);
    }
}

int main() {
    test_all<float>();
    test_all<__half>();
    test_all<__nv_bfloat16>();
    std::printf("own CUDA kernels on the emulated GPU: %d passed, %d failed\n", cases - failed, failed);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
