// The window of the desktop sample, used as a person would: its buttons pressed, files and texts dropped on it, files
// chosen. Under Xvfb. The window's pictures go to the folder INFINI_SCREENSHOTS.
#define DOCTEST_CONFIG_IMPLEMENT
#include "../../samples/desktop/window.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

namespace {

using Clock = std::chrono::steady_clock;
const std::string MODEL = INFINI_SOURCE_DIR "/samples/models/stories260K.gguf";
const std::string NOVEL = INFINI_SOURCE_DIR "/samples/texts/wuthering_heights.txt";

double slowest = 0;  // seconds that the window was deaf at most

// Lets the window live until something holds.
template <class Condition>
bool until(Condition condition, double seconds = 60) {
  const auto begin = Clock::now();
  while (!condition()) {
    if (std::chrono::duration<double>(Clock::now() - begin).count() > seconds) return false;
    const auto turn = Clock::now();
    for (int i = 0; i < 100 && g_main_context_iteration(nullptr, false); ++i) continue;
    slowest = std::max(slowest, std::chrono::duration<double>(Clock::now() - turn).count());
    g_usleep(1000);
  }
  return true;
}

void pause(double seconds) {
  until([] { return false; }, seconds);
}

// Moves the pointer, presses and lets go, as a hand would; the window lives meanwhile.
void hand(const std::string &what) {
  const std::string command = "xdotool " + what;
  REQUIRE(g_spawn_command_line_async(command.c_str(), nullptr));
  pause(0.25);
}

Gtk::Widget *find(Gtk::Widget &widget, const std::string &name) {
  if (widget.get_name().raw() == name) return &widget;
  for (auto *child = widget.get_first_child(); child; child = child->get_next_sibling()) {
    if (auto *found = find(*child, name)) return found;
  }
  return nullptr;
}

// A window, its widgets by name, and what a person does with them.
struct Desk {
  desktop::Window window;

  Desk() {
    window.present();
    until([&] { return window.get_mapped() && window.get_width() > 0; });
  }

  template <class Widget>
  Widget &get(const std::string &name) {
    auto *widget = dynamic_cast<Widget *>(find(window, name));
    REQUIRE_MESSAGE(widget, name);
    return *widget;
  }
  std::string talk() { return get<Gtk::TextView>("talk").get_buffer()->get_text(); }
  bool says(const std::string &words) { return talk().find(words) != std::string::npos; }
  std::int64_t tokens() {
    std::string text = get<Gtk::Label>("tokens").get_text();
    std::erase(text, ',');
    return std::stoll(text);
  }
  double mebibytes(const std::string &name) {
    const std::string text = get<Gtk::Label>(name).get_text();
    REQUIRE_MESSAGE(text.ends_with(" MiB"), text);
    return std::stod(text);
  }
  bool busy() { return get<Gtk::Button>("stop").get_child_visible() && get<Gtk::Button>("stop").get_mapped(); }
  bool ready() { return get<Gtk::Entry>("entry").get_sensitive(); }

  void press(const std::string &name) { g_signal_emit_by_name(get<Gtk::Button>(name).gobj(), "clicked"); }

  void ask(const std::string &question) {
    get<Gtk::Entry>("entry").set_text(question);
    g_signal_emit_by_name(get<Gtk::Entry>("entry").gobj(), "activate");
  }

  // Drops a value on the window, through the target that a real drag would reach.
  bool drop(const GValue *value) {
    GListModel *controllers = gtk_widget_observe_controllers(GTK_WIDGET(window.gobj()));
    gboolean taken = FALSE;
    for (guint i = 0; i < g_list_model_get_n_items(controllers); ++i) {
      auto *controller = static_cast<GObject *>(g_list_model_get_item(controllers, i));
      if (GTK_IS_DROP_TARGET(controller)) g_signal_emit_by_name(controller, "drop", value, 10.0, 10.0, &taken);
      g_object_unref(controller);
    }
    g_object_unref(controllers);
    return taken;
  }
  bool drop_file(const std::string &path) {
    GFile *file = g_file_new_for_path(path.c_str());
    GSList list{file, nullptr};
    GValue value = G_VALUE_INIT;
    g_value_init(&value, GDK_TYPE_FILE_LIST);
    g_value_set_boxed(&value, &list);
    const bool taken = drop(&value);
    g_value_unset(&value);
    g_object_unref(file);
    return taken;
  }
  bool drop_text(const char *text) {
    GValue value = G_VALUE_INIT;
    g_value_init(&value, G_TYPE_STRING);
    g_value_set_string(&value, text);
    const bool taken = drop(&value);
    g_value_unset(&value);
    return taken;
  }

