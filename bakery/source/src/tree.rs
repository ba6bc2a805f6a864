//! The tree that an archive describes: what lies at each path, and where a file's bytes are in the spool.
//!
//! What always holds: every path is a [`TreePath`], stands once, and has only directories above it. A directory that the
//! archive does not name but a path below it needs is there all the same, with mode 0755. Order is that of the paths'
//! bytes, which puts a directory before what lies in it.

use std::collections::BTreeMap;

use schemas::TreePath;

use crate::error::{InputProblem, Refusal};
use crate::limits::Limits;

/// Mode of a directory that the archive only implies.
const IMPLIED_MODE: u32 = 0o755;

/// What lies at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// What it is.
    pub(crate) kind: ItemKind,
    /// Permission bits, nothing above 0777.
    pub(crate) mode: u32,
    /// Seconds since the Unix epoch.
    pub(crate) mtime: i64,
}

/// What an [`Item`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// A directory that an entry names.
    Directory,
    /// A directory that only the paths below it name.
    Implied,
    /// A regular file.
    File(Extent),
    /// A symbolic link.
    Symlink {
        /// Where it points. The guest resolves it; the host never does.
        target: String,
    },
}

/// Where a file's bytes are in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First byte.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) size: u64,
}

/// An archive's tree, and what it may still grow by.
#[derive(Debug)]
pub(crate) struct Tree {
    items: BTreeMap<TreePath, Item>,
    max_entries: u64,
    index_bytes: u64,
}

impl Tree {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            items: BTreeMap::new(),
            max_entries: limits.max_entries,
            index_bytes: 0,
        }
    }

    /// Takes one entry of the archive in, with the directories above it.
    pub(crate) fn insert(&mut self, path: TreePath, item: Item) -> Result<(), Refusal> {
        self.imply_parents(&path)?;
        match self.items.get(&path).map(|there| &there.kind) {
            None => {
                self.account(&path, &item)?;
                self.items.insert(path, item);
                Ok(())
            }
            Some(ItemKind::Implied) if item.kind == ItemKind::Directory => {
                self.items.insert(path, item);
                Ok(())
            }
            Some(ItemKind::Implied) => Err(Refusal::HidesDirectory(path)),
            Some(ItemKind::Directory | ItemKind::File(_) | ItemKind::Symlink { .. }) => {
                Err(Refusal::Duplicate(path))
            }
        }
    }

    /// Every item, a directory before what lies in it.
    pub(crate) fn items(&self) -> &BTreeMap<TreePath, Item> {
        &self.items
    }

    /// About what it takes of memory, in bytes.
    pub(crate) fn footprint(&self) -> u64 {
        let items = self
            .items
            .len()
            .saturating_mul(size_of::<(TreePath, Item)>());
        self.index_bytes.saturating_add(items as u64)
    }

    /// The newest time that an entry carries; 0 for an empty tree.
    pub(crate) fn newest_mtime(&self) -> i64 {
        self.items
            .values()
            .map(|item| item.mtime)
            .max()
            .unwrap_or(0)
    }

    /// Where the bytes of the regular file `path` are; says what is in the way if there is none.
    pub(crate) fn input(&self, path: &TreePath) -> Result<Extent, InputProblem> {
        if let Some(link) = self.link_above(path) {
            return Err(InputProblem::BelowSymlink(link));
        }
        match self.items.get(path).map(|item| &item.kind) {
            None if path.is_root() => Err(InputProblem::Directory),
            Some(ItemKind::File(extent)) => Ok(*extent),
            Some(ItemKind::Symlink { .. }) => Err(InputProblem::Symlink),
            Some(ItemKind::Directory | ItemKind::Implied) => Err(InputProblem::Directory),
            None => Err(InputProblem::Missing),
        }
    }

    fn link_above(&self, path: &TreePath) -> Option<TreePath> {
        parents(path).find(|parent| {
            matches!(
                self.items.get(parent).map(|item| &item.kind),
                Some(ItemKind::Symlink { .. })
            )
        })
    }

    /// Makes the directories above `path`, nearest first: once one is there, so are those above it.
    fn imply_parents(&mut self, path: &TreePath) -> Result<(), Refusal> {
        for parent in parents(path) {
            match self.items.get(&parent).map(|item| &item.kind) {
                Some(ItemKind::Directory | ItemKind::Implied) => return Ok(()),
                Some(ItemKind::File(_) | ItemKind::Symlink { .. }) => {
                    return Err(Refusal::BelowNoDirectory {
                        path: path.clone(),
                        parent,
                    });
                }
                None => {
                    let implied = Item {
                        kind: ItemKind::Implied,
                        mode: IMPLIED_MODE,
                        mtime: 0,
                    };
                    self.account(&parent, &implied)?;
                    self.items.insert(parent, implied);
                }
            }
        }
        Ok(())
    }

    /// Counts one more item, and refuses it where that is too many.
    fn account(&mut self, path: &TreePath, item: &Item) -> Result<(), Refusal> {
        if self.items.len() as u64 >= self.max_entries {
            return Err(Refusal::TooManyEntries(self.max_entries));
        }
        let target = match &item.kind {
            ItemKind::Symlink { target } => target.len(),
            ItemKind::Directory | ItemKind::Implied | ItemKind::File(_) => 0,
        };
        self.index_bytes += (path.as_str().len() + target) as u64;
        if self.index_bytes > Limits::INDEX_BYTES {
            return Err(Refusal::IndexTooLarge(Limits::INDEX_BYTES));
        }
        Ok(())
    }
}

