//! Our GPU kernels (`kernels.cu`): the operations of a decoding step other than matrix products.
//!
//! They have no backward pass. The reference implementations are candle's operations in `vlm/ops`,
//! which also serve where gradients are needed and for other dtypes. `visplay doctor --full`
//! compares the two.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Storage, StorageRef, Tensor, WithDType, bail};
use half::{bf16, f16};

use crate::kernels::attention::{BLOCK, Heads};

/// `kernels.cu`, compiled to PTX by build.rs.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const MODULE: &str = "visplay";
/// Threads per block where one thread computes one element.
const THREADS: u32 = 256;
/// Constants of `kernels.cu`: keys per tile, the largest head dimension, and the numbers that a
/// tile keeps in addition to a head's weighted sum (maximum score and sum of weights).
const TILE: usize = 128;
const MAX_HEAD_DIM: usize = 128;
const SOFTMAX_STATS: usize = 2;
/// Largest number of query heads per key head.
const MAX_GROUP: usize = 8;
/// Default limit on the elements of partial results that [`attend`] holds at once.
pub const MAX_PARTIAL_ELEMENTS: usize = 1 << 28;

/// Number of launches so far.
static LAUNCHES: AtomicU64 = AtomicU64::new(0);

/// Returns the number of launches of our kernels in this process, from which checks see whether
/// they were used.
pub fn launches() -> u64 {
    LAUNCHES.load(Ordering::Relaxed)
}

/// Whether the kernels exist for a dtype.
pub fn supports(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Calls a generic function with the Rust type of a dtype.
macro_rules! typed {
    ($dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            DType::F32 => $function::<f32>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            other => bail!("no GPU kernel for dtype {}", other.as_str()),
        }
    };
}

/// A matrix on the GPU whose rows may have gaps between them, or a vector.
struct Rows<'a, T> {
    elements: CudaView<'a, T>,
    stride: u64,
}

/// Views a tensor of one or two dimensions whose rows are contiguous.
fn rows<'a, T: CudaDType>((storage, layout): &'a (StorageRef<'_>, &Layout)) -> Result<Rows<'a, T>> {
    let Storage::Cuda(storage) = &**storage else { bail!("a GPU kernel was given a tensor that is not on the GPU") };
    let stride = match *layout.stride() {
        [1] => 1,
        [stride, 1] => stride,
        // For rows of one element, or for a single row, candle's strides may be anything.
        _ if layout.is_contiguous() => layout.dims().last().copied().unwrap_or(1),
        _ => bail!("a GPU kernel needs contiguous rows, not {layout:?}"),
    };
    let elements = storage.as_cuda_slice::<T>()?.slice(layout.start_offset()..);
    Ok(Rows { elements, stride: stride as u64 })
}

/// Loads the kernel of this name for elements of type `T`.
fn load_kernel_for<T: WithDType>(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    load_kernel(device, &format!("{name}_{}", T::DTYPE.as_str()))
}

/// Loads a kernel by its full name, and counts a launch.
fn load_kernel(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    LAUNCHES.fetch_add(1, Ordering::Relaxed);
    Ok(device.get_or_load_custom_func(name, MODULE, PTX)?.into_cuda_function())
}

/// Returns a launch configuration with one thread per element.
fn one_thread_per_element(elements: usize) -> Result<LaunchConfig> {
    let blocks = u32::try_from(elements.div_ceil(THREADS as usize)).map_err(candle_core::Error::wrap)?;
    Ok(LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 })
}

fn to_u32(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(candle_core::Error::wrap)
}

/// Wraps the output of a kernel as a tensor.
fn wrap_output<T: CudaDType>(elements: CudaSlice<T>, device: &CudaDevice, shape: impl Into<Shape>) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(elements, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// Computes `x Wᵀ + b` for `x` `[tokens, in]`, weight `[out, in]` and bias `[out]`. The product is
/// candle's; our kernel adds the bias in place.
///
/// # Errors
/// Shapes or dtypes do not match, or the GPU fails.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let product = x.matmul(&weight.t()?)?;
    if bias.dims() != [product.dim(1)?] {
        bail!("linear: a bias {:?} does not fit a weight {:?}", bias.dims(), weight.dims());
    }
    if product.elem_count() > 0 {
        typed!(x.dtype(), add_row(&product, &bias.contiguous()?))?;
    }
    Ok(product)
}

