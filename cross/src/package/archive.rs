//! Archives as GNU tar and gzip write them, since that is what opkg was made for.
//!
//! The tar layer has the very bytes of `tar --format=gnu --numeric-owner --sort=name
//! --owner=0 --group=0 --mtime=@EPOCH`; the gzip layer has the header of `gzip -9n`, and a deflate
//! stream of its own. Names of at most 100 bytes; files and directories only.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, Builder, EntryType, Header};

use crate::error::CrossError;

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { mode: u32, content: Vec<u8> },
}

/// Files, and the directories that they lie in.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    // Paths compare component by component: the order in which GNU tar walks.
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// Adds a file; its directories come by themselves.
    pub(super) fn add(&mut self, path: impl AsRef<Path>, mode: u32, content: Vec<u8>) {
        let path = path.as_ref();
        for directory in path.ancestors().skip(1) {
            self.nodes.insert(directory.to_owned(), Node::Directory);
        }
        self.nodes.insert(path.to_owned(), Node::File { mode, content });
    }

    /// Whether it has a file of this name.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        matches!(self.nodes.get(path), Some(Node::File { .. }))
    }

    /// All of it as `tar .` in its root.
    pub(super) fn tar(&self, epoch: u64) -> Result<Vec<u8>, CrossError> {
        let mut writer = Writer::new(epoch);
        for (path, node) in &self.nodes {
            let path = path.to_string_lossy();
            match node {
                Node::Directory if path.is_empty() => writer.directory("./")?,
                Node::Directory => writer.directory(&format!("./{path}/"))?,
                Node::File { mode, content } => {
                    writer.file(&format!("./{path}"), *mode, content)?;
                }
            }
        }
        writer.end()
    }
}

/// `files` in their order, as `tar ./NAME...`.
pub(super) fn tar(files: &[(&str, &[u8])], epoch: u64) -> Result<Vec<u8>, CrossError> {
    let mut writer = Writer::new(epoch);
    for (name, content) in files {
        writer.file(&format!("./{name}"), 0o644, content)?;
    }
    writer.end()
}

/// `bytes` in a gzip file with the header of `gzip -9n`. Takes seconds for what would take
/// a fraction of one, and a twenty-fifth less room: a router unpacks it as fast.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, CrossError> {
    // More rounds take longer and find hundreds of bytes.
    const ROUNDS: NonZeroU64 = NonZeroU64::new(3).expect("is not zero");
    let options = zopfli::Options { iteration_count: ROUNDS, ..zopfli::Options::default() };
    let mut packed = Vec::new();
    zopfli::compress(options, zopfli::Format::Gzip, bytes, &mut packed)?;
    Ok(packed)
}

/// The member `name` (without `./`) of a tar file in a gzip file.
pub(super) fn member(archive: &[u8], name: &str) -> Result<Vec<u8>, CrossError> {
    let mut archive = Archive::new(GzDecoder::new(archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?;
        if path.strip_prefix(".").unwrap_or(&path).as_os_str() == OsStr::new(name) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(content);
        }
    }
    Err(CrossError::Failed(format!("there is no {name} in it")))
}

/// A tar file that is being written.
struct Writer {
    builder: Builder<Vec<u8>>,
    epoch: u64,
}

/// GNU tar pads to whole records.
const RECORD: usize = 20 * 512;

impl Writer {
    fn new(epoch: u64) -> Self {
        Self { builder: Builder::new(Vec::new()), epoch }
    }

    fn directory(&mut self, name: &str) -> Result<(), CrossError> {
        self.append(EntryType::Directory, name, 0o755, &[])
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), CrossError> {
        self.append(EntryType::Regular, name, mode, content)
    }

