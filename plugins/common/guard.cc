// SPDX-License-Identifier: MIT
#include "common/guard.h"

#include <new>

#include "engine/api/engine_error.h"

namespace da3::plugin {
namespace {

struct BusCode {
  GQuark domain;
  gint code;
};

BusCode bus_code(Da3ErrorCode code) {
  switch (code) {
    case DA3_ERROR_SETTINGS:
    case DA3_ERROR_UNSUPPORTED:
      return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS};
    case DA3_ERROR_NOT_FOUND:
    case DA3_ERROR_DEVICE:
      return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND};
    case DA3_ERROR_OPEN_READ:
      return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ};
    case DA3_ERROR_WRONG_TYPE:
      return {GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE};
    case DA3_ERROR_NO_MEMORY:
      return {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT};
    case DA3_ERROR_LIBRARY:
      return {GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT};
    default:
      return {GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED};
  }
}

void post(GstElement* element, GstMessageType type, BusCode bus, const std::string& message,
          const std::string& detail) {
  gst_element_message_full(element, type, bus.domain, bus.code, g_strdup(message.c_str()),
                           detail.empty() ? nullptr : g_strdup(detail.c_str()), __FILE__, GST_FUNCTION, __LINE__);
}

}  // namespace

void post_error(GstElement* element, const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const ElementError& e) {
    post(element, GST_MESSAGE_ERROR, {e.domain(), e.code()}, e.what(), e.detail());
  } catch (const EngineError& e) {
    post(element, GST_MESSAGE_ERROR, bus_code(e.code()), e.what(), e.detail());
  } catch (const std::bad_alloc& e) {
    post(element, GST_MESSAGE_ERROR, {GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT}, "Out of memory.",
         e.what());
  } catch (const std::exception& e) {
    post(element, GST_MESSAGE_ERROR, {GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED}, e.what(), {});
  } catch (...) {
    post(element, GST_MESSAGE_ERROR, {GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_FAILED},
         "An unknown internal error occurred.", {});
  }
}

void post_warning(GstElement* element, GQuark domain, gint code, const std::string& message,
                  const std::string& detail) noexcept {
  post(element, GST_MESSAGE_WARNING, {domain, code}, message, detail);
}

}  // namespace da3::plugin
