//! A recording as files: `evidence.jsonl`, and from some size on a row of compressed parts before it.
//!
//! ```text
//! evidence.0001.jsonl.zst   the first records
//! evidence.0002.jsonl.zst   those after them
//! evidence.jsonl            the last ones
//! ```
//! Put together they are the recording, byte for byte: chain and numbers go on from one to the next.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// The name of the last part, or of the only one.
pub const NAME: &str = "evidence.jsonl";
/// Up to here a recording is one plain file.
pub const PART_BYTES: u64 = 64 << 20;
const COMPRESSED: &str = ".zst";
/// How a zstd frame begins.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Nothing of ours needs more memory to be read than this window.
const WINDOW: u32 = 27;
/// A pipe is kept until it is read; no recording of a job is larger.
const LARGEST_PIPE: u64 = 16 << 30;

/// Where a recorder writes. Every `write` is one line.
#[derive(Debug)]
pub struct Store {
    place: Place,
    file: BufWriter<File>,
    size: u64,
    limit: u64,
    /// The part that is being compressed beside the recorder's work; there is never more than one.
    at_work: Option<JoinHandle<io::Result<Option<File>>>>,
    count: usize,
}

#[derive(Debug)]
enum Place {
    /// No name leads there, so the job finds nothing.
    Nameless(Vec<File>),
    /// Only the owner may look in.
    Folder(PathBuf),
}

impl Store {
    const BUFFER: usize = 1 << 16;

    pub fn nameless(limit: u64) -> io::Result<Self> {
        Ok(Self::new(Place::Nameless(Vec::new()), tempfile::tempfile()?, limit))
    }

    pub fn in_folder(folder: &Path, limit: u64) -> io::Result<Self> {
        let file = private(&folder.join(NAME))?;
        Ok(Self::new(Place::Folder(folder.to_owned()), file, limit))
    }

    fn new(place: Place, file: File, limit: u64) -> Self {
        let file = BufWriter::with_capacity(Self::BUFFER, file);
        Self { place, file, size: 0, limit, at_work: None, count: 0 }
    }

    /// Closes the last large part of a recording that has several, so that only its end stays plain.
    pub fn close(&mut self) -> io::Result<()> {
        if self.count > 0 && self.size > 0 { self.turn() } else { Ok(()) }
    }

    /// Ends this part and begins the next.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        self.file.flush()?;
        let next = match &self.place {
            Place::Nameless(_) => tempfile::tempfile()?,
            Place::Folder(folder) => {
                let plain = folder.join(name(self.count + 1));
                // If we are ended between these lines the part is there, under a name that is read.
                std::fs::rename(folder.join(NAME), &plain)?;
                private(&folder.join(NAME))?
            }
        };
        self.count += 1;
        let next = BufWriter::with_capacity(Self::BUFFER, next);
        let mut full =
            std::mem::replace(&mut self.file, next).into_inner().map_err(io::IntoInnerError::into_error)?;
        self.size = 0;
        let plain = match &self.place {
            Place::Nameless(_) => None,
            Place::Folder(folder) => Some(folder.join(name(self.count))),
        };
        self.at_work = Some(std::thread::spawn(move || {
            full.rewind()?;
            let Some(plain) = plain else {
                let mut packed = tempfile::tempfile()?;
                compress(&mut full, &mut packed)?;
                return Ok(Some(packed));
            };
            let packed = PathBuf::from(format!("{}{COMPRESSED}", plain.display()));
            let unfinished = PathBuf::from(format!("{}.unfinished", packed.display()));
            private(&unfinished)
                .and_then(|mut file| compress(&mut full, &mut file))
                .and_then(|()| std::fs::rename(&unfinished, &packed))
                .and_then(|()| std::fs::remove_file(&plain))
                // On a full disk the plain part is as good.
                .or_else(|_| match std::fs::remove_file(&unfinished) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                })?;
            Ok(None)
        }));
        Ok(())
    }

    /// Waits for the part that is being compressed.
    fn wait(&mut self) -> io::Result<()> {
        let Some(work) = self.at_work.take() else { return Ok(()) };
        let packed = work.join().map_err(|_| io::Error::other("a part could not be compressed"))??;
        if let (Place::Nameless(parts), Some(packed)) = (&mut self.place, packed) {
            parts.push(packed);
        }
        Ok(())
    }

    /// The parts in their order, each with its name, to be read from the beginning. For a store without names.
    pub fn into_files(mut self) -> io::Result<Vec<(String, File)>> {
        self.wait()?;
        self.file.flush()?;
        let file = self.file.get_ref().try_clone()?;
        let Place::Nameless(parts) = &mut self.place else { return Ok(Vec::new()) };
        let parts = std::mem::take(parts);
        let mut files: Vec<(String, File)> =
            (1..).map(|number| format!("{}{COMPRESSED}", name(number))).zip(parts).collect();
        files.push((NAME.to_owned(), file));
        for (_, file) in &mut files {
            file.rewind()?;
        }
        Ok(files)
    }
}

