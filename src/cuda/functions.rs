// CUDA's functions that candle's and cudarc's objects refer to: what `scripts/cuda-functions` lists. Included by libraries.rs.
libraries! {
    CUDA: cuInit;
    CUBLAS_LT: ;
    CUBLAS: ;
    CURAND: ;
    NVRTC: ;
}
