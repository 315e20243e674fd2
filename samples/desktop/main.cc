// infini-desktop [FILE...]: one window in which a model reads what is dropped on it. FILE: a model, a text or a memory.
#include "window.h"

int main(int argc, char **argv) {
  const auto application = Gtk::Application::create(
      "org.example.infini", Gio::Application::Flags::HANDLES_OPEN | Gio::Application::Flags::NON_UNIQUE);
  Glib::set_application_name("infini");
  application->set_option_context_parameter_string("[FILE…]");
  application->set_option_context_summary(
      "A window in which a model reads texts of any length in fixed memory, and answers.");
  application->set_option_context_description(
      "FILE is a model (.gguf), a memory that was saved (.memory) or a text; they are taken in order, the model "
      "first.\n"
      "Example:\n"
      "  infini-desktop model.gguf novel.txt\n");
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
