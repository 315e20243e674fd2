// SQLite as C++ values: a connection, its statements, transactions that end well.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace shelf {

class Database {
 public:
  enum class Open { EXISTING, CREATE };
  // Migrates the file to the newest schema. Throws, in words, where there is no shelf, another program's database, or a
  // shelf of a newer version.
  Database(const std::string &path, Open how);

  void run(const char *sql);  // one or more statements without parameters
  int64_t changes() const { return sqlite3_changes64(handle_.get()); }
  int64_t last_id() const { return sqlite3_last_insert_rowid(handle_.get()); }
  [[noreturn]] void fail(const char *what) const;

 private:
  friend class Statement;
  void use_wal();
  void migrate(const std::string &path);
  struct Close {
    void operator()(sqlite3 *handle) const { sqlite3_close_v2(handle); }
  };
  std::unique_ptr<sqlite3, Close> handle_;
};

// One prepared statement:  Statement(db, "SELECT ... WHERE name = ?").with(name)  then next() row by row.
class Statement {
 public:
  Statement(Database &database, const char *sql);

  template <class... Values>
  Statement &with(const Values &...values) {
    int index = 0;
    (bind(++index, values), ...);
    return *this;
  }
  bool next();            // a row is there
  void run() { next(); }  // for statements without rows

  int64_t number(int column) const { return sqlite3_column_int64(handle_.get(), column); }
  std::string text(int column) const;
  std::span<const std::byte> bytes(int column) const;  // valid until the next row

 private:
  // Texts and bytes are not copied: they must live until the statement has run.
  void bind(int index, int64_t value);
  void bind(int index, std::string_view value);
  void bind(int index, std::span<const std::byte> value);
  struct Finalize {
    void operator()(sqlite3_stmt *handle) const { sqlite3_finalize(handle); }
  };
  Database &database_;
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

// All or nothing. Takes the right to write at once, so that it waits for other writers at its beginning, and what it
// reads stays true until it commits.
class Transaction {
 public:
  explicit Transaction(Database &database) : database_(database) { database_.run("BEGIN IMMEDIATE"); }
  ~Transaction();
  Transaction(const Transaction &) = delete;
  Transaction &operator=(const Transaction &) = delete;
  void commit();

 private:
  Database &database_;
  bool open_ = true;
};

}  // namespace shelf
