// One window: a model, what it read and wrote, and what that costs in memory.
#pragma once

#include "reader.h"

#include <gtkmm.h>

#include <string>

namespace desktop {

class Window : public Gtk::ApplicationWindow {
 public:
  Window();

  // What the buttons, the drops and the command line do.
  void open_model(const std::string &path);
  void take_file(const std::string &path);  // a model, a saved memory or a text, as its name says

 private:
  using Chosen = std::function<void(const std::string &path)>;
  enum class Say { QUESTION, ANSWER, NOTE, ERROR };

  void lay_out();
  void lay_out_header();
  void lay_out_talk();
  void lay_out_pages();
  void lay_out_work();
  Gtk::Widget &lay_out_numbers();
  Gtk::Widget &lay_out_question();
  void accept_drops();
  bool drop(const Glib::ValueBase &value);
  void choose(const Glib::ustring &title, Gtk::FileChooser::Action action, const Glib::ustring &button,
              const Chosen &chosen);
  void ask();
  void take_events();
  void take_event(const Event &event);
  bool tick();
  void show(const Numbers &numbers);
  void show_busy(bool busy);
  void say(Say how, const Glib::ustring &text, bool own_line);

  Gtk::HeaderBar header_;
  Gtk::Label title_, subtitle_;
  Gtk::Button open_{"Open model…"}, add_{"Add text…"}, save_{"Save memory…"}, reopen_{"Reopen…"};
  Gtk::Label tokens_, memory_, cache_;
  Gtk::Stack pages_;
  Gtk::Label reading_, words_;  // while the first text is read
  Gtk::ScrolledWindow scroll_;
  Gtk::TextView talk_;
  Gtk::Revealer busy_;
  Gtk::Label doing_;
  Gtk::ProgressBar bar_;
  Gtk::Button cancel_{"Stop"};
  Gtk::Entry entry_;
  Gtk::Button send_{"Ask"};
  bool chats_ = false;
  Glib::RefPtr<Gtk::FileChooserNative> chooser_;  // while it is open

  Glib::Dispatcher arrived_;
  Reader reader_{[this] { arrived_.emit(); }};  // ends before what it wakes
};

}  // namespace desktop
