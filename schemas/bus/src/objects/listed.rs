//! What a bucket says of its objects without their bytes.

use std::time::SystemTime;

/// An object as its bucket describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length, in bytes.
    pub size: u64,
    /// When it was written, by the server's clock, to the second.
    pub modified: SystemTime,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Objects in the order of their keys.
    pub objects: Vec<Listed>,
    /// Whether nothing comes after them.
    pub whole: bool,
}