/// Adds a row to every row of `x` in place; `x` must not be shared.
fn add_row<T: CudaDType + WithDType + DeviceRepr>(x: &Tensor, row: &Tensor) -> Result<()> {
    let device = x.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let (tokens, width) = x.dims2()?;
    let (x_guard, row_guard) = (x.storage_and_layout(), row.storage_and_layout());
    let (x, row) = (rows::<T>(&x_guard)?, rows::<T>(&row_guard)?);
    let kernel = load_kernel_for::<T>(device, "add_row")?;
    let (count, columns) = (tokens as u64, to_u32(width)?);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&x.elements).arg(&row.elements).arg(&count).arg(&columns);
    // SAFETY: the arguments are those of the kernel, the shapes were compared, and a product's rows
    // have no gaps.
    unsafe { launch.launch(one_thread_per_element(tokens * width)?) }.w()?;
    Ok(())
}

/// Applies rotary position embeddings: rotates every head of `x` `[tokens, heads * dim]` by the
/// angles of its token; `cos` and `sin` are `[tokens, dim / 2]`.
///
/// # Errors
/// Shapes or dtypes do not match, or the GPU fails.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let ((tokens, width), half) = (x.dims2()?, cos.dim(1)?);
    if half == 0 || width % (2 * half) != 0 || cos.dims() != [tokens, half] || sin.dims() != [tokens, half] {
        bail!("rotary: shape {:?} does not match angles {:?} and {:?}", x.dims(), cos.dims(), sin.dims());
    }
    if x.elem_count() == 0 {
        return x.contiguous();
    }
    let (cos, sin) = (cos.contiguous()?, sin.contiguous()?);
    match (x.dtype(), cos.dtype()) {
        (DType::F32, DType::F32) => rotate_as::<f32, f32>(x, &cos, &sin, "rotate_f32"),
        (DType::F16, DType::F16) => rotate_as::<f16, f16>(x, &cos, &sin, "rotate_f16"),
        (DType::F16, DType::F32) => rotate_as::<f16, f32>(x, &cos, &sin, "rotate_f16_f32"),
        (DType::BF16, DType::BF16) => rotate_as::<bf16, bf16>(x, &cos, &sin, "rotate_bf16"),
        (DType::BF16, DType::F32) => rotate_as::<bf16, f32>(x, &cos, &sin, "rotate_bf16_f32"),
        (x, angles) => bail!("no rotary kernel for {} with angles in {}", x.as_str(), angles.as_str()),
    }
}

fn rotate_as<T, A>(x: &Tensor, cos: &Tensor, sin: &Tensor, kernel: &str) -> Result<Tensor>
where
    T: CudaDType + DeviceRepr,
    A: CudaDType,
{
    let device = x.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let ((tokens, width), half) = (x.dims2()?, cos.dim(1)?);
    let (x_guard, cos_guard, sin_guard) = (x.storage_and_layout(), cos.storage_and_layout(), sin.storage_and_layout());
    let (from, cos, sin) = (rows::<T>(&x_guard)?, rows::<A>(&cos_guard)?, rows::<A>(&sin_guard)?);
    // SAFETY: the kernel writes every element.
    let out = unsafe { device.alloc::<T>(tokens * width) }?;
    let kernel = load_kernel(device, kernel)?;
    let (count, heads, half) = (tokens as u64, to_u32(width / (2 * half))?, to_u32(half)?);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&from.elements).arg(&from.stride).arg(&cos.elements).arg(&sin.elements).arg(&out);
    launch.arg(&count).arg(&heads).arg(&half);
    // SAFETY: the arguments are those of the kernel, and the shapes were compared above.
    unsafe { launch.launch(one_thread_per_element(tokens * width / 2)?) }.w()?;
    Ok(wrap_output(out, device, (tokens, width)))
}