  // Presses a button that opens a file chooser, and chooses.
  void choose(const std::string &button, const std::string &path) {
    press(button);
    GtkWidget *dialog = nullptr;
    REQUIRE(until([&] {
      GList *windows = gtk_window_list_toplevels();
      for (GList *at = windows; at; at = at->next) {
        if (GTK_IS_FILE_CHOOSER(at->data) && gtk_widget_get_mapped(GTK_WIDGET(at->data))) dialog = GTK_WIDGET(at->data);
      }
      g_list_free(windows);
      return dialog != nullptr;
    }));
    GFile *file = g_file_new_for_path(path.c_str());
    if (gtk_file_chooser_get_action(GTK_FILE_CHOOSER(dialog)) == GTK_FILE_CHOOSER_ACTION_SAVE) {
      GFile *folder = g_file_get_parent(file);
      char *name = g_file_get_basename(file);
      pause(1);  // the chooser first goes to a folder of its own
      gtk_file_chooser_set_current_folder(GTK_FILE_CHOOSER(dialog), folder, nullptr);
      gtk_file_chooser_set_current_name(GTK_FILE_CHOOSER(dialog), name);
      g_free(name);
      g_object_unref(folder);
    } else {
      gtk_file_chooser_set_file(GTK_FILE_CHOOSER(dialog), file, nullptr);
    }
    REQUIRE(until([&] {  // the folder is listed in the background
      GFile *chosen = gtk_file_chooser_get_file(GTK_FILE_CHOOSER(dialog));
      const bool equal = chosen && g_file_equal(chosen, file);
      if (chosen) g_object_unref(chosen);
      return equal;
    }));
    gtk_dialog_response(GTK_DIALOG(dialog), GTK_RESPONSE_ACCEPT);
    g_object_unref(file);
  }

