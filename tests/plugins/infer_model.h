// SPDX-License-Identifier: MIT
//
// What da3infer says of its model and of its work, for the tests that ask it: the messages on its bus, the
// model in use, the statistics.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>

#include "infer_harness.h"

namespace da3::testing {

class Messages {
 public:
  explicit Messages(Infer& infer) : bus_(gst_element_get_bus(infer.element)) {}
  ~Messages() { gst_object_unref(bus_); }
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  // "load start; load continue 25 %; ..." of the progress messages so far.
  std::string progress() {
    std::string text;
    while (GstMessage* message = gst_bus_pop_filtered(bus_, kTypes)) take(text, message);
    return text;
  }
  // Waits for the end of a step.
  std::string wait_progress(const char* end) {
    std::string text;
    while (text.find(end) == std::string::npos) {
      GstMessage* message = gst_bus_timed_pop_filtered(bus_, 60 * GST_SECOND, kTypes);
      fail_unless(message != nullptr, "'%s' did not come, but: %s", end, text.c_str());
      take(text, message);
    }
    return text;
  }
  // Warnings and errors that came in between.
  int complaints() {
    progress();
    return complaints_;
  }
  // The next one but for the plan of a model.
  GstMessage* element_message() {
    GstMessage* message;
    while ((message = gst_bus_pop_filtered(bus_, GST_MESSAGE_ELEMENT)) &&
           gst_message_has_name(message, "da3-plan"))
      gst_message_unref(message);
    return message;
  }

 private:
  static constexpr auto kTypes =
      GstMessageType(GST_MESSAGE_PROGRESS | GST_MESSAGE_WARNING | GST_MESSAGE_ERROR);

  void take(std::string& text, GstMessage* message) {
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_PROGRESS) {
      add(text, message);
    } else {
      ++complaints_;
    }
    gst_message_unref(message);
  }
  static void add(std::string& text, GstMessage* message) {
    GstProgressType type;
    gchar *code = nullptr, *words = nullptr;
    gst_message_parse_progress(message, &type, &code, &words);
    const char* types[] = {"start", "continue", "complete", "canceled", "error"};
    text += std::string(text.empty() ? "" : "; ") + code + " " + types[type] + " " + words;
    g_free(code);
    g_free(words);
  }
  GstBus* bus_;
  int complaints_ = 0;
};

inline std::string text_property(Infer& infer, const char* name) {
  gchar* text = nullptr;
  g_object_get(infer.element, name, &text, nullptr);
  const std::string copy = text ? text : "";
  g_free(text);
  return copy;
}

inline void set_model(Infer& infer, const char* model) {
  g_object_set(infer.element, "model", model, nullptr);
}

// Waits until active-model is `name`.
class ActiveModel {
 public:
  explicit ActiveModel(Infer& infer) : infer_(infer), name_(text_property(infer, "active-model")) {
    handler_ = g_signal_connect(infer.element, "notify::active-model", G_CALLBACK(changed), this);
  }
  ~ActiveModel() { g_signal_handler_disconnect(infer_.element, handler_); }
  void wait(const char* name) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return name_ == name; });
  }

 private:
  static void changed(GstElement* element, GParamSpec*, gpointer user) {
    auto* self = static_cast<ActiveModel*>(user);
    gchar* name = nullptr;
    g_object_get(element, "active-model", &name, nullptr);
    {
      const std::lock_guard lock(self->mutex_);
      self->name_ = name ? name : "";
    }
    self->changed_.notify_all();
    g_free(name);
  }
  Infer& infer_;
  gulong handler_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string name_;
};

inline std::string model_of(GstBuffer* buffer) {
  const GstDa3View view = view_of(buffer);
  gst_buffer_unref(buffer);
  return view.model;
}

struct Stats {
  explicit Stats(Infer& infer) { g_object_get(infer.element, "stats", &all, nullptr); }
  ~Stats() { gst_structure_free(all); }
  const GstStructure* part(const char* name) const { return part(all, name); }
  static const GstStructure* part(const GstStructure* of, const char* name) {
    const GValue* value = gst_structure_get_value(of, name);
    fail_unless(value != nullptr && GST_VALUE_HOLDS_STRUCTURE(value), "the statistics have no %s", name);
    return gst_value_get_structure(value);
  }
  static guint64 number(const GstStructure* s, const char* field) {
    guint64 value = 0;
    return gst_structure_get_uint64(s, field, &value) ? value : G_MAXUINT64;
  }
  GstStructure* all = nullptr;
};

}  // namespace da3::testing
