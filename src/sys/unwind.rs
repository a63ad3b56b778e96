//! The unwinder of a program that aborts on panic: there is none.
//!
//! The standard library's panic message brings a reader of debug information with it, some 300 KB
//! of code that a stripped program has no use for. It walks the stack through these functions, by
//! the names that the C++ ABI for Itanium gives them; where they are ours and find no stack, the
//! optimiser sees that all behind them is dead. Messages still say what was wrong, in which
//! thread, file, line and column.
//!
//! Builds whose panics unwind (tests) have the toolchain's unwinder.

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Would call a function for each frame of the stack.
// SAFETY: the name is the ABI's, and this is its only definition: the toolchain's is in an archive
// from which nothing is taken when every name is known. Arguments are not looked at.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_function: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: as above. Only a frame could be asked for something, and there are no frames.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> usize {
            0
        }
    )*};
}

never_called! {
    _Unwind_DeleteException
    _Unwind_FindEnclosingFunction
    _Unwind_GetCFA
    _Unwind_GetDataRelBase
    _Unwind_GetIP
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_RaiseException
    _Unwind_Resume
    _Unwind_SetGR
    _Unwind_SetIP
}