  // The window's picture, in which there must be something to see.
  void picture(const std::string &name) {
    pause(0.5);
    GdkPaintable *paintable = gtk_widget_paintable_new(GTK_WIDGET(window.gobj()));
    GskRenderNode *node = nullptr;
    REQUIRE(until([&] {  // it has been drawn
      GtkSnapshot *snapshot = gtk_snapshot_new();
      gdk_paintable_snapshot(paintable, snapshot, window.get_width(), window.get_height());
      node = gtk_snapshot_free_to_node(snapshot);
      return node != nullptr;
    }));
    GdkTexture *texture =
        gsk_renderer_render_texture(gtk_native_get_renderer(GTK_NATIVE(window.gobj())), node, nullptr);
    const int width = gdk_texture_get_width(texture), height = gdk_texture_get_height(texture);
    std::vector<std::uint32_t> pixels(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
    gdk_texture_download(texture, reinterpret_cast<guchar *>(pixels.data()), static_cast<gsize>(width) * 4);
    CHECK(width >= 800);
    CHECK(std::set(pixels.begin(), pixels.end()).size() > 100);  // text has many shades
    if (const char *folder = std::getenv("INFINI_SCREENSHOTS")) {
      CHECK(gdk_texture_save_to_png(texture, (std::string(folder) + "/" + name + ".png").c_str()));
    }
    g_object_unref(texture);
    gsk_render_node_unref(node);
    g_object_unref(paintable);
  }
};

}  // namespace

TEST_CASE("a model is opened, a text dropped in, a question asked, the memory kept") {
  const auto folder = std::filesystem::temp_directory_path() / ("infini-desktop-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  Desk desk;
  CHECK_FALSE(desk.ready());
  desk.picture("desktop-empty");
  desk.choose("open", MODEL);
  REQUIRE(until([&] { return desk.ready(); }));
  desk.picture("desktop-model");
  const std::string notice = desk.get<Gtk::Label>("subtitle").get_text();
  CHECK(notice.starts_with("stories260K.gguf has no trained memory: it sees only its window of 512 tokens."));

  slowest = 0;
  CHECK(desk.drop_file(NOVEL));
  REQUIRE(until([&] { return desk.tokens() > 50000 && desk.busy(); }));
  const double early = desk.mebibytes("memory");
  desk.picture("desktop-reading");
  // The first page moves with what is read.
  const std::string words = desk.get<Gtk::Label>("words").get_text();
  CHECK(desk.get<Gtk::Label>("words").get_mapped());
  CHECK(words.size() > 20);
  CHECK(until([&] { return desk.get<Gtk::Label>("words").get_text().raw() != words; }));
  CHECK(desk.busy());  // it still reads, and the window lives
  REQUIRE(until([&] { return desk.says("Read wuthering_heights.txt"); }, 200));
  CHECK(slowest < 1);
  CHECK(desk.mebibytes("memory") < early * 1.5);  // the open segment comes and goes
  CHECK(desk.mebibytes("cache") > early * 20);
  const std::int64_t read = desk.tokens();
  CHECK(read > 100000);

  CHECK(desk.drop_text("And then 😀 Lily came home."));
  REQUIRE(until([&] { return desk.says("Read a text of"); }));
  CHECK(desk.tokens() > read);
  const std::int64_t saved = desk.tokens();
  desk.choose("save", folder / "novel.memory");
  REQUIRE(until([&] { return desk.says("Saved the memory as novel.memory"); }));
  CHECK(std::filesystem::file_size(folder / "novel.memory") > 1000);

  desk.ask("Once upon a time");
  REQUIRE(until([&] { return desk.tokens() >= saved + 100 && !desk.busy(); }));
  const std::string talk = desk.talk();
  CHECK(talk.substr(talk.find("Once upon a time")).size() > 100);
  desk.picture("desktop");

  desk.choose("reopen", folder / "novel.memory");
  REQUIRE(until([&] { return desk.says("Reopened the memory novel.memory"); }));
  CHECK(desk.tokens() == saved);

  // A text that is none, a memory that is none, a model that is none: said, and nothing is lost.
  std::ofstream(folder / "bad.txt") << "abc\xff";
  std::ofstream(folder / "bad.memory") << "no memory";
  std::ofstream(folder / "bad.gguf") << "no model";
  std::string before = desk.talk();
  for (const char *bad : {"bad.txt", "bad.memory", "bad.gguf", "missing.txt"}) {
    CHECK(desk.drop_file(folder / bad));
    REQUIRE(until([&] { return desk.talk() != before && !desk.busy(); }));
    before = desk.talk();
    CHECK(desk.tokens() == saved);
  }
  desk.choose("add", folder / "bad.txt");
  REQUIRE(until([&] { return desk.talk() != before; }));
  std::filesystem::remove_all(folder);
}

TEST_CASE("stop stops what runs, and the session goes on from there") {
  Desk desk;
  desk.window.take_file(MODEL);
  REQUIRE(until([&] { return desk.ready(); }));
  CHECK(desk.drop_file(NOVEL));
  CHECK(desk.drop_file(NOVEL));  // waits behind it
  REQUIRE(until([&] { return desk.tokens() > 1000 && desk.busy(); }));
  desk.press("stop");
  REQUIRE(until([&] { return desk.says("Stopped after"); }));
  pause(0.3);
  CHECK_FALSE(desk.busy());
  const std::int64_t tokens = desk.tokens();
  CHECK(tokens > 1000);
  CHECK(tokens < 200000);
  desk.ask("Lily");
  REQUIRE(until([&] { return desk.tokens() > tokens + 20; }));
}

TEST_CASE("the window closes while the model reads") {
  const auto begin = Clock::now();
  {
    Desk desk;
    desk.window.take_file(MODEL);
    desk.window.take_file(NOVEL);
    REQUIRE(until([&] { return desk.tokens() > 1000; }));
  }
  CHECK(std::chrono::duration<double>(Clock::now() - begin).count() < 20);
}

TEST_CASE("a file is dragged from another window") {
  if (char *tool = g_find_program_in_path("xdotool")) {
    g_free(tool);
  } else {
    std::puts("skipped: a file dragged from another window, because there is no `xdotool` on the path");
    return;
  }
  Desk desk;
  desk.window.take_file(MODEL);
  REQUIRE(until([&] { return desk.ready(); }));
  Gtk::Window shelf;
  Gtk::Label label("a file");
  GFile *file = g_file_new_for_path(NOVEL.c_str());
  GSList list{file, nullptr};
  GtkDragSource *source = gtk_drag_source_new();
  GdkContentProvider *content = gdk_content_provider_new_typed(GDK_TYPE_FILE_LIST, &list);
  gtk_drag_source_set_content(source, content);
  gtk_widget_add_controller(GTK_WIDGET(label.gobj()), GTK_EVENT_CONTROLLER(source));
  label.set_size_request(200, 200);
  shelf.set_child(label);
  shelf.set_decorated(false);
  shelf.set_title("shelf");
  shelf.present();
  REQUIRE(until([&] { return shelf.get_mapped() && shelf.get_width() > 0; }));
  hand("search --name ^shelf$ windowmove %@ 1000 100");
  hand("mousemove 1100 200");
  hand("mousedown 1");
  for (int x = 1080; x >= 400; x -= 60) hand("mousemove " + std::to_string(x) + " 300");
  hand("mouseup 1");
  CHECK(until([&] { return desk.tokens() > 1000; }));
  g_object_unref(content);
  g_object_unref(file);
}

int main(int argc, char **argv) {
  g_set_prgname("desktop_test");  // as an application that is run would; its choosers note who used a file
  if (!gtk_init_check()) {
    std::puts("skipped: no display");
    return 77;
  }
  Glib::set_application_name("infini");
  const auto application = Gtk::Application::create("org.example.infini.test", Gio::Application::Flags::NON_UNIQUE);
  return doctest::Context(argc, argv).run();
}
