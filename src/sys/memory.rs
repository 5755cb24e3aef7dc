//! Giving memory back to the kernel.

use std::ffi::{c_int, c_void};

/// Keeps the allocator from keeping what is freed: by default it learns to put ever larger
/// blocks into heaps that never shrink (`mallopt(3)`, M_MMAP_THRESHOLD).
pub fn give_back_what_is_freed() {
    #[cfg(target_env = "gnu")]
    {
        /// A block that large goes back to the kernel when it is freed. Bytes.
        const LARGE: c_int = 512 << 10;
        /// Threads share so many heaps, where glibc would make eight a processor.
        const HEAPS: c_int = 2;
        for (parameter, value) in [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_ARENA_MAX, HEAPS)] {
            // SAFETY: two known parameters with values in their range; before other threads run.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// Forgets the program's own code and constants that were read so far. What is
/// still needed comes back from the page cache at its next use; what only the
/// start needed (parsing, planning) no longer counts as resident.
pub fn let_go_of_code() {
    // SAFETY: the callback only reads what it is given, and the loader's list of
    // a static program never changes.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of_object), std::ptr::null_mut()) };
}

/// For the first object, the program itself; 1 ends the walk.
unsafe extern "C" fn let_go_of_object(
    object: *mut libc::dl_phdr_info,
    size: libc::size_t,
    _: *mut c_void,
) -> c_int {
    if object.is_null() || size < size_of::<libc::dl_phdr_info>() {
        return 0;
    }
    // SAFETY: the C library hands a valid, filled structure of at least that size.
    let object = unsafe { &*object };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: `dlpi_phnum` headers stand there, in memory that is never written.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers {
        // Never a writable segment: what was written there would be lost.
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            let begin = object.dlpi_addr.wrapping_add(header.p_vaddr) & !4095;
            let size = usize::try_from(header.p_memsz).unwrap_or(0);
            // SAFETY: pages of a file mapped privately and never written: dropping
            // them changes no byte that anybody reads (`madvise(2)`, MADV_DONTNEED).
            // A wrong alignment (pages larger than 4 KiB) is refused with EINVAL.
            unsafe { libc::madvise(begin as *mut c_void, size, libc::MADV_DONTNEED) };
        }
    }
    1
}