/// Computes `silu(gate) * up` elementwise on `[tokens, width]`.
///
/// # Errors
/// Shapes or dtypes do not match, or the GPU fails.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims2()? != up.dims2()? {
        bail!("swiglu: shape {:?} does not match {:?}", gate.dims(), up.dims());
    }
    if gate.elem_count() == 0 {
        return gate.contiguous();
    }
    typed!(gate.dtype(), swiglu_as(gate, up))
}

fn swiglu_as<T: CudaDType + WithDType + DeviceRepr>(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let device = gate.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let (tokens, width) = gate.dims2()?;
    let (gate_guard, up_guard) = (gate.storage_and_layout(), up.storage_and_layout());
    let (gate_rows, up_rows) = (rows::<T>(&gate_guard)?, rows::<T>(&up_guard)?);
    // SAFETY: the kernel writes every element.
    let out = unsafe { device.alloc::<T>(tokens * width) }?;
    let kernel = load_kernel_for::<T>(device, "swiglu")?;
    let (count, columns) = (tokens as u64, to_u32(width)?);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&gate_rows.elements).arg(&gate_rows.stride).arg(&up_rows.elements).arg(&up_rows.stride).arg(&out);
    launch.arg(&count).arg(&columns);
    // SAFETY: the arguments are those of the kernel, and the shapes were compared above.
    unsafe { launch.launch(one_thread_per_element(tokens * width)?) }.w()?;
    Ok(wrap_output(out, device, (tokens, width)))
}

/// Writes `k` and `v` `[tokens, width]` to the rows `slots` `[tokens]` (u32) of a cache's `keys`
/// and `values` `[slots, width]`. The slots must be distinct rows of the cache.
///
/// # Errors
/// Shapes or dtypes do not match, or the GPU fails.
pub fn store(k: &Tensor, v: &Tensor, slots: &Tensor, keys: &Tensor, values: &Tensor) -> Result<()> {
    let (tokens, width) = k.dims2()?;
    let fits = v.dims() == [tokens, width] && slots.dims() == [tokens] && keys.dims() == values.dims();
    if !fits || keys.dim(1)? != width || !keys.is_contiguous() || !values.is_contiguous() {
        bail!("keys {:?} and values {:?} do not match a cache {:?}", k.dims(), v.dims(), keys.dims());
    }
    if k.elem_count() == 0 {
        return Ok(());
    }
    typed!(k.dtype(), store_as(k, v, slots, keys, values))
}

fn store_as<T: CudaDType + WithDType + DeviceRepr>(
    k: &Tensor,
    v: &Tensor,
    slots: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<()> {
    let device = k.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let (tokens, width) = k.dims2()?;
    let (k_guard, v_guard, slots_guard) = (k.storage_and_layout(), v.storage_and_layout(), slots.storage_and_layout());
    let (keys_guard, values_guard) = (keys.storage_and_layout(), values.storage_and_layout());
    let (k, v, slots) = (rows::<T>(&k_guard)?, rows::<T>(&v_guard)?, rows::<u32>(&slots_guard)?);
    let (keys, values) = (rows::<T>(&keys_guard)?, rows::<T>(&values_guard)?);
    let kernel = load_kernel_for::<T>(device, "store")?;
    let (count, columns) = (tokens as u64, to_u32(width)?);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&k.elements).arg(&k.stride).arg(&v.elements).arg(&v.stride).arg(&slots.elements);
    launch.arg(&keys.elements).arg(&values.elements).arg(&count).arg(&columns);
    // SAFETY: the arguments are those of the kernel, the shapes were compared, and the caller's
    // slots are rows of the cache. Work that reads the cache is issued on the same stream.
    unsafe { launch.launch(one_thread_per_element(tokens * width)?) }.w()?;
    Ok(())
}