    fn append(
        &mut self,
        kind: EntryType,
        name: &str,
        mode: u32,
        content: &[u8],
    ) -> Result<(), CrossError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.epoch);
        header.set_size(content.len() as u64);
        // Not `set_path`, which takes the `./` away.
        let field = header.as_gnu_mut().and_then(|it| it.name.get_mut(..name.len()));
        let field = field
            .ok_or_else(|| CrossError::Failed(format!("{name}: the name is too long for tar")))?;
        field.copy_from_slice(name.as_bytes());
        header.set_cksum();
        // Seven digits and a NUL; GNU tar writes six, a NUL and a space.
        let sum = header.cksum()?;
        header.as_old_mut().cksum.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(self.builder.append(&header, content)?)
    }

    fn end(self) -> Result<Vec<u8>, CrossError> {
        let mut bytes = self.builder.into_inner()?;
        bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Tree, gzip, member, tar};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    const EPOCH: u64 = 1_795_000_000;

    /// Names whose order by components is not that by bytes, an empty file, all sizes of padding.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.add("usr/sbin/program", 0o755, (0..30_000_u32).flat_map(u32::to_le_bytes).collect());
        tree.add("etc/a/file", 0o600, vec![b'x'; 512]);
        tree.add("etc/a.b", 0o644, vec![b'y'; 511]);
        tree.add("etc/a-b/file", 0o640, vec![b'z'; 513]);
        tree.add("etc/empty", 0o644, Vec::new());
        tree
    }

    /// The same on disk.
    fn write(tree: &Tree, root: &Path) {
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        for (path, node) in &tree.nodes {
            let path = root.join(path);
            let mode = match node {
                super::Node::Directory => {
                    fs::create_dir_all(&path).unwrap();
                    0o755
                }
                super::Node::File { mode, content } => {
                    fs::write(&path, content).unwrap();
                    *mode
                }
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    fn gnu_tar(root: &Path, names: &[&str]) -> Vec<u8> {
        let mut tar = Command::new("tar");
        tar.current_dir(root).args(["--format=gnu", "--numeric-owner", "--sort=name"]);
        tar.args(["--owner=0", "--group=0", &format!("--mtime=@{EPOCH}"), "-cf", "-"]);
        let done = tar.args(names).stderr(Stdio::inherit()).output().unwrap();
        assert!(done.status.success());
        done.stdout
    }

    #[test]
    fn a_tree_has_the_bytes_of_gnu_tar() {
        let root = tempfile::tempdir().unwrap();
        write(&tree(), root.path());
        assert!(tree().tar(EPOCH).unwrap() == gnu_tar(root.path(), &["."]));
    }

    #[test]
    fn members_in_a_given_order_have_the_bytes_of_gnu_tar() {
        let root = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 2] = [("second", b"2.0\n"), ("first", &[7; 9000])];
        for (name, content) in files {
            fs::write(root.path().join(name), content).unwrap();
            let mode = fs::Permissions::from_mode(0o644);
            fs::set_permissions(root.path().join(name), mode).unwrap();
        }
        let theirs = gnu_tar(root.path(), &["./second", "./first"]);
        assert!(tar(&files, EPOCH).unwrap() == theirs);
    }

    #[test]
    fn compressed_as_small_as_by_gzip_and_with_its_header() {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &program).unwrap();
        let theirs = Command::new("gzip").arg("-9nc").arg(file.path()).output().unwrap().stdout;
        let ours = gzip(&program).unwrap();
        assert_eq!(ours[..10], theirs[..10]);
        // Two good compressors: which is the smaller one depends on the file, by a thousandth.
        let limit = theirs.len() + theirs.len() / 500;
        assert!(ours.len() <= limit, "{} bytes, gzip {}", ours.len(), theirs.len());
    }

    #[test]
    fn a_member_is_found_with_and_without_its_dot() {
        let archive = gzip(&tree().tar(EPOCH).unwrap()).unwrap();
        assert_eq!(member(&archive, "etc/a.b").unwrap(), vec![b'y'; 511]);
        assert!(member(&archive, "etc/none").unwrap_err().to_string().contains("etc/none"));
        assert!(member(b"no archive", "x").is_err());
    }

    #[test]
    fn a_long_name_is_refused_instead_of_cut() {
        let mut tree = Tree::default();
        tree.add("x".repeat(98), 0o644, Vec::new());
        assert!(tree.tar(EPOCH).is_ok());
        tree.add("x".repeat(99), 0o644, Vec::new());
        assert!(tree.tar(EPOCH).is_err());
    }
}
