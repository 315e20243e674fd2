// infini snapshot: what a snapshot holds, whether it is whole, and how two differ, all without a model; and what
// several hold together.
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "common.h"

namespace cli {
namespace {

struct SnapshotArguments {
  std::string path, other, model, out;
  std::vector<std::string> merged, subtracted;
  OptionFlags flags;
  bool verify = false, json = false;
};

// When the file was written, in universal time.
std::string time_of(const std::string &path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) throw std::runtime_error("cannot examine " + path + ": " + std::strerror(errno));
  const std::tm date = *std::gmtime(&info.st_mtime);
  return format("%04d-%02d-%02dT%02d:%02d:%02dZ", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday, date.tm_hour,
                date.tm_min, date.tm_sec);
}

Json inspect(const std::string &path, bool verify) {
  return json_of(infini_snapshot_json, path.c_str(), verify ? INFINI_SNAPSHOT_VERIFY : 0, nullptr);
}

// The facts about a snapshot, its sections aside.
Json facts(const Json &inspected) {
  const Json &model = inspected.at("model"), &shape = inspected.at("shape"), &view = inspected.at("view");
  Json facts = {{"kind", inspected.at("kind")},
                {"name", inspected.at("name")},
                {"note", inspected.at("note")},
                {"library", inspected.at("library")},
                {"format_version", inspected.at("format_version")},
                {"model", model.at("name")},
                {"fingerprint", model.at("fingerprint")},
                {"layers", shape.at("layers")},
                {"kv_heads", shape.at("kv_heads")},
                {"update", shape.at("update")},
                {"position", view.at("position")},
                {"memory_tokens", view.at("memory_tokens")}};
  if (inspected.at("kind") != "session") return facts;
  facts["segment_position"] = view.at("position").get<int64_t>() - view.at("segment_begin").get<int64_t>();
  facts["segment"] = shape.at("segment");
  facts["compute"] = inspected.at("compute");
  facts["generated"] = inspected.at("generation").at("generated");
  facts["stop_reason"] = inspected.at("generation").at("stop_reason");
  facts["boundaries"] = Json::array();
  for (const Json &checkpoint : inspected.at("checkpoints"))
    facts["boundaries"].push_back(checkpoint.at("view").at("position"));
  return facts;
}

Json sections(const Json &inspected) {
  Json sections = Json::array();
  for (const Json &section : inspected.at("sections"))
    sections.push_back({{"section", section.at("name")},
                        {"bytes", section.at("size")},
                        {"stored_bytes", section.at("stored_size")},
                        {"encoding", section.at("encoding")},
                        {"checksum", section.at("checksum")}});
  return sections;
}

std::string text_of(const Json &value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "nothing";
  return value.is_number_integer() ? grouped(value.get<int64_t>()) : value.dump();
}

void show(const SnapshotArguments &arguments) {
  const Json inspected = inspect(arguments.path, arguments.verify);
  Json json = facts(inspected);
  json["time"] = time_of(arguments.path);
  json["bytes"] = inspected.at("size");
  json["verified"] = arguments.verify;
  if (arguments.json) {
    json["sections"] = sections(inspected);
    return print_json(json);
  }
  for (const auto &[name, value] : json.items())
    if (name != "verified") print(format("%-16s %s\n", name.c_str(), text_of(value).c_str()));
  print(format("\n%-16s %13s %13s  %-8s  %s\n", "section", "bytes", "stored", "encoding", "checksum"));
  for (const Json &section : sections(inspected))
    print(format("%-16s %13s %13s  %-8s  %s\n", section["section"].get<std::string>().c_str(),
                 grouped(section["bytes"]).c_str(), grouped(section["stored_bytes"]).c_str(),
                 section["encoding"].get<std::string>().c_str(), section["checksum"].get<std::string>().c_str()));
  if (arguments.verify) print("\nEvery checksum matches.\n");
}

// What `a` and `b` hold that the other does not, by name: {"what", "a", "b"}, null where one of them has none.
void compare(const Json &a, const Json &b, const char *prefix, Json &differences) {
  const auto one_sided = [](const Json &object, const std::string &name) {
    return object.contains(name) ? object[name] : Json();
  };
  for (const auto &[name, value] : a.items())
    if (value != one_sided(b, name))
      differences.push_back({{"what", prefix + name}, {"a", value}, {"b", one_sided(b, name)}});
  for (const auto &[name, value] : b.items())
    if (!a.contains(name)) differences.push_back({{"what", prefix + name}, {"a", Json()}, {"b", value}});
}

// Sections by name, as a text that says the size and, through the checksum, the contents.
Json contents(const Json &inspected) {
  Json contents = Json::object();
  for (const Json &section : inspected.at("sections"))
    contents[section.at("name").get<std::string>()] =
        grouped(section.at("size")) + " bytes, " + section.at("content_checksum").get<std::string>();
  return contents;
}

void diff(const SnapshotArguments &arguments) {
  // Verified, so that damage does not pass for a difference.
  const Json a = inspect(arguments.path, true), b = inspect(arguments.other, true);
  Json differences = Json::array();
  compare(facts(a), facts(b), "", differences);
  for (const char *name : {"options", "random", "random_before"}) {
    const Json left = a.value(name, Json()), right = b.value(name, Json());
    if (left.is_object() && right.is_object()) compare(left, right, "option ", differences);
    else if (left != right) differences.push_back({{"what", name}, {"a", left}, {"b", right}});
  }
  compare(contents(a), contents(b), "section ", differences);
  if (arguments.json) return print_json({{"identical", differences.empty()}, {"differences", differences}});
  if (differences.empty()) return print("The snapshots are identical.\n");
  for (const Json &difference : differences)
    print(format("%-24s %s | %s\n", difference["what"].get<std::string>().c_str(), text_of(difference["a"]).c_str(),
                 text_of(difference["b"]).c_str()));
}

// Adds memories to the first snapshot's, and takes others away.
void merge(const SnapshotArguments &arguments) {
  if (arguments.model.empty() || arguments.out.empty())
    throw std::runtime_error("--merge and --subtract need the --model of the snapshots, and --out");
  check_writable("--out", arguments.out);
  const Model model = open_model(arguments.model, arguments.flags.model_options());
  const Session session = make<Session>(infini_session_create, model.get(), nullptr);
  check(infini_session_restore(session.get(), arguments.path.c_str(), nullptr));
  for (const auto &[paths, weight] : {std::pair(&arguments.merged, 1.0), std::pair(&arguments.subtracted, -1.0)})
    for (const std::string &path : *paths) check(infini_session_merge(session.get(), path.c_str(), weight, nullptr));
  const bool alone = inspect(arguments.path, false).at("kind") == "memory";
  check(infini_session_save(session.get(), arguments.out.c_str(), alone ? INFINI_SNAPSHOT_MEMORY : 0, nullptr, nullptr,
                            nullptr));
  const Json info = session_info(session.get());
  if (arguments.json)
    return print_json(
        {{"out", arguments.out}, {"memory_tokens", info["memory_tokens"]}, {"kept_tokens", info["kept_tokens"]}});
  print(format("%s: %s tokens in the memory, %s kept\n", arguments.out.c_str(), grouped(info["memory_tokens"]).c_str(),
               grouped(info["kept_tokens"]).c_str()));
}

void snapshot(const SnapshotArguments &arguments) {
  if (!arguments.merged.empty() || !arguments.subtracted.empty()) return merge(arguments);
  try {
    if (arguments.other.empty()) show(arguments);
    else diff(arguments);
  } catch (const Json::exception &) {
    throw std::runtime_error("the header of the snapshot lacks something that every snapshot has");
  }
}

}  // namespace

