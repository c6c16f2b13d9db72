// Matrix products (libcublas.so.13) for the emulated GPU, with sequential sums in f32, or in f64
// for f64.
#include <cublas_api.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <thread>
#include <vector>

#include "emulation.h"

namespace {

size_t bytes_of(cudaDataType_t type) {
    switch (type) {
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    case CUDA_R_32F: return 4;
    case CUDA_R_64F: return 8;
    default: return 0;
    }
}

template <typename Sum> Sum read(const void *from, cudaDataType_t type, size_t i) {
    switch (type) {
    case CUDA_R_16F: return __half2float(static_cast<const __half *>(from)[i]);
    case CUDA_R_16BF: return __bfloat162float(static_cast<const __nv_bfloat16 *>(from)[i]);
    case CUDA_R_64F: return Sum(static_cast<const double *>(from)[i]);
    default: return static_cast<const float *>(from)[i];
    }
}

template <typename Sum> void write(void *to, cudaDataType_t type, size_t i, Sum value) {
    switch (type) {
    case CUDA_R_16F: static_cast<__half *>(to)[i] = __float2half(float(value)); break;
    case CUDA_R_16BF: static_cast<__nv_bfloat16 *>(to)[i] = __float2bfloat16(float(value)); break;
    case CUDA_R_64F: static_cast<double *>(to)[i] = double(value); break;
    default: static_cast<float *>(to)[i] = float(value); break;
    }
}

// One product, column-major as in Fortran: C = alpha op(A) op(B) + beta C, where op(A) is m x k,
// op(B) is k x n.
struct Product {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    const void *a, *b;
    void *c;
    cudaDataType_t a_type, b_type, c_type;
    size_t lda, ldb, ldc;
};

template <typename Sum> void multiply(const Product &p, Sum alpha, Sum beta) {
    std::vector<Sum> a(p.m * p.k), column(p.m);
    for (size_t l = 0; l < p.k; l++)
        for (size_t i = 0; i < p.m; i++) a[l * p.m + i] = read<Sum>(p.a, p.a_type, p.transpose_a ? l + i * p.lda : i + l * p.lda);
    for (size_t j = 0; j < p.n; j++) {
        std::fill(column.begin(), column.end(), Sum(0));
        for (size_t l = 0; l < p.k; l++) {
            const Sum factor = read<Sum>(p.b, p.b_type, p.transpose_b ? j + l * p.ldb : l + j * p.ldb);
            const Sum *from = &a[l * p.m];
            for (size_t i = 0; i < p.m; i++) column[i] += from[i] * factor;
        }
        for (size_t i = 0; i < p.m; i++) {
            // With beta 0, C is not read: it may be NaN.
            Sum value = alpha * column[i];
            if (beta != Sum(0)) value += beta * read<Sum>(p.c, p.c_type, i + j * p.ldc);
            write(p.c, p.c_type, i + j * p.ldc, value);
        }
    }
}

// Splits a large product by columns, or a batch by products, between two threads.
template <typename Sum> void multiply_all(Product p, Sum alpha, Sum beta, size_t batch, size_t step_a, size_t step_b, size_t step_c) {
    auto at = [](const void *from, cudaDataType_t type, size_t i) { return static_cast<const char *>(from) + bytes_of(type) * i; };
    auto some = [=](size_t first, size_t last, size_t from, size_t to) {
        for (size_t i = first; i < last; i++) {
            Product one = p;
            one.a = at(p.a, p.a_type, i * step_a);
            one.b = at(p.b, p.b_type, i * step_b + from * (p.transpose_b ? 1 : p.ldb));
            one.c = const_cast<char *>(at(p.c, p.c_type, i * step_c + from * p.ldc));
            one.n = to - from;
            multiply(one, alpha, beta);
        }
    };
    if (batch * p.m * p.n * p.k < 1 << 20) return some(0, batch, 0, p.n);
    const bool by_batch = batch > 1;
    const size_t half = (by_batch ? batch : p.n) / 2;
    std::thread other([=] { by_batch ? some(0, half, 0, p.n) : some(0, batch, 0, half); });
    by_batch ? some(half, batch, 0, p.n) : some(0, batch, half, p.n);
    other.join();
}

// Number of elements that the matrices of a batch span.
size_t span(size_t rows, size_t columns, size_t ld, size_t batch, size_t step) { return (batch - 1) * step + (columns - 1) * ld + rows; }

cublasStatus_t queue(cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k, const void *alpha, const void *a,
                     cudaDataType_t a_type, int lda, long long step_a, const void *b, cudaDataType_t b_type, int ldb, long long step_b,
                     const void *beta, void *c, cudaDataType_t c_type, int ldc, long long step_c, int batch, bool in_f64, bool scalars_f16) {
    const bool ta = op_a != CUBLAS_OP_N, tb = op_b != CUBLAS_OP_N;
    if (m < 0 || n < 0 || k < 0 || batch < 0 || lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!bytes_of(a_type) || !bytes_of(b_type) || !bytes_of(c_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    const size_t reach_a = bytes_of(a_type) * span(size_t(ta ? k : m), size_t(ta ? m : k), size_t(lda), size_t(batch), size_t(step_a));
    const size_t reach_b = bytes_of(b_type) * span(size_t(tb ? n : k), size_t(tb ? k : n), size_t(ldb), size_t(batch), size_t(step_b));
    const size_t reach_c = bytes_of(c_type) * span(size_t(m), size_t(n), size_t(ldc), size_t(batch), size_t(step_c));
    if ((k > 0 && (!emulated_is_on_gpu(a, reach_a) || !emulated_is_on_gpu(b, reach_b))) || !emulated_is_on_gpu(c, reach_c)) {
        std::fprintf(stderr, "emulated GPU: a matrix product of %d x %d x %d, %d of them, exceeds its memory\n", m, n, k, batch);
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    const Product p{ta, tb, size_t(m), size_t(n), size_t(k), a, b, c, a_type, b_type, c_type, size_t(lda), size_t(ldb), size_t(ldc)};
    if (in_f64) {
        const double al = *static_cast<const double *>(alpha), be = *static_cast<const double *>(beta);
        emulated_queue([=] { multiply_all<double>(p, al, be, size_t(batch), size_t(step_a), size_t(step_b), size_t(step_c)); });
    } else {
        const cudaDataType_t scalar = scalars_f16 ? CUDA_R_16F : CUDA_R_32F;
        const float al = read<float>(alpha, scalar, 0), be = read<float>(beta, scalar, 0);
        emulated_queue([=] { multiply_all<float>(p, al, be, size_t(batch), size_t(step_a), size_t(step_b), size_t(step_c)); });
    }
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
    static int it;
    *handle = reinterpret_cast<cublasHandle_t>(&it);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t, cublasPointerMode_t *mode) {
    *mode = CUBLAS_POINTER_MODE_HOST;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t, cublasPointerMode_t mode) {
    return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType_t a_type, int lda, long long step_a, const void *b,
                                          cudaDataType_t b_type, int ldb, long long step_b, const void *beta, void *c, cudaDataType_t c_type,
                                          int ldc, long long step_c, int batch, cublasComputeType_t compute, cublasGemmAlgo_t) {
    const bool f64 = compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC;
    const bool f16 = compute == CUBLAS_COMPUTE_16F || compute == CUBLAS_COMPUTE_16F_PEDANTIC;
    return queue(op_a, op_b, m, n, k, alpha, a, a_type, lda, step_a, b, b_type, ldb, step_b, beta, c, c_type, ldc, step_c, batch, f64, f16);
}
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType_t a_type, int lda, const void *b, cudaDataType_t b_type, int ldb, const void *beta,
                            void *c, cudaDataType_t c_type, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type, ldc, 0, 1,
                                      compute, algorithm);
}
cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                         const double *alpha, const double *a, int lda, long long step_a, const double *b, int ldb,
                                         long long step_b, const double *beta, double *c, int ldc, long long step_c, int batch) {
    return queue(op_a, op_b, m, n, k, alpha, a, CUDA_R_64F, lda, step_a, b, CUDA_R_64F, ldb, step_b, beta, c, CUDA_R_64F, ldc, step_c, batch,
                 true, false);
}
}
