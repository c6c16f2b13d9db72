# Every recipe is a single command: without just, run that command.

# Build the program.
build:
    cargo build --release

# Run all tests.
test:
    cargo test --release

# Run the unit tests, and the integration tests that run no model for long.
test-fast:
    cargo test --release --lib --test all -- --skip rounds:: --skip round_ --skip next_round --skip crash --skip damage --skip warm_start --skip training_ --skip gradients --skip parity --skip nano_model --skip mutations --skip replay:: --skip collapse:: --skip unfit_models --skip allocation --skip many_workers --skip retention --skip file_systems --skip benchmark_scorers

# Kill rounds at 200 random moments, by one process and by two workers on a network file system.
test-kills:
    VISPLAY_KILLS=200 cargo test --release --test all killed_at_any_moment

# Measure what more processes gain on one round.
bench-workers *ARGS:
    bench/workers.py {{ARGS}}

# Run rounds on a real Slurm cluster of two nodes on this machine, as root on Debian; `--short` for the tests of CI.
test-slurm *ARGS:
    tests/slurm/suite.py target/release/visplay {{ARGS}}

# Run the evolution up to round N (or `next`); `just evolve-round 1 --images ~/photos --evolution mine` takes other images.
evolve-round N *ARGS:
    cargo run --release -- evolve-round {{N}} {{ARGS}}

# Train the nano model from scratch: scenes, warm start, export.
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

# Rerun the experiments of docs/results/nano.md and write its tables and figures (over forty evolutions; needs polars).
evidence *ARGS:
    python3 bench/evidence {{ARGS}}

# Measure ingest in images per second, compared with a plain Python pipeline.
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