void add_snapshot(CLI::App &app) {
  const auto arguments = std::make_shared<SnapshotArguments>();
  CLI::App *command = app.add_subcommand(
      "snapshot", "Shows what a snapshot holds, and whether it is whole, without a model; adds snapshots up");
  command->add_option("SNAPSHOT", arguments->path, "a file that --save wrote")->type_name("FILE")->required();
  command->add_flag("--json", arguments->json, "print JSON and nothing else");
  command->add_flag("--verify", arguments->verify, "compare every checksum; exit code 1 and a message on damage");
  command->add_option("--diff", arguments->other, "another snapshot: show what differs; both are verified")
      ->type_name("FILE");
  command->add_option("--merge", arguments->merged, "snapshots of the same model, whose memories are added")
      ->type_name("FILE...");
  command->add_option("--subtract", arguments->subtracted, "snapshots whose memories are taken away")
      ->type_name("FILE...");
  command->add_option("--model", arguments->model, "the model of all these")->type_name("FILE");
  command->add_option("--out", arguments->out, "what comes of it, of the first snapshot's kind")->type_name("FILE");
  arguments->flags.add(*command,
                       {"memory", "update", "segment", "carry", "sinks", "keep", "threads", "compute", "window_type"},
                       "The model");
  command->footer(
      "position counts all tokens of the stream, memory_tokens those that were folded into the memory, "
      "segment_position\n"
      "those of the open segment. time is when the file was last changed.\n"
      "Examples:\n"
      "  infini snapshot memory.snap\n"
      "  infini snapshot memory.snap --verify && cp memory.snap /mnt/backup\n"
      "  infini snapshot before.snap --diff after.snap --json\n"
      "  infini snapshot a.snap --merge b.snap c.snap --model model.gguf --out all.snap\n");
  command->callback([arguments] { snapshot(*arguments); });
}

}  // namespace cli
