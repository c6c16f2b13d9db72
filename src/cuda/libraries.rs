//! CUDA's libraries, brought into the process when a card is first asked for.
//!
//! candle declares CUDA's functions as foreign ones, and a program that is linked to them does not even start where there is no
//! driver. So they are defined here: each jumps to the address in its place of a table that [`load`] fills from the libraries. One
//! program then runs with a card and without, and says itself what is missing. A library that candle calls for kernels that are made
//! at run time, nvrtc, is never asked for by visplay and may be missing.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::device::{DRIVER, DeviceError};

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// Resolve everything at once, so that a library that lacks another fails here.
const RTLD_NOW: c_int = 2;

/// A library, by the names of its files.
struct Library {
    files: &'static [&'static str],
    functions: &'static [&'static str],
    required: bool,
}

const TOOLKIT: &str = "put CUDA 13's libraries on LD_LIBRARY_PATH or into a folder `cuda` beside the program (docs/cuda.md says where they come from)";

macro_rules! libraries {
    ($($library:ident: $($name:ident)*;)*) => {
        // In one section the places of the table follow one another in the order of the functions.
        std::arch::global_asm!(
            ".pushsection .data.visplay_cuda, \"aw\", @progbits",
            ".balign 8",
            ".globl visplay_cuda_table",
            ".hidden visplay_cuda_table",
            "visplay_cuda_table:",
            ".popsection",
            $($(concat!(
                ".pushsection .data.visplay_cuda, \"aw\", @progbits\n",
                "7: .quad visplay_cuda_absent\n",
                ".popsection\n",
                ".pushsection .text.visplay_cuda, \"ax\", @progbits\n",
                ".globl ", stringify!($name), "\n",
                ".hidden ", stringify!($name), "\n",
                ".type ", stringify!($name), ", @function\n",
                stringify!($name), ": jmp *7b(%rip)\n",
                ".popsection"
            ),)*)*
            options(att_syntax)
        );

        $(const $library: &[&str] = &[$(concat!(stringify!($name), "\0")),*];)*
        const FUNCTIONS: usize = 0 $(+ $library.len())*;
    };
}

include!("functions.rs");

unsafe extern "C" {
    /// The addresses of all functions, in the order of the libraries.
    static mut visplay_cuda_table: [usize; FUNCTIONS];
}

/// Stands for a function that no library gave.
#[unsafe(no_mangle)]
extern "C" fn visplay_cuda_absent() -> ! {
    eprintln!("visplay: a function of CUDA was called that its libraries here do not have: they are too old");
    std::process::abort();
}

/// Brings the driver in, once; later calls give the same answer. It is all that counting cards takes: a machine without a card needs
/// nothing else of CUDA.
pub(super) fn load_driver() -> Result<(), DeviceError> {
    static LOADED: OnceLock<Result<(), DeviceError>> = OnceLock::new();
    let driver = Library { files: &[DRIVER], functions: CUDA, required: true };
    LOADED.get_or_init(|| load_some(&[driver], 0).map_err(|(_, problem)| DeviceError::driver(problem))).clone()
}

/// Brings all libraries in, once; later calls give the same answer.
pub(super) fn load() -> Result<(), DeviceError> {
    static LOADED: OnceLock<Result<(), DeviceError>> = OnceLock::new();
    load_driver()?;
    // In the order of the table; cublasLt goes before cublas, which needs it.
    let libraries = [
        Library { files: &["libcublasLt.so.13", "libcublasLt.so.12"], functions: CUBLAS_LT, required: true },
        Library { files: &["libcublas.so.13", "libcublas.so.12"], functions: CUBLAS, required: true },
        Library { files: &["libcurand.so.10"], functions: CURAND, required: true },
        Library { files: &["libnvrtc.so.13", "libnvrtc.so.12"], functions: NVRTC, required: false },
    ];
    let missing = |(library, problem): Missing| DeviceError::Library { library, problem, remedy: TOOLKIT };
    LOADED.get_or_init(|| load_some(&libraries, CUDA.len()).map_err(missing)).clone()
}

/// A library that cannot be brought in, and what the loader says of it.
type Missing = (String, String);

/// Brings libraries in whose functions have their places in the table from `place` on.
fn load_some(libraries: &[Library], mut place: usize) -> Result<(), Missing> {
    let folders = folders();
    for library in libraries {
        match open(library, &folders) {
            Ok(handle) => {
                for (i, name) in library.functions.iter().enumerate() {
                    // SAFETY: the handle is open, the name ends with a zero byte.
                    let address = unsafe { dlsym(handle, name.as_ptr().cast()) };
                    if !address.is_null() {
                        // SAFETY: `place + i` counts functions in the order of the table. Nothing reads a place before the call
                        // returns that fills it, which a `OnceLock` lets run once: what counts cards calls the driver, after
                        // `load_driver`, and only what opens one calls the rest, after `load`.
                        unsafe { (&raw mut visplay_cuda_table).cast::<usize>().add(place + i).write(address as usize) };
                    }
                }
            }
            Err(problem) if library.required => return Err((library.files[0].to_owned(), problem)),
            Err(_) => {}
        }
        place += library.functions.len();
    }
    Ok(())
}

/// Where libraries are looked for after the places that the system's loader knows.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(own) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        folders.push(own.join("cuda"));
    }
    if let Some(home) = std::env::var_os("CUDA_HOME") {
        folders.extend(["lib64", "lib"].map(|lib| Path::new(&home).join(lib)));
    }
    folders.push(PathBuf::from("/usr/local/cuda/lib64"));
    folders
}

fn open(library: &Library, folders: &[PathBuf]) -> Result<*mut c_void, String> {
    let mut problem = None;
    let places = std::iter::once(None).chain(folders.iter().map(Some));
    for folder in places {
        for file in library.files {
            let path = folder.map_or_else(|| PathBuf::from(file), |folder| folder.join(file));
            if folder.is_some() && !path.exists() {
                continue;
            }
            match try_open(&path) {
                Ok(handle) => return Ok(handle),
                Err(said) => problem = problem.or(Some(said)),
            }
        }
    }
    Err(problem.unwrap_or_default())
}

fn try_open(path: &Path) -> Result<*mut c_void, String> {
    let mut name = path.as_os_str().as_encoded_bytes().to_vec();
    name.push(0);
    // SAFETY: the name ends with a zero byte. NVIDIA's libraries may be opened at any time.
    let handle = unsafe { dlopen(name.as_ptr().cast(), RTLD_NOW) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: dlerror gives a string, or null where there was no error.
    let said = unsafe { dlerror() };
    // SAFETY: as above; the string lives until the next call.
    Err(if said.is_null() { String::new() } else { unsafe { CStr::from_ptr(said) }.to_string_lossy().into_owned() })
}
