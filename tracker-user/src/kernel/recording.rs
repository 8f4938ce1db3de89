//! The recording of what the flood detector sees (`--detector.record`), which a replay can judge again. A thread of its
//! own writes it, so that a slow disk does not stop detection. It has no holes: what cannot be kept up with ends it.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use tracker_detect::syn::SynObservation;

use super::error::KernelError;

/// Observations that wait to be written. Each may have 100 KB.
const WAITING: usize = 64;
/// How long the observations that wait may take to be written when the daemon stops.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Each recording begins so, as each observation does. A file that begins otherwise is not overwritten.
const BEGINNING: &[u8] = b"{\"at\":";
/// It has the addresses of peers.
const MODE: u32 = 0o600;

/// A recording. Dropping it ends it.
pub struct Recording {
    lines: Option<SyncSender<Vec<u8>>>,
    /// Says nothing; its other end is gone when all is written.
    written: Receiver<()>,
    why_ended: Arc<OnceLock<String>>,
}

impl Recording {
    /// Makes the file, or overwrites an earlier recording, and starts the thread that writes.
    ///
    /// # Errors
    /// When the file is anything else than a recording, or cannot be made.
    pub fn create(path: &Path) -> Result<Self, KernelError> {
        let file = open(path);
        let started = file.and_then(Self::start);
        started.map_err(|source| KernelError::Io {
            what: format!("record to {} (--detector.record)", path.display()),
            source,
        })
    }

    fn start(file: File) -> io::Result<Self> {
        let (lines, waiting) = mpsc::sync_channel(WAITING);
        let (end, written) = mpsc::channel();
        let why_ended = Arc::new(OnceLock::new());
        let why = why_ended.clone();
        thread::Builder::new().name("recording".into()).spawn(move || {
            if let Err(error) = write_lines(file, &waiting) {
                end_because(&why, error.to_string());
            }
            drop(end);
        })?;
        Ok(Self { lines: Some(lines), written, why_ended })
    }

    /// Adds an observation, without waiting.
    pub fn write(&mut self, observation: &SynObservation) {
        let Some(lines) = self.lines.as_ref().filter(|_| self.why_ended().is_none()) else { return };
        let mut line = match serde_json::to_vec(observation) {
            Ok(line) => line,
            Err(error) => return end_because(&self.why_ended, error.to_string()),
        };
        line.push(b'\n');
        // When the thread has ended instead, it says why.
        if let Err(TrySendError::Full(_)) = lines.try_send(line) {
            self.lines = None;
            end_because(&self.why_ended, format!("{WAITING} observations wait: the file is written too slowly"));
        }
    }

    /// Why it ended, if it did.
    pub fn why_ended(&self) -> Option<&str> {
        self.why_ended.get().map(String::as_str)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.lines = None;
        // An error says that the thread has ended, or that it takes too long.
        if self.written.recv_timeout(WRITE_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the end of the recording is not written: its file is written too slowly");
        }
    }
}

fn end_because(why: &OnceLock<String>, error: String) {
    tracing::warn!("the recording (--detector.record) ends here, and is whole up to here: {error}");
    // The first reason stays.
    let _ = why.set(error);
}

/// Neither follows links, nor waits for the reader of a pipe, nor takes another kind of file for a recording.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file; name one that does not exist yet"));
    }
    let mut beginning = Vec::new();
    (&mut file).take(BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    if !BEGINNING.starts_with(&beginning) {
        return Err(io::Error::other("it holds something else than a recording; name a file that does not exist yet"));
    }
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.set_len(0)?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Writes until there are no more. A line that is written in part is cut off again.
fn write_lines(mut file: File, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
    let mut whole = 0;
    for line in lines {
        if let Err(error) = file.write_all(&line) {
            // What keeps the line from being written may keep the file from being cut, too.
            let _ = file.set_len(whole);
            return Err(error);
        }
        whole += line.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::{
            fd::OwnedFd,
            unix::fs::{MetadataExt as _, symlink},
        },
        time::Instant,
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use tracker_detect::syn::ClosedPortsObservation;

    use super::*;

    fn observations(recording: &mut Recording, count: usize) {
        let observation = SynObservation {
            at: Duration::ZERO,
            wall: jiff::Timestamp::UNIX_EPOCH,
            netns: 0,
            listeners: Vec::new(),
            closed_ports: ClosedPortsObservation::default(),
            namespace: None,
            census_error: None,
        };
        (0..count).for_each(|_| recording.write(&observation));
    }

    #[test]
    fn each_observation_is_a_line_of_a_private_file_and_an_earlier_recording_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r");
        for count in [5, 3] {
            let mut recording = Recording::create(&path).unwrap();
            observations(&mut recording, count);
            assert_eq!(recording.why_ended(), None);
            drop(recording);
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), count);
            assert!(text.lines().all(|line| serde_json::from_str::<SynObservation>(line).is_ok()), "{text}");
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    }

    #[test]
    fn whatever_is_no_recording_is_refused_at_once_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let [pipe, file, link] = ["pipe", "file", "link"].map(|name| directory.path().join(name));
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        fs::write(&file, "precious").unwrap();
        symlink(directory.path().join("new"), &link).unwrap();
        for path in [&pipe, &file, &link, Path::new("/dev/null")] {
            let error = Recording::create(path).err().map(|error| error.to_string()).unwrap();
            assert!(error.contains(&path.display().to_string()) && error.contains("--detector.record"), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert!(!directory.path().join("new").exists());
    }

    #[test]
    fn a_file_that_takes_nothing_ends_the_recording_and_stops_nobody() {
        let (_reader, pipe) = io::pipe().unwrap();
        let mut recording = Recording::start(File::from(OwnedFd::from(pipe))).unwrap();
        let begun = Instant::now();
        observations(&mut recording, 10_000);
        assert!(recording.why_ended().unwrap().contains("too slowly"));
        drop(recording);
        assert!(begun.elapsed() < WRITE_TIMEOUT + Duration::from_secs(4), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_says_why() {
        let mut recording = Recording::start(OpenOptions::new().write(true).open("/dev/full").unwrap()).unwrap();
        observations(&mut recording, 1);
        let deadline = Instant::now() + Duration::from_secs(10);
        while recording.why_ended().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(recording.why_ended().unwrap().contains("No space left"));
        observations(&mut recording, 1);
    }
}
