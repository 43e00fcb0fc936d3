// SPDX-License-Identifier: MIT
//
// The border between C++ and GObject: no exception crosses it. Every vfunc and thread entry runs its body in guard(),
// which turns an exception into one bus error (domain, code, a sentence for the user, details for the developer).
#pragma once

#include <gst/gst.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace da3::plugin {

// An error with the bus domain and code it should be posted under.
class ElementError : public std::runtime_error {
 public:
  ElementError(GQuark domain, gint code, const std::string& message, std::string detail = {})
      : std::runtime_error(message), domain_(domain), code_(code), detail_(std::move(detail)) {}
  GQuark domain() const { return domain_; }
  gint code() const { return code_; }
  const std::string& detail() const { return detail_; }

 private:
  GQuark domain_;
  gint code_;
  std::string detail_;
};

// Posts `error` on the bus of `element`: ElementError and EngineError under their own domain and code, bad_alloc as
// RESOURCE/NO_SPACE_LEFT, anything else as LIBRARY/FAILED. Never throws. Call without locks held.
void post_error(GstElement* element, const std::exception_ptr& error) noexcept;

// The same as a warning.
void post_warning(GstElement* element, GQuark domain, gint code, const std::string& message,
                  const std::string& detail = {}) noexcept;

// Runs `body`; on an exception posts it and returns `fallback`.
template <typename Result, typename Body>
Result guard(gpointer element, Result fallback, Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    post_error(GST_ELEMENT_CAST(element), std::current_exception());
    return fallback;
  }
}

}  // namespace da3::plugin
