#include "window.h"

#include <cstdio>

namespace desktop {
namespace {

constexpr const char *STYLE = R"(
  .tile { padding: 10px 18px; border-radius: 12px; background: alpha(currentColor, 0.06); }
  .tile .value { font-size: 1.45em; font-weight: 700; }
  .tile .name { font-size: 0.85em; opacity: 0.65; }
  .tile.ours .value { color: #1a7f5a; }
  .talk, .talk text { background: transparent; }
  .talk { font-size: 1.08em; }
  .empty .big { font-size: 1.9em; font-weight: 700; }
  .empty .hint { opacity: 0.7; }
  .empty { border: 2px dashed alpha(currentColor, 0.25); border-radius: 18px; }
  .subtitle { font-size: 0.85em; opacity: 0.65; }
  .pill { border-radius: 20px; padding: 8px 18px; }
)";

std::string bytes_text(std::int64_t bytes) {
  const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

Gtk::Widget &tile(Gtk::Label &value, const char *name, const char *tip, const char *style) {
  auto &box = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::VERTICAL, 2);
  auto &below = *Gtk::make_managed<Gtk::Label>(name);
  value.add_css_class("value");
  below.add_css_class("name");
  for (Gtk::Label *label : {&value, &below}) {
    label->set_halign(Gtk::Align::START);
    box.append(*label);
  }
  box.add_css_class("tile");
  box.add_css_class(style);
  box.set_tooltip_text(tip);
  box.set_hexpand();
  return box;
}

Gtk::Widget &page(Gtk::Label &head, Gtk::Label &words) {
  auto &box = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::VERTICAL, 8);
  head.add_css_class("big");
  words.add_css_class("hint");
  words.set_justify(Gtk::Justification::CENTER);
  auto &middle = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::VERTICAL, 8);
  middle.append(head);
  middle.append(words);
  middle.set_valign(Gtk::Align::CENTER);
  middle.set_vexpand();
  box.append(middle);
  box.add_css_class("empty");
  return box;
}

Gtk::Widget &empty_page(const char *big, const char *hint) {
  return page(*Gtk::make_managed<Gtk::Label>(big), *Gtk::make_managed<Gtk::Label>(hint));
}

bool ends_with(const std::string &text, const char *end) { return text.ends_with(end); }

}  // namespace

Window::Window() {
  lay_out();
  accept_drops();
  using Action = Gtk::FileChooser::Action;
  open_.signal_clicked().connect(
      [this] { choose("Open a model", Action::OPEN, "Open", [this](const std::string &path) { open_model(path); }); });
  add_.signal_clicked().connect([this] {
    choose("Add a text", Action::OPEN, "Read", [this](const std::string &path) { reader_.read_file(path); });
  });
  save_.signal_clicked().connect([this] {
    choose("Save the memory", Action::SAVE, "Save", [this](const std::string &path) { reader_.save(path); });
  });
  reopen_.signal_clicked().connect([this] {
    choose("Reopen a memory", Action::OPEN, "Reopen", [this](const std::string &path) { reader_.restore(path); });
  });
  cancel_.signal_clicked().connect([this] { reader_.cancel(); });
  send_.signal_clicked().connect([this] { ask(); });
  entry_.signal_activate().connect([this] { ask(); });
  arrived_.connect([this] { take_events(); });
  Glib::signal_timeout().connect(sigc::mem_fun(*this, &Window::tick), 100);
  show(Numbers{});
  show_busy(false);
  for (Gtk::Widget *widget : std::initializer_list<Gtk::Widget *>{&add_, &save_, &reopen_, &entry_, &send_})
    widget->set_sensitive(false);
}

void Window::lay_out() {
  const auto style = Gtk::CssProvider::create();
  style->load_from_data(STYLE);
  Gtk::StyleContext::add_provider_for_display(get_display(), style, GTK_STYLE_PROVIDER_PRIORITY_APPLICATION);
  set_title("infini");
  set_default_size(860, 640);
  lay_out_header();
  lay_out_talk();
  lay_out_pages();
  lay_out_work();

  auto &all = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::VERTICAL, 12);
  all.set_margin(14);
  all.append(lay_out_numbers());
  all.append(pages_);
  all.append(busy_);
  all.append(lay_out_question());
  set_child(all);

  tokens_.set_name("tokens");
  memory_.set_name("memory");
  cache_.set_name("cache");
  open_.set_name("open");
  add_.set_name("add");
  save_.set_name("save");
  reopen_.set_name("reopen");
}

