// Snapshots, going back, batches.
#include "guard.h"

using namespace infini;
using namespace infini::capi;

namespace {

Session::SnapshotKind kind_of(int flags) {
  return need_flags(flags, INFINI_SNAPSHOT_MEMORY) ? Session::SnapshotKind::MEMORY : Session::SnapshotKind::SESSION;
}
// inspect(verify, task) gives the JSON. Verifying takes a pass over the file, so the buffer is checked before: it adds
// less to the JSON of a section than that has without it.
template <class Inspect>
void give_inspection(int flags, const Inspect &inspect, Task *task, char *buffer, size_t capacity, size_t *size) {
  const bool verify = need_flags(flags, INFINI_SNAPSHOT_VERIFY) != 0;
  if (verify && !need_room(2 * inspect(false, nullptr).size(), buffer, capacity, size)) return;
  give_text(inspect(verify, task), buffer, capacity, size);
}
Session::Labels labels_of(const char *name, const char *note) { return {name ? name : "", note ? note : ""}; }

std::span<const std::byte> need_bytes(const void *data, size_t size) {
  return need_array(static_cast<const std::byte *>(data), size, "data");
}

}  // namespace

extern "C" {

infini_status infini_session_save(const infini_session *session, const char *path, int flags, const char *name,
                                  const char *note, infini_task *task) {
  return guard([&] { of(session).save(&need(path, "path"), kind_of(flags), labels_of(name, note), of(task)); });
}

infini_status infini_session_save_buffer(const infini_session *session, int flags, const char *name, const char *note,
                                         infini_task *task, void *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    auto *const to = static_cast<std::byte *>(buffer);
    const auto place = [&](size_t bytes) { return need_room(bytes, to, capacity, size) ? to : nullptr; };
    of(session).save(kind_of(flags), labels_of(name, note), place, of(task));
  });
}

infini_status infini_session_restore(infini_session *session, const char *path, infini_task *task) {
  return guard([&] { of(session).restore(&need(path, "path"), of(task)); });
}

infini_status infini_session_restore_buffer(infini_session *session, const void *data, size_t data_size,
                                            infini_task *task) {
  return guard([&] { of(session).restore(need_bytes(data, data_size), "snapshot", of(task)); });
}

infini_status infini_snapshot_json(const char *path, int flags, infini_task *task, char *buffer, size_t capacity,
                                   size_t *size) {
  return guard([&] {
    const auto inspect = [&](bool verify, Task *t) { return inspect_snapshot(&need(path, "path"), verify, t); };
    give_inspection(flags, inspect, of(task), buffer, capacity, size);
  });
}

infini_status infini_snapshot_json_buffer(const void *data, size_t data_size, int flags, infini_task *task,
                                          char *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    const auto inspect = [&](bool verify, Task *t) {
      return inspect_snapshot(need_bytes(data, data_size), "snapshot", verify, t);
    };
    give_inspection(flags, inspect, of(task), buffer, capacity, size);
  });
}

infini_status infini_session_merge(infini_session *session, const char *path, double weight, infini_task *task) {
  return guard([&] { of(session).merge(&need(path, "path"), weight, of(task)); });
}

infini_status infini_session_merge_buffer(infini_session *session, const void *data, size_t data_size, double weight,
                                          infini_task *task) {
  return guard([&] { of(session).merge(need_bytes(data, data_size), weight, "snapshot", of(task)); });
}

infini_status infini_session_rewind(infini_session *session, int64_t position) {
  return guard([&] { of(session).rewind(position); });
}

infini_status infini_session_rewind_limit(const infini_session *session, int64_t *position) {
  return guard([&] { need(position, "position") = of(session).rewind_limit(); });
}

infini_status infini_batch_create(const infini_model *model, infini_batch **batch) {
  return give_handle(batch, "batch", [&] {
    of(model).config();  // a tokenizer alone has no sessions
    return infini_batch{Batch(model->value)};
  });
}

void infini_batch_free(infini_batch *batch) { delete batch; }

infini_status infini_batch_add(infini_batch *batch, infini_session *session) {
  return guard([&] { of(batch).add(need(session, "session").value); });
}

infini_status infini_batch_remove(infini_batch *batch, const infini_session *session) {
  return guard([&] { of(batch).remove(need(session, "session").value.get()); });
}

infini_status infini_batch_size(const infini_batch *batch, size_t *size) {
  return guard([&] { need(size, "size") = of(batch).size(); });
}

infini_status infini_batch_next(infini_batch *batch, infini_task *task, int32_t *buffer, size_t capacity,
                                size_t *size) {
  return guard([&] {
    Batch &sessions = of(batch);
    if (!need_work(sessions.size(), buffer, capacity, size)) return INFINI_OK;
    return sessions.next({buffer, sessions.size()}, of(task)) > 0 ? INFINI_OK : INFINI_END;
  });
}

infini_status infini_batch_text(infini_batch *batch, size_t index, char *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    Batch &sessions = of(batch);
    need_array(buffer, capacity, "buffer");
    if (give_text(sessions.ready_text(index), buffer, capacity, size)) sessions.drop_text(index);
  });
}

}  // extern "C"
