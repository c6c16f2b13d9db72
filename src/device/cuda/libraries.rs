//! CUDA's libraries, loaded when a GPU is first requested.
//!
//! candle declares CUDA's functions as foreign, and a program linked to those libraries does not
//! even start on a machine without a driver. So the functions are defined here: each jumps to the
//! address in its entry of a table, which [`load_driver`] and [`load_toolkit`] fill from the
//! libraries. One program then runs with a GPU and without, and can report what is missing. nvrtc,
//! which candle calls to compile kernels at run time, may be missing: visplay never does that.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_NOW};

use crate::device::error::{DRIVER, DeviceError};
use crate::messages::write_message;

/// A library to load.
struct LibrarySpec {
    /// Accepted file names, the preferred one first.
    files: &'static [&'static str],
    functions: &'static [&'static str],
    required: bool,
}

const TOOLKIT: &str = "put CUDA 13's libraries on LD_LIBRARY_PATH or in a folder `cuda` next to the program (docs/cuda.md lists where to get them)";

macro_rules! libraries {
    ($($library:ident: $($name:ident)*;)*) => {
        // All entries go to one section, so they follow one another in the order of the functions.
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

        $(const $library: &[&str] = &[$(stringify!($name)),*];)*
        const FUNCTIONS: usize = 0 $(+ $library.len())*;
    };
}

include!("functions.rs");

unsafe extern "C" {
    /// Addresses of all functions, in the order of the libraries.
    static mut visplay_cuda_table: [usize; FUNCTIONS];
}

/// Called in place of a function that the loaded libraries lack.
#[unsafe(no_mangle)]
extern "C" fn visplay_cuda_absent() -> ! {
    write_message("visplay: the installed CUDA libraries are too old: they lack a function that was called");
    std::process::abort();
}

/// Loads the driver, once; later calls return the same result. Counting GPUs needs nothing else.
pub(super) fn load_driver() -> Result<(), DeviceError> {
    static LOADED: OnceLock<Result<(), DeviceError>> = OnceLock::new();
    let driver = LibrarySpec { files: &[DRIVER], functions: CUDA, required: true };
    LOADED.get_or_init(|| load(&[driver], 0).map_err(|e| DeviceError::driver(e.problem))).clone()
}

/// Loads all libraries, once; later calls return the same result.
pub(super) fn load_toolkit() -> Result<(), DeviceError> {
    static LOADED: OnceLock<Result<(), DeviceError>> = OnceLock::new();
    load_driver()?;
    // In the order of the table, and cublasLt before cublas, which depends on it.
    let libraries = [
        LibrarySpec { files: &["libcublasLt.so.13", "libcublasLt.so.12"], functions: CUBLAS_LT, required: true },
        LibrarySpec { files: &["libcublas.so.13", "libcublas.so.12"], functions: CUBLAS, required: true },
        LibrarySpec { files: &["libcurand.so.10"], functions: CURAND, required: true },
        LibrarySpec { files: &["libnvrtc.so.13", "libnvrtc.so.12"], functions: NVRTC, required: false },
    ];
    let missing = |e: LoadError| DeviceError::Library { library: e.file, problem: e.problem, remedy: TOOLKIT };
    LOADED.get_or_init(|| load(&libraries, CUDA.len()).map_err(missing)).clone()
}

/// A required library that cannot be loaded.
struct LoadError {
    file: String,
    /// The loader's message.
    problem: String,
}

/// Loads libraries whose functions have consecutive entries in the table, from `entry` on.
fn load(libraries: &[LibrarySpec], mut entry: usize) -> Result<(), LoadError> {
    let folders = search_folders();
    for spec in libraries {
        match open(spec, &folders) {
            Ok(library) => {
                for (i, name) in spec.functions.iter().enumerate() {
                    // SAFETY: only the symbol's address is used.
                    if let Ok(function) = unsafe { library.get::<()>(*name) } {
                        // SAFETY: `entry + i` counts functions in the order of the table. No entry
                        // is read before the call that fills it has returned, and a `OnceLock` runs
                        // each call once: counting GPUs calls the driver, after `load_driver`, and
                        // only opening one calls the rest, after `load_toolkit`.
                        unsafe {
                            let table = (&raw mut visplay_cuda_table).cast::<usize>();
                            table.add(entry + i).write(function.as_raw_ptr() as usize);
                        }
                    }
                }
                // The table has addresses of the library, so it stays loaded until the end.
                let _ = library.into_raw();
            }
            Err(problem) if spec.required => return Err(LoadError { file: spec.files[0].to_owned(), problem }),
            Err(_) => {}
        }
        entry += spec.functions.len();
    }
    Ok(())
}

/// Folders that are searched after those that the system's loader knows.
fn search_folders() -> Vec<PathBuf> {
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

/// Opens the first file that can be loaded; the error is the loader's message about the first.
fn open(spec: &LibrarySpec, folders: &[PathBuf]) -> Result<Library, String> {
    let by_name = spec.files.iter().map(PathBuf::from);
    let by_path = folders.iter().flat_map(|folder| spec.files.iter().map(|file| folder.join(file)));
    let mut problem = None;
    for path in by_name.chain(by_path.filter(|path| path.exists())) {
        // RTLD_NOW resolves everything at once, so that a library that lacks another fails here.
        // SAFETY: NVIDIA's libraries may be loaded at any time, by any thread.
        match unsafe { Library::open(Some(path), RTLD_NOW) } {
            Ok(library) => return Ok(library),
            Err(libloading::Error::DlOpen { source }) => problem = problem.or(Some(source.to_string())),
            Err(error) => problem = problem.or(Some(error.to_string())),
        }
    }
    Err(problem.unwrap_or_default())
}