/// The directories above `path`, nearest first, without the tree itself.
fn parents(path: &TreePath) -> impl Iterator<Item = TreePath> {
    std::iter::successors(path.parent(), TreePath::parent).take_while(|path| !path.is_root())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    fn item(kind: ItemKind) -> Item {
        Item {
            kind,
            mode: 0o644,
            mtime: 7,
        }
    }

    fn file() -> Item {
        item(ItemKind::File(Extent { offset: 0, size: 0 }))
    }

    fn link() -> Item {
        item(ItemKind::Symlink {
            target: "elsewhere".to_owned(),
        })
    }

    fn tree(entries: &[(&str, Item)]) -> Result<Tree, Refusal> {
        let mut tree = Tree::new(&Limits::default());
        for (name, item) in entries {
            tree.insert(path(name), item.clone())?;
        }
        Ok(tree)
    }

    fn refused(entries: &[(&str, Item)]) -> String {
        tree(entries).unwrap_err().to_string()
    }

    #[test]
    fn directories_that_only_a_path_names_are_made_and_come_first() {
        let tree = tree(&[("a/b/c", file()), ("a-b", file())]).unwrap();
        let paths: Vec<_> = tree.items().keys().map(TreePath::as_str).collect();
        assert_eq!(paths, ["a", "a-b", "a/b", "a/b/c"]);
        assert_eq!(tree.items()[&path("a")].mode, IMPLIED_MODE);
    }

    #[test]
    fn a_directory_may_come_after_what_lies_in_it() {
        let tree = tree(&[("a/b", file()), ("a", item(ItemKind::Directory))]).unwrap();
        assert_eq!(tree.items()[&path("a")].kind, ItemKind::Directory);
    }

    #[test]
    fn a_path_that_stands_twice_is_refused() {
        let sentence = "has a twice";
        assert_eq!(refused(&[("a", file()), ("a", file())]), sentence);
        assert_eq!(
            refused(&[
                ("a", item(ItemKind::Directory)),
                ("a", item(ItemKind::Directory))
            ]),
            sentence
        );
    }

    #[test]
    fn a_path_below_a_file_or_a_link_is_refused_in_either_order() {
        assert_eq!(
            refused(&[("a", link()), ("a/b/c", file())]),
            "has a/b/c, which lies below a, which is no directory"
        );
        assert_eq!(
            refused(&[("a/b/c", file()), ("a/b", link())]),
            "has a/b, which is no directory, but others lie below it"
        );
    }

    #[test]
    fn implied_directories_count_as_entries() {
        let limits = Limits {
            max_entries: 3,
            ..Limits::default()
        };
        let mut tree = Tree::new(&limits);
        tree.insert(path("a/b/c"), file()).unwrap();
        assert_eq!(
            tree.insert(path("d"), file()).unwrap_err().to_string(),
            "has more than 3 entries"
        );
    }

    #[test]
    fn deep_paths_cannot_use_up_the_hosts_memory() {
        let mut tree = Tree::new(&Limits::default());
        let problem = (0..10_000)
            .map(|n| format!("{n}/{}x", "d/".repeat(2000)))
            .find_map(|deep| tree.insert(path(&deep), file()).err());
        assert_eq!(
            problem.unwrap().to_string(),
            "has more than 67108864 bytes of paths and link targets"
        );
    }

    #[test]
    fn an_input_is_a_regular_file_with_no_link_on_the_way() {
        let tree = tree(&[
            ("lock", file()),
            ("link", link()),
            ("directory/file", file()),
        ])
        .unwrap();
        assert!(tree.input(&path("lock")).is_ok());
        assert!(matches!(
            tree.input(&path("link/lock")),
            Err(InputProblem::BelowSymlink(link)) if link.as_str() == "link"
        ));
        assert_eq!(tree.input(&path("link")), Err(InputProblem::Symlink));
        assert_eq!(tree.input(&path("directory")), Err(InputProblem::Directory));
        assert_eq!(tree.input(&path(".")), Err(InputProblem::Directory));
        assert_eq!(tree.input(&path("other")), Err(InputProblem::Missing));
    }
}
