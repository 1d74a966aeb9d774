//! Reads rows of a database that somebody else has open, from a copy: to open it in place could change it.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{log_of, open, stamp};

/// Steps of `SQLite`'s machine for all queries; a made-up view could run for ever.
const STEPS: u64 = 200_000_000;
const BETWEEN: i32 = 100_000;

/// Why there are no rows.
#[derive(Debug)]
pub(super) enum Failure {
    TooLarge,
    /// Not a database, not with these tables, or written to while it was copied.
    Unreadable,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Unreadable
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(_: rusqlite::Error) -> Self {
        Self::Unreadable
    }
}

/// The second column of the rows that each query finds past its cursor, in the order of the queries.
///
/// A query that this database has no table for finds none, as long as another one does.
pub(super) fn rows(
    path: &Path,
    queries: &[&str],
    cursors: &mut [i64],
    largest: u64,
) -> Result<Vec<String>, Failure> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("copy.db");
    let log = log_of(path);
    let before = (stamp(path), stamp(&log));
    if before.0.0 + before.1.0 > largest {
        return Err(Failure::TooLarge);
    }
    io::copy(&mut open(path)?, &mut fs::File::create(&copy)?)?;
    if let Ok(mut log) = open(&log) {
        io::copy(&mut log, &mut fs::File::create(log_of(&copy))?)?;
    }
    if (stamp(path), stamp(&log)) != before {
        return Err(Failure::Unreadable);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&copy, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    let mut left = STEPS / u64::from(BETWEEN.unsigned_abs());
    connection.progress_handler(
        BETWEEN,
        Some(move || {
            left = left.saturating_sub(1);
            left == 0
        }),
    )?;
    let mut pieces = Vec::new();
    let mut is_known = false;
    for (query, cursor) in queries.iter().zip(cursors) {
        let Ok(mut statement) = connection.prepare(query) else { continue };
        is_known = true;
        let mut rows = statement.query([*cursor])?;
        while let Some(row) = rows.next()? {
            *cursor = (*cursor).max(row.get(0).unwrap_or(*cursor));
            let (ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = row.get_ref(1)? else { continue };
            // What is no text is for the reader to call unreadable.
            pieces.push(String::from_utf8_lossy(bytes).into_owned());
        }
    }
    if is_known { Ok(pieces) } else { Err(Failure::Unreadable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[&str] = &["SELECT rowid, data FROM part WHERE rowid > ?1 ORDER BY rowid"];

    #[test]
    fn reads_what_lies_in_the_log_and_leaves_the_database_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE part(data TEXT);").unwrap();
        writer.execute("INSERT INTO part VALUES ('one')", []).unwrap();
        let before = fs::read(&path).unwrap();
        let mut cursors = [-1];
        assert_eq!(rows(&path, QUERY, &mut cursors, 1 << 20).unwrap(), ["one"]);
        writer.execute("INSERT INTO part VALUES (x'74776f')", []).unwrap();
        assert_eq!(rows(&path, QUERY, &mut cursors, 1 << 20).unwrap(), ["two"]);
        assert!(rows(&path, QUERY, &mut cursors, 1 << 20).unwrap().is_empty());
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_database_is_unreadable_and_what_never_ends_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        fs::write(&path, b"\0\x01garbage").unwrap();
        assert!(matches!(rows(&path, QUERY, &mut [-1], 1 << 20), Err(Failure::Unreadable)));
        assert!(matches!(rows(&path, QUERY, &mut [-1], 4), Err(Failure::TooLarge)));
        let path = folder.path().join("b.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "CREATE VIEW part AS WITH RECURSIVE n(rowid, data) AS (SELECT 1, 'x' UNION ALL SELECT rowid + 1, data FROM n) SELECT rowid, data FROM n WHERE data = 'y'",
            )
            .unwrap();
        drop(writer);
        assert!(matches!(rows(&path, QUERY, &mut [-1], 1 << 20), Err(Failure::Unreadable)));
    }
}
