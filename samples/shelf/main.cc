// shelf: a notebook of memories. It reads documents into named memories, which it keeps in one SQLite database, and
// asks questions of them. It is written as a model for programs that embed the library: shelf.h holds the idea.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "document.h"
#include "notice.h"

namespace shelf {
namespace {

using namespace cli;

struct Arguments {
  std::string shelf = "shelf.db", model, name, question, to, file, note;
  std::vector<std::string> files;
  bool again = false, remember = false, memory_only = false;
  int64_t max_tokens = 100, threads = 0, seed = 0;
  double temperature = 0;
};

void print(const std::string &text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw std::runtime_error(std::string("cannot write to standard output: ") + std::strerror(errno));
}

// --- models and sessions

struct Opened {
  std::string path;
  Model model;
  std::string fact(const char *name) const { return all_of(infini_model_info, model.get(), name); }
};

// Says that the model has no memory, where it has none.
void tell_of_no_memory(const Opened &opened) {
  if (opened.fact("trained_memory") == "false")
    std::fprintf(stderr, "%s\n", no_memory_notice(opened.path, std::stoll(opened.fact("window"))).c_str());
}

// The model that --model names, or the one that the memory was last used with.
Opened open_model(const Arguments &arguments, const std::optional<Memory> &memory) {
  Opened opened;
  opened.path = !arguments.model.empty() ? std::filesystem::absolute(arguments.model).string()
                : memory                 ? memory->model_path
                                         : "";
  if (opened.path.empty())
    throw std::runtime_error("which model? Name its file with --model; the memory keeps it in mind for the next time");
  const Options options = make<Options>(infini_options_create);
  check(infini_options_set_int(options.get(), "threads", arguments.threads));
  opened.model = make<Model>(infini_model_open, opened.path.c_str(), options.get(), nullptr);
  if (memory && opened.fact("fingerprint") != memory->fingerprint)
    throw std::runtime_error("'" + memory->name + "' is a memory of model '" + memory->model + "' (" +
                             memory->fingerprint + "), but " + opened.path + " is '" + opened.fact("name") + "' (" +
                             opened.fact("fingerprint") + "); name the right one with --model");
  return opened;
}

Session new_session(const Opened &opened, const Arguments &arguments) {
  const Options options = make<Options>(infini_options_create);
  // Every option of sampling is set, so that none comes from a snapshot.
  check(infini_options_set_int(options.get(), "max_tokens", arguments.max_tokens));
  check(infini_options_set_int(options.get(), "threads", arguments.threads));
  check(infini_options_set_double(options.get(), "temperature", arguments.temperature));
  check(infini_options_set_int(options.get(), "seed", arguments.seed));
  check(infini_options_set_string(options.get(), "unknown_text", "skip"));
  return make<Session>(infini_session_create, opened.model.get(), options.get());
}

std::string changed_meanwhile(const std::string &name) {
  return "'" + name + "' was changed by another process meanwhile";
}

// --- commands

// Reads one document on top of what the memory is now, and keeps the result.
void read_document(const Arguments &arguments, Shelf &shelf, const Opened &opened, const std::string &file) {
  for (int attempt = 0; attempt < 10; ++attempt) {
    if (attempt > 0) print(changed_meanwhile(arguments.name) + "; reading " + file + " again, after that change\n");
    Memory memory = shelf.find(arguments.name).value_or(Memory());
    if (memory.id != 0 && !arguments.again) {
      const std::string hash = hash_of(file);
      const auto documents = shelf.documents(memory);
      const auto known =
          std::find_if(documents.begin(), documents.end(), [&](const Document &d) { return d.hash == hash; });
      if (known != documents.end())
        return print(file + ": was read already, on " + known->read + " (--again reads it once more)\n");
    }
    const Session session = new_session(opened, arguments);
    if (memory.id != 0 && !shelf.restore(memory, session.get())) continue;
    print(file + ": ");
    const Document document = feed(session.get(), file);
    print(std::to_string(document.tokens) + " tokens\n");

    memory.name = arguments.name;
    memory.model = opened.fact("name");
    memory.fingerprint = opened.fact("fingerprint");
    memory.model_path = opened.path;
    memory.tokens = value_of<int64_t>(infini_session_position, session.get());
    const auto state = save(session.get());
    if (memory.id != 0 ? shelf.update(memory, state, {document}) : shelf.add(memory, state, {document})) return;
  }
  throw std::runtime_error(changed_meanwhile(arguments.name) + " ten times; run it again when the others are done");
}

void read(const Arguments &arguments) {
  Shelf shelf(arguments.shelf, Database::Open::CREATE);
  const Opened opened = open_model(arguments, shelf.find(arguments.name));
  tell_of_no_memory(opened);
  for (const std::string &file : arguments.files) read_document(arguments, shelf, opened, file);
}

int print_piece(void *, const char *text, size_t text_size) {
  return std::fwrite(text, 1, text_size, stdout) != text_size || std::fflush(stdout) != 0;
}

// Feeds the question, as a message where the model knows those, and prints what the model writes.
void answer(Shelf &shelf, infini_session *session, const std::string &question) {
  const std::string messages = shelf.chat_messages(question);
  const infini_status status = infini_session_chat(session, messages.c_str(), nullptr);
  if (status == INFINI_UNSUPPORTED)  // no template: the model writes on
    check(infini_session_feed_text(session, question.data(), question.size(), nullptr));
  else check(status);
  check(infini_session_generate(session, print_piece, nullptr, nullptr));
  print("\n");
}

void ask(const Arguments &arguments) {
  Shelf shelf(arguments.shelf, Database::Open::EXISTING);
  Memory memory = shelf.get(arguments.name);
  const Opened opened = open_model(arguments, memory);
  const Session session = new_session(opened, arguments);
  if (!shelf.restore(memory, session.get())) throw std::runtime_error(changed_meanwhile(memory.name) + "; ask again");
  const auto one = [&](const std::string &question) {
    if (arguments.remember) return answer(shelf, session.get(), question);
    const Session fork = make<Session>(infini_session_fork, session.get());  // goes on alone: the memory stays as it is
    answer(shelf, fork.get(), question);
  };
  if (!arguments.question.empty()) one(arguments.question);
  else
    for (std::string line; std::getline(std::cin, line);) one(line);
  if (!arguments.remember) return;
  memory.tokens = value_of<int64_t>(infini_session_position, session.get());
  memory.model_path = opened.path;
  if (!shelf.update(memory, save(session.get()), {}))
    throw std::runtime_error(changed_meanwhile(memory.name) + ", so that what was asked is not remembered; ask again");
}

void list(const Arguments &arguments) {
  Shelf shelf(arguments.shelf, Database::Open::EXISTING);
  for (const Memory &memory : shelf.list())
    print(memory.name + "\t" + std::to_string(memory.tokens) + " tokens\t" +
          std::to_string(shelf.documents(memory).size()) + " documents\t" + memory.model + "\t" + memory.changed +
          (memory.note.empty() ? "" : "\t" + memory.note) + "\n");
}

void show(const Arguments &arguments) {
  Shelf shelf(arguments.shelf, Database::Open::EXISTING);
  const Memory memory = shelf.get(arguments.name);
  print("name         " + memory.name + "\nnote         " + memory.note + "\ntokens       " +
        std::to_string(memory.tokens) + "\nmodel        " + memory.model + "\nfingerprint  " + memory.fingerprint +
        "\nmodel file   " + memory.model_path + "\ncreated      " + memory.created + "\nchanged      " +
        memory.changed + "\n");
  for (const Document &document : shelf.documents(memory))
    print("\ndocument     " + document.name + "\n  read       " + document.read + "\n  size       " +
          std::to_string(document.size) + " bytes, " + std::to_string(document.tokens) + " tokens\n  hash       " +
          (document.hash.empty() ? "not known" : document.hash) + "\n");
}

void export_memory(const Arguments &arguments) {
  Shelf shelf(arguments.shelf, Database::Open::EXISTING);
  const Memory memory = shelf.get(arguments.name);
  const Opened opened = open_model(arguments, memory);
  const Session session = new_session(opened, arguments);
  if (!shelf.restore(memory, session.get()))
    throw std::runtime_error(changed_meanwhile(memory.name) + "; export it again");
  check(infini_session_save(session.get(), arguments.file.c_str(), arguments.memory_only ? INFINI_SNAPSHOT_MEMORY : 0,
                            memory.name.c_str(), memory.note.c_str(), nullptr));
}

void import_memory(const Arguments &arguments) {
  Shelf shelf(arguments.shelf, Database::Open::CREATE);
  std::ifstream file(arguments.file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) throw std::runtime_error("cannot read " + arguments.file + ": " + std::strerror(errno));
  const auto state = std::as_bytes(std::span(bytes));
  Memory memory = shelf.describe(state);
  if (!arguments.name.empty()) memory.name = arguments.name;
  if (memory.name.empty()) throw std::runtime_error(arguments.file + " has no name of its own; give one with --name");
  if (!arguments.model.empty()) memory.model_path = std::filesystem::absolute(arguments.model);
  if (!shelf.add(memory, state, {}))
    throw std::runtime_error("a memory is named '" + memory.name +
                             "' already; give another name with --name, or remove that one first");
}

void check_shelf(const Arguments &arguments) {
  Shelf shelf(arguments.shelf, Database::Open::EXISTING);
  const auto faults = shelf.check();
  for (const std::string &fault : faults) std::fprintf(stderr, "%s\n", fault.c_str());
  if (!faults.empty())
    throw std::runtime_error(
        "the shelf is damaged; put back a backup, or remove the memories that are named above and read their documents "
        "again");
  print("The shelf is whole.\n");
}

// --- the command line

void add_commands(CLI::App &app, Arguments &arguments) {
  const auto command = [&](const char *name, const char *help, void (*run)(const Arguments &)) {
    CLI::App *added = app.add_subcommand(name, help);
    added->callback([&arguments, run] { run(arguments); });
    return added;
  };
  const auto takes_name = [&](CLI::App *to) { to->add_option("NAME", arguments.name, "the memory")->required(); };
  const auto takes_model = [&](CLI::App *to) {
    to->add_option("--model", arguments.model,
                   "the model, a GGUF file; else the one that the memory was last used with");
    to->add_option("--threads", arguments.threads, "threads; 0: one a physical core");
  };

  CLI::App *to = command("read", "Reads documents into a memory, a new one or one that is there", read);
  takes_name(to);
  to->add_option("FILE", arguments.files, "text files, of any length; each is kept as soon as it is read")->required();
  to->add_flag("--again", arguments.again, "read a document that the memory has read before once more");
  takes_model(to);
  to->footer(
      "It may be stopped or killed at any time: the memory then holds the documents that were read whole.\n"
      "Examples:\n"
      "  shelf read novels emma.txt persuasion.txt --model model.gguf\n"
      "  shelf read novels sanditon.txt\n");

  to = command("ask", "Asks a memory; asking does not change it", ask);
  takes_name(to);
  to->add_option("QUESTION", arguments.question, "left out: every line of standard input is one");
  to->add_flag("--remember", arguments.remember, "keep question and answer in the memory");
  to->add_option("--max-tokens", arguments.max_tokens, "the longest answer")->capture_default_str();
  to->add_option("--temperature", arguments.temperature, "0: always the likeliest token")->capture_default_str();
  to->add_option("--seed", arguments.seed, "of the random numbers, with a temperature")->capture_default_str();
  takes_model(to);
  to->footer("Examples:\n  shelf ask novels 'Who is Mr. Knightley?'\n  shelf ask novels --remember < questions.txt\n");

  command("list", "Lists the memories: name, tokens, documents, model, last change, note", list)
      ->footer("Example:\n  shelf list\n");
  to = command("show", "Shows a memory and the documents that it has read", show);
  takes_name(to);
  to->footer("Example:\n  shelf show novels\n");

  to = command("rename", "Gives a memory another name",
               [](const Arguments &a) { Shelf(a.shelf, Database::Open::EXISTING).rename(a.name, a.to); });
  takes_name(to);
  to->add_option("TO", arguments.to, "the new name")->required();
  to->footer("Example:\n  shelf rename novels austen\n");
  to = command("note", "Writes a note beside a memory",
               [](const Arguments &a) { Shelf(a.shelf, Database::Open::EXISTING).set_note(a.name, a.note); });
  takes_name(to);
  to->add_option("TEXT", arguments.note, "the note; it takes the place of the former one")->required();
  to->footer("Example:\n  shelf note novels 'all six, in order'\n");
  to = command("remove", "Removes a memory for good",
               [](const Arguments &a) { Shelf(a.shelf, Database::Open::EXISTING).remove(a.name); });
  takes_name(to);
  to->footer("Example:\n  shelf remove novels\n");

  to = command("export", "Writes a memory as a snapshot, for other programs and other shelves", export_memory);
  takes_name(to);
  to->add_option("FILE", arguments.file, "the snapshot; it is replaced as a whole if it is there")->required();
  to->add_flag("--memory-only", arguments.memory_only, "leave out the text that the model sees word for word");
  takes_model(to);
  to->footer(
      "A snapshot carries the name and the note, not the list of documents.\nExample:\n  shelf export novels "
      "novels.snap\n");
  to = command("import", "Puts a snapshot on the shelf", import_memory);
  to->add_option("FILE", arguments.file, "a snapshot: of 'shelf export', 'infini feed --save', or another program")
      ->required();
  to->add_option("--name", arguments.name, "the memory's name; else the one in the snapshot");
  to->add_option("--model", arguments.model, "its model, to be kept in mind");
  to->footer("Example:\n  shelf import novels.snap --name austen\n");
  command("check", "Checks the database and every snapshot in it", check_shelf)->footer("Example:\n  shelf check\n");
}

int run(int argc, char **argv) {
  CLI::App app("Keeps what a model has read in named memories, and asks them.", "shelf");
  Arguments arguments;
  app.add_option("--shelf", arguments.shelf, "the database that holds the memories")
      ->envname("INFINI_SHELF")
      ->capture_default_str();
  app.require_subcommand(1);
  app.fallthrough();  // --shelf may stand anywhere
  app.footer(
      "Examples:\n"
      "  shelf read novels emma.txt --model model.gguf\n"
      "  shelf ask novels 'Who is Mr. Knightley?'\n"
      "  shelf COMMAND --help\n");
  try {
    add_commands(app, arguments);
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError &error) { return app.exit(error) == 0 ? 0 : 1; } catch (const std::exception &error) {
    std::fprintf(stderr, "shelf: %s\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace shelf

int main(int argc, char **argv) { return shelf::run(argc, argv); }
