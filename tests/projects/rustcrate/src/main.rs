//! Counts the words of its standard input: one line each, in the order of the alphabet.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};

use fnv::FnvHashMap;

fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let mut counts = FnvHashMap::default();
    for word in text.split_whitespace() {
        *counts.entry(word).or_insert(0_u64) += 1;
    }
    let mut digits = itoa::Buffer::new();
    let mut stdout = io::stdout().lock();
    for (word, count) in counts.into_iter().collect::<BTreeMap<_, _>>() {
        writeln!(stdout, "{} {word}", digits.format(count))?;
    }
    Ok(())
}
