// SPDX-License-Identifier: MIT
#include "session.h"

#include <glib-unix.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <set>
#include <utility>

#include "progress.h"
#include "source.h"

namespace da3::demo {
namespace {

// How long branches may take to complete their files when frames no longer flow.
constexpr guint drain_limit_s = 30;
constexpr gint64 quiet_limit_us = G_USEC_PER_SEC;

struct LoopUnref {
  void operator()(GMainLoop* loop) const { g_main_loop_unref(loop); }
};

bool is_within(GstObject* object, GstElement* parent) {
  return object == GST_OBJECT(parent) || gst_object_has_as_ancestor(object, GST_OBJECT(parent));
}

class Session {
 public:
  Session(const Options& options, const Input& input, const std::function<void()>& on_error)
      : options_(options),
        input_(input),
        on_error_(on_error),
        graph_(options, input),
        loop_(g_main_loop_new(nullptr, FALSE)) {}

  Outcome run() {
    const ObjectPtr<GstBus> bus(gst_element_get_bus(graph_.pipeline()));
    bus_watch_ = gst_bus_add_watch(bus.get(), on_message, this);
    const guint interrupt = g_unix_signal_add(SIGINT, on_signal, this);
    const guint terminate = g_unix_signal_add(SIGTERM, on_signal, this);
    const guint tick = g_timeout_add(progress_.interval_ms(), on_tick, this);
    estimate_total();
    if (graph_.play()) {
      g_main_loop_run(loop_.get());
    } else {
      take_start_error(bus.get());
    }
    if (drain_timeout_ != 0) g_source_remove(drain_timeout_);
    for (guint source : {interrupt, terminate, tick, bus_watch_}) g_source_remove(source);
    collect();
    return std::move(outcome_);
  }

 private:
  // After set_state() failed the reason is on the bus already.
  void take_start_error(GstBus* bus) {
    while (const MessagePtr message{gst_bus_pop(bus)}) {
      if (GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_ERROR) keep_error(message.get());
      if (GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_WARNING) take_warning(message.get());
    }
    if (!outcome_.error) outcome_.error.emplace("The pipeline does not start.");
  }

  static gboolean on_message(GstBus*, GstMessage* message, gpointer data) {
    static_cast<Session*>(data)->take_message(message);
    return G_SOURCE_CONTINUE;
  }

  void take_message(GstMessage* message) {
    switch (GST_MESSAGE_TYPE(message)) {
      case GST_MESSAGE_ERROR:
        keep_error(message);
        drain_after_error(GST_MESSAGE_SRC(message));
        break;
      case GST_MESSAGE_WARNING:
        take_warning(message);
        break;
      case GST_MESSAGE_ELEMENT:
        take_forwarded(message);
        break;
      case GST_MESSAGE_APPLICATION:  // no_frames_message
      case GST_MESSAGE_EOS:
        g_main_loop_quit(loop_.get());
        break;
      default:
        break;
    }
  }

  void take_warning(GstMessage* message) {
    GError* error = nullptr;
    gst_message_parse_warning(message, &error, nullptr);
    const ErrorPtr owned(error);
    if (std::find(outcome_.warnings.begin(), outcome_.warnings.end(), error->message) !=
        outcome_.warnings.end())
      return;
    outcome_.warnings.push_back(error->message);
    progress_.interrupt_line();
    std::fprintf(stderr, "da3-demo: warning: %s\n", error->message);
  }

  // EOS of one branch.
  void take_forwarded(GstMessage* message) {
    const GstStructure* structure = gst_message_get_structure(message);
    if (structure == nullptr || !gst_structure_has_name(structure, "GstBinForwarded")) return;
    GstMessage* inner = nullptr;
    gst_structure_get(structure, "message", GST_TYPE_MESSAGE, &inner, nullptr);
    const MessagePtr owned(inner);
    if (inner == nullptr || GST_MESSAGE_TYPE(inner) != GST_MESSAGE_EOS) return;
    for (const auto& branch : graph_.branches()) {
      if (GST_MESSAGE_SRC(inner) == GST_OBJECT(branch->bin)) finished_.insert(branch.get());
    }
    quit_if_finished();
  }

