#include "database.h"

#include <chrono>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace shelf {
namespace {

constexpr int kApplication = 0x53484c46;  // "SHLF": tells a shelf from other programs' databases

// Step i leads from schema i to i + 1; PRAGMA user_version counts them. A step that was released never changes.
const char *const kMigrations[] = {
    // A memory's state stands in a table of its own, so that lists do not page through it.
    R"(CREATE TABLE memory (
         id INTEGER PRIMARY KEY,
         name TEXT NOT NULL UNIQUE,
         model TEXT NOT NULL,          -- its name,
         fingerprint TEXT NOT NULL,    -- what identifies it,
         model_path TEXT NOT NULL,     -- and where it was last found; '': not known
         tokens INTEGER NOT NULL,
         created TEXT NOT NULL,        -- dates are UTC, 2025-01-31T12:00:00Z
         changed TEXT NOT NULL);
       CREATE TABLE state (
         memory_id INTEGER PRIMARY KEY REFERENCES memory ON DELETE CASCADE,
         snapshot BLOB NOT NULL);
       CREATE TABLE document (
         id INTEGER PRIMARY KEY,
         memory_id INTEGER NOT NULL REFERENCES memory ON DELETE CASCADE,
         name TEXT NOT NULL,
         size INTEGER NOT NULL,
         tokens INTEGER NOT NULL,
         read TEXT NOT NULL);
       CREATE INDEX document_of ON document (memory_id);)",
    // Notes; hashes, by which a document is known again (NULL: read before they were kept); and a revision that grows
    // with every change of a state, by which one process sees that another was faster.
    R"(ALTER TABLE memory ADD COLUMN note TEXT NOT NULL DEFAULT '';
       ALTER TABLE memory ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
       ALTER TABLE document ADD COLUMN hash TEXT;)",
};
constexpr int64_t kVersion = std::size(kMigrations);

int64_t pragma(Database &database, const char *sql) {
  Statement statement(database, sql);
  return statement.next() ? statement.number(0) : 0;
}

}  // namespace

Database::Database(const std::string &path, Open how) {
  if (how == Open::EXISTING && !std::filesystem::exists(path))
    throw std::runtime_error("there is no shelf at " + path +
                             "; 'shelf read' and 'shelf import' make one, --shelf names another");
  sqlite3 *handle = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | (how == Open::CREATE ? SQLITE_OPEN_CREATE : 0);
  const int status = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  handle_.reset(handle);
  if (status != SQLITE_OK) fail(("cannot open " + path).c_str());
  sqlite3_busy_timeout(handle, 30'000);  // others write for as long as a state takes to reach the disk
  run("PRAGMA foreign_keys = ON");
  migrate(path);
  run("PRAGMA synchronous = FULL");  // a commit reaches the disk before it returns
}

// Readers and a writer do not wait for each other in this mode, which the file keeps. Processes that change to it at
// the same time are not made to wait by the busy timeout, so they try again.
void Database::use_wal() {
  for (int attempt = 0;; ++attempt) {
    const int status = sqlite3_exec(handle_.get(), "PRAGMA journal_mode = WAL", nullptr, nullptr, nullptr);
    if (status == SQLITE_OK) return;
    if (status != SQLITE_BUSY || attempt == 100) fail("the shelf's database");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void Database::migrate(const std::string &path) {
  const auto is_current = [&] {
    // In this order: another process may make the shelf meanwhile, and tables that are seen have their mark by then.
    const bool empty = pragma(*this, "SELECT count(*) FROM sqlite_master") == 0;
    const int64_t application = pragma(*this, "PRAGMA application_id"), version = pragma(*this, "PRAGMA user_version");
    if (application != kApplication && !empty)
      throw std::runtime_error(path + " is a database of another program; name another file with --shelf");
    if (version > kVersion)
      throw std::runtime_error(path + " was written by a newer version of shelf (schema " + std::to_string(version) +
                               ", this one knows " + std::to_string(kVersion) + "); update this program");
    return version == kVersion;
  };
  if (is_current()) return;
  use_wal();
  Transaction transaction(*this);
  if (is_current()) return;  // another process was faster
  for (int64_t version = pragma(*this, "PRAGMA user_version"); version < kVersion; ++version) run(kMigrations[version]);
  run(("PRAGMA application_id = " + std::to_string(kApplication) +
       "; PRAGMA user_version = " + std::to_string(kVersion))
          .c_str());
  transaction.commit();
}

void Database::run(const char *sql) {
  if (sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail("the shelf's database");
}

void Database::fail(const char *what) const {
  const int code = sqlite3_errcode(handle_.get());
  std::string message = std::string(what) + ": " + sqlite3_errmsg(handle_.get());
  if (code == SQLITE_BUSY) message += "; another process holds it: try again when that is done";
  if (code == SQLITE_FULL) message += "; free some space and try again: the shelf is as it was";
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) message += "; 'shelf check' tells more, a backup helps";
  throw std::runtime_error(message);
}

Statement::Statement(Database &database, const char *sql) : database_(database) {
  sqlite3_stmt *handle = nullptr;
  if (sqlite3_prepare_v2(database.handle_.get(), sql, -1, &handle, nullptr) != SQLITE_OK)
    database.fail("the shelf's database");
  handle_.reset(handle);
}

bool Statement::next() {
  const int status = sqlite3_step(handle_.get());
  if (status != SQLITE_ROW && status != SQLITE_DONE) database_.fail("the shelf's database");
  return status == SQLITE_ROW;
}

std::string Statement::text(int column) const {
  const auto *data = reinterpret_cast<const char *>(sqlite3_column_text(handle_.get(), column));
  return data ? std::string(data, static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column))) : std::string();
}

std::span<const std::byte> Statement::bytes(int column) const {
  const auto *data = static_cast<const std::byte *>(sqlite3_column_blob(handle_.get(), column));
  return {data, static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column))};
}

void Statement::bind(int index, int64_t value) {
  if (sqlite3_bind_int64(handle_.get(), index, value) != SQLITE_OK) database_.fail("a number");
}

void Statement::bind(int index, std::string_view value) {
  if (sqlite3_bind_text64(handle_.get(), index, value.data(), value.size(), SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK)
    database_.fail("a text");
}

void Statement::bind(int index, std::span<const std::byte> value) {
  if (sqlite3_bind_blob64(handle_.get(), index, value.data(), value.size(), SQLITE_STATIC) != SQLITE_OK)
    database_.fail("a state of " /* SQLite keeps at most 1 GB in one place */ "that size");
}

Transaction::~Transaction() {
  // Some errors have rolled it back already; then this does nothing.
  if (open_) {
    try {
      database_.run("ROLLBACK");
    } catch (const std::exception &) {}
  }
}

void Transaction::commit() {
  database_.run("COMMIT");
  open_ = false;
}

}  // namespace shelf