impl Write for Store {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + line.len() as u64 > self.limit {
            self.turn()?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whoever reads the folder next finds whole parts.
        let _ = self.wait();
    }
}

fn name(number: usize) -> String {
    format!("evidence.{number:04}.jsonl")
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(path)
}

fn compress(plain: &mut File, packed: &mut File) -> io::Result<()> {
    /// Beyond this more time buys little: half of a line is digests and moments.
    const LEVEL: i32 = 9;
    let mut encoder = zstd::stream::write::Encoder::new(BufWriter::new(packed), LEVEL)?;
    encoder.include_checksum(true)?;
    io::copy(plain, &mut encoder)?;
    encoder.finish()?.flush()
}

/// Whether a file of a report directory is a part of a recording.
pub fn is_part(file_name: &str) -> bool {
    let stem = file_name.strip_suffix(COMPRESSED).unwrap_or(file_name);
    let number = stem.strip_prefix("evidence.").and_then(|rest| rest.strip_suffix(".jsonl"));
    file_name == NAME
        || number.is_some_and(|number| number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The files of the recording that this one ends, in their order. It alone, if it has no parts beside it.
pub fn of(last: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = Vec::new();
    let is_last = last.file_name().is_some_and(|file_name| file_name == NAME);
    if let (true, Some(folder)) = (is_last, last.parent()) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_part(name) && name != NAME).collect();
        names.sort();
        // A part whose plain file was not yet taken away is there twice.
        names.dedup_by(|packed, plain| packed.strip_suffix(COMPRESSED) == Some(plain.as_str()));
        parts.extend(names.into_iter().map(|name| folder.join(name)));
    }
    // A recorder that was ended between two parts left only those before.
    if parts.is_empty() || last.symlink_metadata().is_ok() {
        parts.push(last.to_owned());
    }
    parts
}