/// Copies `count` rows of a cache's `keys` and `values` from row `from` to row `to`; the two ranges
/// must not overlap.
///
/// # Errors
/// A range is out of bounds, the two overlap, or the GPU fails.
pub fn copy_rows(keys: &Tensor, values: &Tensor, from: usize, to: usize, count: usize) -> Result<()> {
    let (rows, _) = keys.dims2()?;
    let within = |first: usize| first.checked_add(count).is_some_and(|end| end <= rows);
    if keys.dims() != values.dims() || !within(from) || !within(to) || from.abs_diff(to) < count {
        bail!("a cache of {rows} rows cannot copy {count} from row {from} to row {to}");
    }
    if !keys.is_contiguous() || !values.is_contiguous() {
        bail!("a cache's rows must be contiguous");
    }
    if keys.elem_count() == 0 || count == 0 {
        return Ok(());
    }
    typed!(keys.dtype(), copy_rows_as(keys, values, from, to, count))
}

fn copy_rows_as<T: CudaDType + WithDType + DeviceRepr>(
    keys: &Tensor,
    values: &Tensor,
    from: usize,
    to: usize,
    count: usize,
) -> Result<()> {
    let device = keys.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let width = keys.dim(1)?;
    let (keys_guard, values_guard) = (keys.storage_and_layout(), values.storage_and_layout());
    let (keys, values) = (rows::<T>(&keys_guard)?, rows::<T>(&values_guard)?);
    let kernel = load_kernel_for::<T>(device, "copy_rows")?;
    let (from, to, numbers) = ((from * width) as u64, (to * width) as u64, (count * width) as u64);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&keys.elements).arg(&values.elements).arg(&from).arg(&to).arg(&numbers);
    // SAFETY: the arguments are those of the kernel, and the rows were compared with the cache's.
    unsafe { launch.launch(one_thread_per_element(count * width)?) }.w()?;
    Ok(())
}

/// Block tables and lengths of cached sequences that each decode one token.
#[derive(Debug)]
pub struct BlockTables {
    /// Cache blocks of each sequence, `[sequences, max blocks]` (u32).
    pub blocks: Tensor,
    /// Number of keys that each sequence attends to, `[sequences]` (u32), at least 1.
    pub lengths: Tensor,
    /// Largest of the lengths.
    pub longest: usize,
}

/// Whether [`attend`] supports these heads.
pub fn can_attend(heads: Heads) -> bool {
    let group = heads.query / heads.key_value;
    (1..=MAX_GROUP).contains(&group) && heads.dim.is_multiple_of(8) && (8..=MAX_HEAD_DIM).contains(&heads.dim)
}

/// Computes the attention `softmax(scale q kᵀ) v` of one token per sequence: `q`
/// `[sequences, heads * dim]`, `keys` and `values` `[slots, key heads * dim]`.
///
/// Blocks and lengths must be within the cache. Sequences are processed in chunks so that at most
/// `limit` elements of partial results exist at once, but at least one sequence at a time.
///
/// # Errors
/// Shapes or dtypes do not match, or the GPU fails.
pub fn attend(
    q: &Tensor,
    [keys, values]: [&Tensor; 2],
    heads: Heads,
    scale: f32,
    block_tables: &BlockTables,
    limit: usize,
) -> Result<Tensor> {
    let (sequences, width) = q.dims2()?;
    let fits = width == heads.query * heads.dim
        && keys.dim(1)? == heads.key_value * heads.dim
        && keys.dims() == values.dims()
        && heads.query.is_multiple_of(heads.key_value);
    let placed = block_tables.blocks.dim(0)? == sequences && block_tables.lengths.dims() == [sequences];
    if !can_attend(heads) || !fits || !placed || block_tables.longest > block_tables.blocks.dim(1)? * BLOCK {
        bail!("attention: queries {:?} do not match a cache {:?} with {heads:?}", q.dims(), keys.dims());
    }
    let is_gapless = |x: &Tensor| x.is_contiguous() && x.layout().start_offset() == 0;
    if !is_gapless(keys) || !is_gapless(values) {
        bail!("attention: a cache's rows must be contiguous from the beginning of its memory");
    }
    if sequences == 0 {
        return q.contiguous();
    }
    let per_sequence = heads.query * block_tables.longest.div_ceil(TILE) * (SOFTMAX_STATS + heads.dim);
    let chunk = (limit / per_sequence).max(1);
    let mut partials = Vec::new();
    for first in (0..sequences).step_by(chunk) {
        let some = |x: &Tensor| x.narrow(0, first, chunk.min(sequences - first))?.contiguous();
        let (q, blocks, lengths) = (some(q)?, some(&block_tables.blocks)?, some(&block_tables.lengths)?);
        let placed = BlockTables { blocks, lengths, ..*block_tables };
        partials.push(typed!(q.dtype(), attend_as(&q, [keys, values], heads, scale, &placed))?);
    }
    if partials.len() == 1 { Ok(partials.swap_remove(0)) } else { Tensor::cat(&partials, 0) }
}