void Window::lay_out_header() {
  auto &titles = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::VERTICAL);
  title_.set_text("infini");
  title_.add_css_class("title");
  subtitle_.set_text("reads texts of any length in fixed memory");
  subtitle_.add_css_class("subtitle");
  subtitle_.set_ellipsize(Pango::EllipsizeMode::END);
  subtitle_.set_name("subtitle");
  titles.append(title_);
  titles.append(subtitle_);
  titles.set_valign(Gtk::Align::CENTER);
  header_.set_title_widget(titles);
  header_.pack_start(open_);
  header_.pack_start(add_);
  header_.pack_end(reopen_);
  header_.pack_end(save_);
  set_titlebar(header_);
}

Gtk::Widget &Window::lay_out_numbers() {
  auto &tiles = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::HORIZONTAL, 10);
  tiles.set_homogeneous();
  tiles.append(tile(tokens_, "tokens read and written", "Since the stream began", "count"));
  tiles.append(
      tile(memory_, "memory of this session", "It keeps within the same bounds, however much is read", "ours"));
  tiles.append(
      tile(cache_, "what a key-value cache would hold", "For the same past, with ordinary attention", "theirs"));
  return tiles;
}

void Window::lay_out_talk() {
  talk_.set_editable(false);
  talk_.set_cursor_visible(false);
  talk_.set_wrap_mode(Gtk::WrapMode::WORD_CHAR);
  talk_.set_pixels_below_lines(4);
  talk_.add_css_class("talk");
  talk_.set_name("talk");
  const auto tags = talk_.get_buffer();
  const auto question = tags->create_tag("question");
  question->property_weight() = static_cast<int>(Pango::Weight::BOLD);
  question->property_pixels_above_lines() = 14;
  tags->create_tag("answer");
  const auto note = tags->create_tag("note");
  note->property_style() = Pango::Style::ITALIC;
  note->property_foreground() = "#77767b";
  const auto error = tags->create_tag("error");
  error->property_foreground() = "#c01c28";
  scroll_.set_child(talk_);
}

void Window::lay_out_pages() {
  pages_.add(empty_page("Open a model", "Drop a GGUF file here, or choose one with “Open model…”."), "no model");
  pages_.add(empty_page("Drop in a text",
                        "A novel, a log, a whole folder's worth of notes, one after the other:\n"
                        "it is read as it comes, and the memory stays small.\n"
                        "Or begin a story below."),
             "no text");
  for (Gtk::Label *label : {&reading_, &words_}) label->set_ellipsize(Pango::EllipsizeMode::START);
  words_.set_name("words");
  pages_.add(page(reading_, words_), "reading");
  pages_.add(scroll_, "talk");
  pages_.set_vexpand();
}

void Window::lay_out_work() {
  auto &work = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::HORIZONTAL, 12);
  doing_.set_ellipsize(Pango::EllipsizeMode::MIDDLE);
  doing_.set_name("doing");
  bar_.set_hexpand();
  bar_.set_valign(Gtk::Align::CENTER);
  cancel_.set_name("stop");
  work.append(doing_);
  work.append(bar_);
  work.append(cancel_);
  busy_.set_child(work);
}

Gtk::Widget &Window::lay_out_question() {
  auto &row = *Gtk::make_managed<Gtk::Box>(Gtk::Orientation::HORIZONTAL, 8);
  entry_.set_placeholder_text("Ask, or begin a story…");
  entry_.set_hexpand();
  entry_.set_name("entry");
  entry_.add_css_class("pill");
  send_.add_css_class("suggested-action");
  send_.add_css_class("pill");
  row.append(entry_);
  row.append(send_);
  return row;
}

void Window::accept_drops() {
  const auto target = Gtk::DropTarget::create(G_TYPE_INVALID, Gdk::DragAction::COPY);
  target->set_gtypes({GDK_TYPE_FILE_LIST, G_TYPE_STRING});
  target->signal_drop().connect([this](const Glib::ValueBase &value, double, double) { return drop(value); }, false);
  add_controller(target);
}

bool Window::drop(const Glib::ValueBase &value) {
  if (G_VALUE_HOLDS_STRING(value.gobj())) {
    const char *text = g_value_get_string(value.gobj());
    if (text && *text) reader_.read_text(text);
    return text && *text;
  }
  if (!G_VALUE_HOLDS(value.gobj(), GDK_TYPE_FILE_LIST)) return false;
  bool taken = false;
  for (auto *file = static_cast<GSList *>(g_value_get_boxed(value.gobj())); file; file = file->next) {
    char *path = g_file_get_path(G_FILE(file->data));
    if (!path) continue;  // not on this machine
    take_file(path);
    g_free(path);
    taken = true;
  }
  return taken;
}

