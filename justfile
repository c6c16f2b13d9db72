# Every recipe is one line over the program: without just, run the line itself.

# Build the program.
build:
    cargo build --release

# Run all tests.
test:
    cargo test --release

# Run the unit tests, and those tests of the program that run no model for long.
test-fast:
    cargo test --release --lib --test all -- --skip rounds:: --skip round_ --skip next_round --skip crash --skip damage --skip warm_start --skip training_ --skip gradients --skip parity --skip nano_model --skip mutations --skip replay:: --skip collapse:: --skip unfit_models --skip allocation

# Run the evolution up to round N (or `next`); `just evolve-round 1 --images ~/photos --evolution mine` takes other images.
evolve-round N *ARGS:
    cargo run --release -- evolve-round {{N}} {{ARGS}}

# Make the nano model from nothing: scenes, warm start, export.
nano *ARGS:
    scripts/nano {{ARGS}}

# Ingest a folder of images.
ingest *SOURCES:
    cargo run --release -- ingest {{SOURCES}}

# Check every byte of the store.
verify:
    cargo run --release -- verify --full

# Write the generated files in schemas/.
schemas:
    cargo run --release -- schema --write

# Evidence that the learning is real: docs/results/nano.md and its figures (over forty evolutions; needs polars).
evidence *ARGS:
    python3 bench/evidence {{ARGS}}

# Images per second against a plain Python pipeline, at growing numbers of images.
bench-ingest *ARGS:
    bench/ingest.py {{ARGS}}

# Build for NVIDIA GPUs, on any machine: docs/cuda.md.
build-cuda *ARGS:
    scripts/build-cuda {{ARGS}}

# Check the types of the CUDA build, without a GPU or toolkit: docs/cuda.md.
check-cuda *ARGS:
    scripts/check-cuda {{ARGS}}

# Test our CUDA kernels on the CPU, without a GPU or CUDA compiler: docs/cuda.md.
test-cuda-kernels:
    scripts/test-cuda-kernels

# Run a command of the CUDA program on an emulated GPU: docs/cuda.md.
emulate-gpu *COMMAND:
    scripts/emulated-gpu {{COMMAND}}

# Check and measure a GPU, and compare it with transformers if installed: docs/cuda.md.
gpu-check *ARGS:
    scripts/gpu-check {{ARGS}}
