// A shelf of named memories in one database.
//
// The rule that keeps it whole: a memory's state is read, worked on for as long as it takes, and written back in one
// short transaction, which also checks that nobody else has changed it meanwhile (Memory::revision). No lock is held
// while a model works, a process may die at any time, and no change is lost.
#pragma once

#include <optional>
#include <vector>

#include "database.h"
#include "handles.h"

namespace shelf {

struct Memory {
  int64_t id = 0, revision = 0, tokens = 0;
  std::string name, model, fingerprint, model_path, note, created, changed;
};

struct Document {
  std::string name, hash, read;  // hash: XXH3 with 128 bits, as xxhsum -H2 prints it; "": not known
  int64_t size = 0, tokens = 0;
};

// A session's state as bytes.
std::vector<std::byte> save(const infini_session *session);

class Shelf {
 public:
  Shelf(const std::string &path, Database::Open how) : database_(path, how) {}

  std::vector<Memory> list();
  std::optional<Memory> find(const std::string &name);
  Memory get(const std::string &name);  // throws where there is none, naming those that there are
  std::vector<Document> documents(const Memory &memory);

  // Puts the session where the memory is; false: the memory has changed since `memory` was looked up.
  bool restore(const Memory &memory, infini_session *session);
  // What the bytes of a snapshot tell of themselves, after every checksum has been compared.
  Memory describe(std::span<const std::byte> snapshot);

  // A memory that is not there yet; false: there is one of that name by now. Sets memory.id and revision.
  bool add(Memory &memory, std::span<const std::byte> state, const std::vector<Document> &documents);
  // The state that follows `memory`, and the document that led to it, if one did; false: the memory was changed or
  // removed by another process since it was looked up. Then nothing is written, else memory.revision is the new one.
  bool update(Memory &memory, std::span<const std::byte> state, const std::vector<Document> &documents);

  void rename(const std::string &name, const std::string &to);
  void set_note(const std::string &name, const std::string &note);
  void remove(const std::string &name);
  // What is wrong with the database or a snapshot in it, a line each.
  std::vector<std::string> check();
  // A user's message as infini_session_chat takes it. (SQLite reads and writes JSON.)
  std::string chat_messages(const std::string &content);

 private:
  void add_documents(const Memory &memory, const std::vector<Document> &documents);
  Database database_;
};

}  // namespace shelf