void Window::take_file(const std::string &path) {
  if (ends_with(path, ".gguf")) open_model(path);
  else if (ends_with(path, ".memory")) reader_.restore(path);
  else reader_.read_file(path);
}

void Window::open_model(const std::string &path) { reader_.open(path); }

void Window::choose(const Glib::ustring &title, Gtk::FileChooser::Action action, const Glib::ustring &button,
                    const Chosen &chosen) {
  chooser_ = Gtk::FileChooserNative::create(title, *this, action, button, "Cancel");
  chooser_->set_modal();
  if (action == Gtk::FileChooser::Action::SAVE) chooser_->set_current_name("story.memory");
  chooser_->signal_response().connect([this, chosen](int response) {
    const auto file = response == Gtk::ResponseType::ACCEPT ? chooser_->get_file() : nullptr;
    if (file) chosen(file->get_path());
    chooser_->hide();
  });
  chooser_->show();
}

void Window::ask() {
  const Glib::ustring question = entry_.get_text();
  if (question.empty()) return;
  entry_.set_text("");
  say(Say::QUESTION, question, true);
  reader_.ask(question);
}

void Window::take_events() {
  while (const auto event = reader_.take()) take_event(*event);
}

void Window::take_event(const Event &event) {
  show(event.numbers);
  switch (event.kind) {
    case Event::OPENED:
      title_.set_text(event.text);
      chats_ = event.chats;
      subtitle_.set_text(event.notice.empty() ? "reads texts of any length in fixed memory" : event.notice);
      subtitle_.set_tooltip_text(event.notice);
      talk_.get_buffer()->set_text("");
      pages_.set_visible_child("no text");
      for (Gtk::Widget *widget : std::initializer_list<Gtk::Widget *>{&add_, &save_, &reopen_, &entry_, &send_})
        widget->set_sensitive(true);
      entry_.grab_focus();
      break;
    case Event::STARTED:
      doing_.set_text(event.text + "…");
      show_busy(true);
      break;
    case Event::READ:
      if (pages_.get_visible_child_name() == "no text") pages_.set_visible_child("reading");
      reading_.set_text(doing_.get_text());
      words_.set_text(event.text);
      break;
    case Event::TEXT: say(Say::ANSWER, event.text, false); break;
    case Event::DONE:
      show_busy(false);
      if (!event.text.empty()) say(Say::NOTE, event.text + ".", true);
      break;
    case Event::CANCELLED:
      show_busy(false);
      say(Say::NOTE, "Stopped after " + count_text(event.numbers.tokens) + " tokens.", true);
      break;
    case Event::FAILED:
      show_busy(false);
      say(Say::ERROR, event.text, true);
      break;
  }
}

// Progress, seen from outside of the call that runs.
bool Window::tick() {
  if (!busy_.get_reveal_child()) return true;
  const Progress progress = reader_.progress();
  if (progress.fraction >= 0) bar_.set_fraction(std::min(progress.fraction, 1.0));
  else bar_.pulse();
  tokens_.set_text(count_text(progress.tokens));
  return true;
}

void Window::show(const Numbers &numbers) {
  tokens_.set_text(count_text(numbers.tokens));
  memory_.set_text(bytes_text(numbers.session_bytes));
  cache_.set_text(bytes_text(numbers.cache_bytes));
}

void Window::show_busy(bool busy) {
  busy_.set_reveal_child(busy);
  if (busy) bar_.set_fraction(0);
}

void Window::say(Say how, const Glib::ustring &text, bool own_line) {
  const char *tags[] = {"question", "answer", "note", "error"};
  const auto buffer = talk_.get_buffer();
  if (own_line && buffer->size() > 0) buffer->insert(buffer->end(), "\n");
  const bool above = how == Say::QUESTION && chats_;  // else the model writes on where the question ends
  buffer->insert_with_tag(buffer->end(), above ? text + "\n" : text, tags[static_cast<int>(how)]);
  pages_.set_visible_child("talk");
  const auto end = buffer->create_mark(buffer->end());
  talk_.scroll_to(end);
  buffer->delete_mark(end);
}

}  // namespace desktop
