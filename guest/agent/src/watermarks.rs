//! How much memory the kernel keeps free for itself. While free memory is being taken that is next to nothing, so that next to nothing
//! is left; then it is as before.
//!
//! What always holds: every setting has its earlier value again once this value is dropped.

use std::fs;
use std::io;

/// Settings and their values meanwhile. See Documentation/admin-guide/sysctl/vm.rst in Linux.
const MEANWHILE: [(&str, &str); 4] = [
    // 1 MiB: half of what is left free. Below it the kernel would reclaim its page cache.
    ("/proc/sys/vm/min_free_kbytes", "1024"),
    // The distance from there to where reclaim begins: the smallest that is taken, 1/10,000 of the memory.
    ("/proc/sys/vm/watermark_scale_factor", "1"),
    // Nothing of the low zones is kept from programs.
    ("/proc/sys/vm/lowmem_reserve_ratio", "0 0 0 0"),
    // Huge pages only where there are any: making some would move the whole memory about.
    ("/sys/kernel/mm/transparent_hugepage/defrag", "never"),
];

/// The settings as they were.
#[derive(Debug)]
pub(crate) struct Watermarks {
    before: Vec<(&'static str, String)>,
}

impl Watermarks {
    /// Lowers them.
    pub(crate) fn lower() -> io::Result<Self> {
        let mut lowered = Self { before: Vec::new() };
        for (path, value) in MEANWHILE {
            let before = match fs::read_to_string(path) {
                Ok(text) => chosen(&text).to_owned(),
                // A kernel without huge pages.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(crate::boot::doing(path)(error)),
            };
            fs::write(path, value).map_err(crate::boot::doing(path))?;
            lowered.before.push((path, before));
        }
        Ok(lowered)
    }
}

impl Drop for Watermarks {
    fn drop(&mut self) {
        for (path, value) in self.before.iter().rev() {
            if let Err(error) = fs::write(path, value) {
                eprintln!("sourdough-agent: restore {path}: {error}");
            }
        }
    }
}

/// The value of a setting: the word in brackets where all choices are listed, else the whole text.
fn chosen(text: &str) -> &str {
    let bracketed = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    bracketed.map_or(text.trim(), |(chosen, _)| chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_one_of_several_words_is_in_brackets() {
        assert_eq!(chosen("always defer [madvise] never\n"), "madvise");
        assert_eq!(chosen("256\t256\t32\t0\n"), "256\t256\t32\t0");
    }
}