  void quit_if_finished() {
    for (const auto& branch : graph_.branches()) {
      if (!finished_.contains(branch.get()) && !failed_.contains(branch.get())) return;
    }
    g_main_loop_quit(loop_.get());
  }

  Branch* branch_of(GstObject* object) {
    for (const auto& branch : graph_.branches()) {
      if (is_within(object, branch->bin)) return branch.get();
    }
    return nullptr;
  }

  // Only the first counts: the others are its consequences. But a full disk is full for several files.
  void keep_error(GstMessage* message) {
    GError* error = nullptr;
    gchar* debug = nullptr;
    gst_message_parse_error(message, &error, &debug);
    const ErrorPtr owned_error(error);
    const TextPtr owned_debug(debug);
    const Branch* const culprit = branch_of(GST_MESSAGE_SRC(message));
    const bool full = culprit && g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT);
    if (outcome_.error) {
      if (full && !did_not_fit_.empty())
        outcome_.error = DemoError(disk_is_full(culprit->file), outcome_.error->detail());
      return;
    }
    on_error_();
    const TextPtr path(gst_object_get_path_string(GST_MESSAGE_SRC(message)));
    std::string text = error->message;
    if (full) {
      text = disk_is_full(culprit->file);
    } else if (culprit) {
      if (text.find(culprit->file) == std::string::npos) text = culprit->file + ": " + text;
    } else if (input_.kind == Input::Kind::video && is_within(GST_MESSAGE_SRC(message), graph_.source())) {
      text = describe_source_error(*error);
    }
    outcome_.error.emplace(text, std::string(path.get()) + (debug ? std::string("\n") + debug : ""));
  }

  std::string disk_is_full(const std::string& file) {
    did_not_fit_.insert("\"" + options_.outdir + "/" + file + "\"");
    std::string files;
    for (const std::string& name : did_not_fit_) files += (files.empty() ? "" : " and ") + name;
    return "The disk is full: " + files +
           " could not be completed. Free some space or choose another OUTDIR.";
  }

  std::string describe_source_error(const GError& error) const {
    const std::string name = "\"" + input_.files.front().string() + "\"";
    if (graph_.frames_in() > 0) {
      return "Reading " + name + " failed after frame " + std::to_string(graph_.frames_in()) + ": " +
             error.message;
    }
    const bool no_media = g_error_matches(&error, GST_STREAM_ERROR, GST_STREAM_ERROR_TYPE_NOT_FOUND) ||
                          g_error_matches(&error, GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE);
    if (no_media)
      return "The input " + name + " is not a video, an image or a folder of images: " + error.message;
    return "Cannot read " + name + " as a video: " + error.message;
  }

  // Completes what can be completed: frames that were decoded are still inferred when the source failed; when
  // inference or an output failed, the other files are closed properly.
  void drain_after_error(GstObject* origin) {
    if (is_within(origin, graph_.source())) {
      source_failed_ = true;
      // What was read before may still be on its way to the first place where it is counted.
      if (graph_.frames_in() == 0 && graph_.frames_fed() == 0) g_main_loop_quit(loop_.get());
      return;
    }
    graph_.stop_taking();
    Branch* branch = branch_of(origin);
    if (branch != nullptr) failed_.insert(branch);
    if (!std::exchange(branches_ended_, true)) {
      for (const auto& other : graph_.branches()) {
        if (other.get() != branch) graph_.send_eos_to(*other);
      }
      drain_timeout_ = g_timeout_add_seconds(drain_limit_s, on_drain_timeout, this);
    }
    quit_if_finished();
  }

  // A source that failed may still have frames on their way, and may end the stream by itself. When nothing
  // has come for a while and nothing is being computed, it is ended for it.
  void end_source_when_quiet() {
    const std::uint64_t frames = graph_.frames_in();
    if (frames != quiet_frames_ || frames - graph_.frames_inferred() >= options_.views) {
      quiet_frames_ = frames;
      quiet_since_ = g_get_monotonic_time();
    }
    if (!source_failed_ || g_get_monotonic_time() - quiet_since_ < quiet_limit_us) return;
    if (!std::exchange(source_ended_, true)) graph_.send_eos_to_inference();
  }