/// Opens a regular file to read it. Never waits for a writer, unless the caller handed a pipe over as a
/// descriptor.
pub fn open_file(path: &Path) -> io::Result<File> {
    let is_handed_over = is_handed_over(path);
    let mut options = File::options();
    options.read(true);
    if !is_handed_over {
        // To open a named pipe would wait for somebody who writes.
        options.custom_flags(nix::libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    if !is_handed_over && !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

fn is_handed_over(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd", "/proc/self/fd"].iter().any(|place| path.starts_with(place))
}

/// Reads a recording, plain or compressed, in one file or several, as one stream.
pub struct Recording {
    parts: Vec<PathBuf>,
    /// What came through a pipe, which can be read only once.
    piped: Option<File>,
    next: usize,
    current: Box<dyn BufRead>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Recording")
            .field("parts", &self.parts)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Recording {
    /// Opens the recording that ends with this file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut recording = Self { parts: of(path), piped: None, next: 0, current: Box::new(io::empty()) };
        if is_handed_over(path) {
            let mut file = open_file(path)?;
            if file.rewind().is_err() {
                file = kept(file)?;
            }
            recording.piped = Some(file);
            recording.parts.clear();
        }
        recording.rewind()?;
        Ok(recording)
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let file = match (&mut self.piped, self.parts.get(self.next)) {
            (Some(file), _) if self.next == 0 => {
                file.rewind()?;
                file.try_clone()?
            }
            (None, Some(part)) => open_file(part)?,
            _ => return Ok(false),
        };
        self.next += 1;
        let mut plain = BufReader::with_capacity(Store::BUFFER, file);
        self.current = if plain.fill_buf()?.starts_with(&MAGIC) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(plain)?;
            decoder.window_log_max(WINDOW)?;
            Box::new(BufReader::with_capacity(Store::BUFFER, decoder))
        } else {
            Box::new(plain)
        };
        Ok(true)
    }
}

/// What comes through a pipe, in a file without a name. Only as long as it looks like a recording.
fn kept(pipe: File) -> io::Result<File> {
    let mut pipe = BufReader::new(pipe);
    let mut file = tempfile::tempfile()?;
    let begins = pipe.fill_buf()?;
    if begins.starts_with(b"{") || begins.starts_with(&MAGIC) {
        io::copy(&mut pipe.take(LARGEST_PIPE), &mut file)?;
    } else {
        // Whoever reads the first line says what is wrong with it.
        io::copy(&mut begins.take(64), &mut file)?;
    }
    file.rewind()?;
    Ok(file)
}

impl Read for Recording {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Recording {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.fill_buf()?.is_empty() {
            if !self.open_next()? {
                break;
            }
        }
        self.current.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.current.consume(count);
    }
}

/// To its beginning only: that is all a second look needs.
impl Seek for Recording {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if to != SeekFrom::Start(0) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.next = 0;
        self.current = Box::new(io::empty());
        self.open_next()?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(from: usize, to: usize) -> Vec<String> {
        (from..to).map(|number| format!("{{\"seq\":{number},\"x\":\"{}\"}}\n", "y".repeat(100))).collect()
    }

    fn whole(path: &Path) -> String {
        let mut recording = Recording::open(path).expect("opens");
        let mut first = String::new();
        recording.read_line(&mut first).expect("reads");
        recording.rewind().expect("again");
        let mut text = String::new();
        recording.read_to_string(&mut text).expect("reads");
        assert!(text.starts_with(&first));
        text
    }

    #[test]
    fn a_recording_in_parts_is_read_as_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::in_folder(folder.path(), 1000).expect("made");
        let lines = lines(0, 100);
        for line in &lines {
            store.write_all(line.as_bytes()).expect("written");
        }
        store.close().expect("closed");
        store.write_all(b"{\"end\":1}\n").expect("written");
        store.flush().expect("flushed");
        drop(store);
        let last = folder.path().join(NAME);
        let parts = of(&last);
        assert!(parts.len() > 5 && parts[0].ends_with("evidence.0001.jsonl.zst"), "{parts:?}");
        assert_eq!(std::fs::read_to_string(&last).expect("text"), "{\"end\":1}\n");
        assert_eq!(whole(&last), lines.concat() + "{\"end\":1}\n");
        // Of a part that is there plain and compressed one counts.
        let plain: String = lines[..9].concat();
        std::fs::write(folder.path().join("evidence.0001.jsonl"), plain).expect("written");
        assert_eq!(of(&last).len(), parts.len());
    }

    #[test]
    fn a_nameless_store_gives_its_parts_back() {
        let mut store = Store::nameless(1000).expect("made");
        for line in lines(0, 30) {
            store.write_all(line.as_bytes()).expect("written");
        }
        let folder = tempfile::tempdir().expect("a folder");
        for (name, mut file) in store.into_files().expect("parts") {
            let mut copy = File::create(folder.path().join(name)).expect("made");
            io::copy(&mut file, &mut copy).expect("copied");
        }
        assert!(of(&folder.path().join(NAME)).len() > 2);
        assert_eq!(whole(&folder.path().join(NAME)), lines(0, 30).concat());
    }

    #[test]
    fn one_compressed_file_is_a_recording_and_half_of_one_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let (plain, packed) = (folder.path().join("p"), folder.path().join("x.zst"));
        std::fs::write(&plain, lines(0, 500).concat()).expect("written");
        compress(&mut File::open(&plain).expect("opens"), &mut File::create(&packed).expect("made"))
            .expect("compressed");
        assert_eq!(whole(&packed), lines(0, 500).concat());
        let bytes = std::fs::read(&packed).expect("read");
        std::fs::write(&packed, &bytes[..bytes.len() / 2]).expect("written");
        let mut text = String::new();
        let mut recording = Recording::open(&packed).expect("opens");
        assert!(recording.read_to_string(&mut text).is_err());
    }

    #[test]
    fn only_parts_are_taken_for_parts() {
        for (name, is) in [
            (NAME, true),
            ("evidence.0001.jsonl.zst", true),
            ("evidence.12345.jsonl", true),
            ("evidence.1.jsonl", false),
            ("evidence.old.jsonl", false),
            ("evidence.0001.jsonl.zst.unfinished", false),
            ("evidence.jsonl.zst", false),
            ("evidence.sig", false),
        ] {
            assert_eq!(is_part(name), is, "{name}");
        }
    }
}
