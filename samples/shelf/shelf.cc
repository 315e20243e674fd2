#include "shelf.h"

namespace shelf {
namespace {

constexpr const char *kColumns =
    "SELECT id, revision, tokens, name, model, fingerprint, model_path, note, created, changed FROM memory ";

Memory memory_of(const Statement &row) {
  return {row.number(0), row.number(1), row.number(2), row.text(3), row.text(4),
          row.text(5),   row.text(6),   row.text(7),   row.text(8), row.text(9)};
}

}  // namespace

std::vector<std::byte> save(const infini_session *session) {
  return cli::all_of<std::vector<std::byte>>(infini_session_save_buffer, session, 0, nullptr, nullptr, nullptr);
}

std::vector<Memory> Shelf::list() {
  std::vector<Memory> memories;
  Statement rows(database_, (std::string(kColumns) + "ORDER BY name").c_str());
  while (rows.next()) memories.push_back(memory_of(rows));
  return memories;
}

std::optional<Memory> Shelf::find(const std::string &name) {
  Statement row(database_, (std::string(kColumns) + "WHERE name = ?").c_str());
  if (!row.with(name).next()) return std::nullopt;
  return memory_of(row);
}

Memory Shelf::get(const std::string &name) {
  if (const auto memory = find(name)) return *memory;
  std::string names;
  for (const Memory &memory : list()) names += (names.empty() ? "" : ", ") + memory.name;
  throw std::runtime_error("no memory is named '" + name + "'; " +
                           (names.empty() ? "the shelf is empty" : "there are: " + names));
}

std::vector<Document> Shelf::documents(const Memory &memory) {
  std::vector<Document> documents;
  Statement rows(database_, "SELECT name, hash, read, size, tokens FROM document WHERE memory_id = ? ORDER BY id");
  rows.with(memory.id);
  while (rows.next()) documents.push_back({rows.text(0), rows.text(1), rows.text(2), rows.number(3), rows.number(4)});
  return documents;
}

bool Shelf::restore(const Memory &memory, infini_session *session) {
  Statement row(database_, "SELECT snapshot FROM state JOIN memory ON id = memory_id WHERE id = ? AND revision = ?");
  if (!row.with(memory.id, memory.revision).next()) return false;
  cli::check(infini_session_restore_buffer(session, row.bytes(0).data(), row.bytes(0).size(), nullptr));
  return true;
}

Memory Shelf::describe(std::span<const std::byte> snapshot) {
  const std::string json =
      cli::all_of(infini_snapshot_json_buffer, snapshot.data(), snapshot.size(), INFINI_SNAPSHOT_VERIFY, nullptr);
  Statement row(
      database_,
      "SELECT json_extract(?1, '$.view.position'), json_extract(?1, '$.name'), json_extract(?1, '$.model.name'), "
      "json_extract(?1, '$.model.fingerprint'), json_extract(?1, '$.note')");
  row.with(json).next();
  Memory memory;
  memory.tokens = row.number(0);
  memory.name = row.text(1), memory.model = row.text(2), memory.fingerprint = row.text(3), memory.note = row.text(4);
  return memory;
}

bool Shelf::add(Memory &memory, std::span<const std::byte> state, const std::vector<Document> &documents) {
  Transaction transaction(database_);
  Statement(database_,
            "INSERT INTO memory (name, model, fingerprint, model_path, tokens, note, created, changed) SELECT ?1, ?2, "
            "?3, ?4, ?5, ?6, now, now "
            "FROM (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now') AS now) WHERE NOT EXISTS (SELECT 1 FROM memory WHERE "
            "name = ?1)")
      .with(memory.name, memory.model, memory.fingerprint, memory.model_path, memory.tokens, memory.note)
      .run();
  if (database_.changes() == 0) return false;
  memory.id = database_.last_id();
  memory.revision = 1;
  Statement(database_, "INSERT INTO state (memory_id, snapshot) VALUES (?, ?)").with(memory.id, state).run();
  add_documents(memory, documents);
  transaction.commit();
  return true;
}

bool Shelf::update(Memory &memory, std::span<const std::byte> state, const std::vector<Document> &documents) {
  Transaction transaction(database_);
  Statement(database_,
            "UPDATE memory SET revision = revision + 1, tokens = ?, model_path = ?, changed = "
            "strftime('%Y-%m-%dT%H:%M:%SZ', 'now') "
            "WHERE id = ? AND revision = ?")
      .with(memory.tokens, memory.model_path, memory.id, memory.revision)
      .run();
  if (database_.changes() == 0) return false;
  Statement(database_, "UPDATE state SET snapshot = ? WHERE memory_id = ?").with(state, memory.id).run();
  add_documents(memory, documents);
  transaction.commit();
  ++memory.revision;
  return true;
}

void Shelf::add_documents(const Memory &memory, const std::vector<Document> &documents) {
  for (const Document &document : documents)
    Statement(database_,
              "INSERT INTO document (memory_id, name, hash, size, tokens, read) VALUES (?, ?, ?, ?, ?, "
              "strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))")
        .with(memory.id, document.name, document.hash, document.size, document.tokens)
        .run();
}

std::string Shelf::chat_messages(const std::string &content) {
  Statement row(database_, "SELECT json_array(json_object('role', 'user', 'content', ?))");
  row.with(content).next();
  return row.text(0);
}

void Shelf::rename(const std::string &name, const std::string &to) {
  Transaction transaction(database_);
  const Memory memory = get(name);
  if (find(to))
    throw std::runtime_error("a memory is named '" + to + "' already; remove it first, or choose another name");
  Statement(database_, "UPDATE memory SET name = ? WHERE id = ?").with(to, memory.id).run();
  transaction.commit();
}

void Shelf::set_note(const std::string &name, const std::string &note) {
  Transaction transaction(database_);
  Statement(database_, "UPDATE memory SET note = ? WHERE id = ?").with(note, get(name).id).run();
  transaction.commit();
}

void Shelf::remove(const std::string &name) {
  Transaction transaction(database_);
  Statement(database_, "DELETE FROM memory WHERE id = ?")
      .with(get(name).id)
      .run();  // and, by the schema, all that is its
  transaction.commit();
}

std::vector<std::string> Shelf::check() {
  std::vector<std::string> faults;
  Statement integrity(database_, "PRAGMA integrity_check");
  while (integrity.next())
    if (integrity.text(0) != "ok") faults.push_back("the database: " + integrity.text(0));
  Statement keys(database_, "PRAGMA foreign_key_check");
  while (keys.next()) faults.push_back("the database: a row of table " + keys.text(0) + " belongs to no memory");
  Statement rows(
      database_,
      "SELECT name, tokens, fingerprint, snapshot FROM memory LEFT JOIN state ON memory_id = id ORDER BY name");
  while (rows.next()) {
    try {
      const Memory told = describe(rows.bytes(3));
      if (told.tokens != rows.number(1) || told.fingerprint != rows.text(2))
        faults.push_back("'" + rows.text(0) + "': its snapshot is not the one that its entry tells of");
    } catch (const std::exception &error) { faults.push_back("'" + rows.text(0) + "': " + error.what()); }
  }
  return faults;
}

}  // namespace shelf