  void give_up_on_idle_source() {
    // Twice in a row: once could be the moment between two states.
    const bool idle = input_.kind == Input::Kind::video && is_idle(graph_.source());
    if (idle && std::exchange(was_idle_, idle) && !outcome_.error) {
      outcome_.error.emplace("Cannot read \"" + input_.files.front().string() +
                             "\" as a video: none of its streams can be played.");
      g_main_loop_quit(loop_.get());
    }
    was_idle_ = idle;
  }

  static gboolean on_drain_timeout(gpointer data) {
    auto* self = static_cast<Session*>(data);
    self->drain_timeout_ = 0;
    g_main_loop_quit(self->loop_.get());
    return G_SOURCE_REMOVE;
  }

  static gboolean on_signal(gpointer data) {
    auto* self = static_cast<Session*>(data);
    self->progress_.interrupt_line();
    if (std::exchange(self->outcome_.interrupted, true)) {
      std::fputs("da3-demo: stopping now\n", stderr);
      self->outcome_.cut_short = true;
      g_main_loop_quit(self->loop_.get());
    } else {
      std::fputs("da3-demo: completing the files (again to stop at once)\n", stderr);
      self->graph_.stop_taking();
      if (self->graph_.frames_in() == 0) g_main_loop_quit(self->loop_.get());
    }
    return G_SOURCE_CONTINUE;
  }

  static gboolean on_tick(gpointer data) {
    auto* self = static_cast<Session*>(data);
    const std::uint64_t frames = self->graph_.frames_inferred();
    self->end_source_when_quiet();
    if (self->graph_.frames_in() == 0) {
      self->give_up_on_idle_source();
      return G_SOURCE_CONTINUE;
    }
    self->estimate_total();
    self->progress_.update(frames, self->total_, self->graph_.seconds());
    return G_SOURCE_CONTINUE;
  }

  void estimate_total() {
    if (input_.kind == Input::Kind::images) {
      total_ = input_.files.size();
    } else if (input_.kind == Input::Kind::rendered) {
      total_ = 0;  // endless: --max-frames ends it
    } else if (gint64 duration = 0;
               gst_element_query_duration(graph_.source(), GST_FORMAT_TIME, &duration) && duration > 0) {
      total_ = std::uint64_t(std::llround(double(duration) / double(GST_SECOND) * graph_.frame_rate()));
    }
    if (options_.max_frames)
      total_ = total_ == 0 ? *options_.max_frames : std::min(total_, *options_.max_frames);
    if (total_ > 0) graph_.set_preview_target((total_ - 1) / 2);
  }

  void collect() {
    estimate_total();
    outcome_.seconds = graph_.seconds();
    graph_.shut_down();
    outcome_.frames_in = graph_.frames_in();
    for (const auto& branch : graph_.branches()) outcome_.frames[branch->file] = branch->frames();
    progress_.finish(graph_.frames_inferred(), total_, outcome_.seconds);
    outcome_.model = graph_.model_info();
    outcome_.scores = graph_.scores();
    outcome_.preview = graph_.take_preview();
  }

  const Options& options_;
  const Input& input_;
  const std::function<void()>& on_error_;
  Graph graph_;
  std::unique_ptr<GMainLoop, LoopUnref> loop_;
  Progress progress_;
  Outcome outcome_;
  std::uint64_t total_ = 0, quiet_frames_ = 0;
  gint64 quiet_since_ = g_get_monotonic_time();
  guint bus_watch_ = 0, drain_timeout_ = 0;
  bool was_idle_ = false, source_failed_ = false, source_ended_ = false, branches_ended_ = false;
  std::set<Branch*> finished_, failed_;
  std::set<std::string> did_not_fit_;  // files, in quotes
};

}  // namespace

Outcome run_session(const Options& options, const Input& input, const std::function<void()>& on_error) {
  return Session(options, input, on_error).run();
}

}  // namespace da3::demo
