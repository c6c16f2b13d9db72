// Random numbers (libcurand.so.10) for the emulated GPU. candle creates a generator when it opens a
// GPU, but visplay draws all random numbers on the host. So asking this library for one is an
// error.
#include <curand.h>

extern "C" {
curandStatus_t curandCreateGenerator(curandGenerator_t *generator, curandRngType_t) {
    static int it;
    *generator = reinterpret_cast<curandGenerator_t>(&it);
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetStream(curandGenerator_t, cudaStream_t) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t, unsigned long long) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandSetGeneratorOffset(curandGenerator_t, unsigned long long) { return CURAND_STATUS_SUCCESS; }
curandStatus_t curandGenerateUniform(curandGenerator_t, float *, size_t) { return CURAND_STATUS_INITIALIZATION_FAILED; }
curandStatus_t curandGenerateUniformDouble(curandGenerator_t, double *, size_t) { return CURAND_STATUS_INITIALIZATION_FAILED; }
curandStatus_t curandGenerateNormal(curandGenerator_t, float *, size_t, float, float) { return CURAND_STATUS_INITIALIZATION_FAILED; }
curandStatus_t curandGenerateNormalDouble(curandGenerator_t, double *, size_t, double, double) { return CURAND_STATUS_INITIALIZATION_FAILED; }
}
