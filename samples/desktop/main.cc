// infini-desktop [FILE...]: one window in which a model reads what is dropped on it. FILE: a model, a text or a memory.
#include <cstdio>
#include <span>
#include <string_view>

#include "window.h"

namespace {

constexpr const char *kHelp =
    "Usage: infini-desktop [FILE...]\n\n"
    "A window in which a model reads texts of any length in fixed memory, and answers.\n"
    "FILE is a model (.gguf), a memory that was saved (.memory) or a text; they are taken in order, the model "
    "first.\n\n"
    "Example:\n"
    "  infini-desktop model.gguf novel.txt\n";

}  // namespace

int main(int argc, char **argv) {
  for (const std::string_view argument : std::span(argv, static_cast<std::size_t>(argc)).subspan(1))
    if (argument == "--help" || argument == "-h") return std::fputs(kHelp, stdout) < 0;  // which needs no display
  const auto application = Gtk::Application::create(
      "org.example.infini", Gio::Application::Flags::HANDLES_OPEN | Gio::Application::Flags::NON_UNIQUE);
  Glib::set_application_name("infini");
  desktop::Window *window = nullptr;
  const auto open_window = [&] {
    if (!window) {
      window = new desktop::Window;
      application->add_window(*window);
      window->signal_hide().connect([&] {
        delete window;
        window = nullptr;
      });
    }
    window->present();
  };
  application->signal_activate().connect(open_window);
  application->signal_open().connect([&](const Gio::Application::type_vec_files &files, const Glib::ustring &) {
    open_window();
    for (const auto &file : files) window->take_file(file->get_path());
  });
  return application->run(argc, argv);
}