fn attend_as<T>(
    q: &Tensor,
    [keys, values]: [&Tensor; 2],
    heads: Heads,
    scale: f32,
    block_tables: &BlockTables,
) -> Result<Tensor>
where
    T: CudaDType + WithDType + DeviceRepr,
{
    let device = q.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    let (sequences, width) = q.dims2()?;
    let Heads { query, key_value, dim } = heads;
    let tiles = block_tables.longest.div_ceil(TILE);
    let (q_guard, keys_guard, values_guard) =
        (q.storage_and_layout(), keys.storage_and_layout(), values.storage_and_layout());
    let (blocks_guard, lengths_guard) =
        (block_tables.blocks.storage_and_layout(), block_tables.lengths.storage_and_layout());
    let (queries, blocks, lengths) = (rows::<T>(&q_guard)?, rows::<u32>(&blocks_guard)?, rows::<u32>(&lengths_guard)?);
    let (keys, values) = (rows::<T>(&keys_guard)?, rows::<T>(&values_guard)?);
    // SAFETY: for each sequence the first kernel writes the tiles within its length, and the second
    // reads only those; it writes all of `out`.
    let (partials, out) = unsafe {
        (device.alloc::<f32>(sequences * query * tiles * (SOFTMAX_STATS + dim))?, device.alloc::<T>(sequences * width)?)
    };
    let grid = (to_u32(sequences)?, to_u32(key_value)?, to_u32(tiles)?);
    let max_blocks = to_u32(block_tables.blocks.dim(1)?)?;
    let (block, key_heads, dim_u32) = (to_u32(BLOCK)?, to_u32(key_value)?, to_u32(dim)?);
    let name = format!("attend_tile_{}_{}", T::DTYPE.as_str(), query / key_value);
    let kernel = load_kernel(device, &name)?;
    let mut launch = stream.launch_builder(&kernel);
    launch
        .arg(&queries.elements)
        .arg(&keys.elements)
        .arg(&values.elements)
        .arg(&blocks.elements)
        .arg(&lengths.elements);
    launch.arg(&partials).arg(&max_blocks).arg(&block).arg(&key_heads).arg(&dim_u32).arg(&scale);
    // SAFETY: the arguments are those of the kernel, the shapes were compared, and the
    // caller's blocks are within the cache.
    unsafe { launch.launch(LaunchConfig { grid_dim: grid, block_dim: (TILE as u32, 1, 1), shared_mem_bytes: 0 }) }
        .w()?;
    let kernel = load_kernel_for::<T>(device, "combine_tiles")?;
    let max_tiles = to_u32(tiles)?;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&partials).arg(&lengths.elements).arg(&out).arg(&max_tiles).arg(&dim_u32);
    let grid = (to_u32(sequences)?, to_u32(query)?, 1);
    // SAFETY: as above.
    unsafe { launch.launch(LaunchConfig { grid_dim: grid, block_dim: (dim as u32, 1, 1), shared_mem_bytes: 0 }) }
        .w()?;
    Ok(wrap_output(out, device, (sequences, width)))
}
