// SPDX-License-Identifier: MIT
//
// What is true of every element of the plugin, whichever there are: it can be made, described and read
// without an engine, and says the truth about its properties.
#include <gst/check/gstcheck.h>
#undef fail  // a macro of check that std::ios::fail() does not survive

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

namespace {

std::vector<std::string> element_names() {
  std::vector<std::string> names;
  GList* features = gst_registry_get_feature_list_by_plugin(gst_registry_get(), "da3");
  for (GList* item = features; item; item = item->next) {
    if (GST_IS_ELEMENT_FACTORY(item->data)) names.emplace_back(gst_plugin_feature_get_name(item->data));
  }
  gst_plugin_feature_list_free(features);
  return names;
}

// Calls `check` with one instance of every element.
template <typename Check>
void for_each_element(Check&& check) {
  const std::vector<std::string> names = element_names();
  fail_unless(!names.empty(), "the plugin has no element");
  for (const std::string& name : names) {
    GstElement* element = gst_element_factory_make(name.c_str(), nullptr);
    fail_unless(element != nullptr, "%s cannot be made", name.c_str());
    check(element, name);
    ASSERT_OBJECT_REFCOUNT(element, name.c_str(), 1);
    gst_object_unref(element);
  }
}

// Calls `check` with every property that the element's own class has.
template <typename Check>
void for_each_property(Check&& check) {
  for_each_element([&](GstElement* element, const std::string& name) {
    guint count = 0;
    GParamSpec** specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &count);
    for (guint i = 0; i < count; ++i) {
      if (g_str_has_prefix(g_type_name(specs[i]->owner_type), "GstDa3")) {
        check(element, specs[i], name + "::" + specs[i]->name);
      }
    }
    g_free(specs);
  });
}

std::string read_maps() {
  std::ifstream file("/proc/self/maps");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

GST_START_TEST(all_elements_are_there) {
  const std::vector<std::string> names = element_names();
  for (const char* name : {"da3preprocess", "da3infer", "da3extract", "da3depthviz", "da3posesink"}) {
    fail_unless(std::find(names.begin(), names.end(), name) != names.end(), "%s is missing", name);
  }
}
GST_END_TEST

GST_START_TEST(elements_come_and_go) {
  for (int i = 0; i < 20; ++i) for_each_element([](GstElement*, const std::string&) {});
}
GST_END_TEST

GST_START_TEST(elements_say_what_they_are) {
  for_each_element([](GstElement* element, const std::string& name) {
    GstElementClass* klass = GST_ELEMENT_GET_CLASS(element);
    for (const char* key :
         {GST_ELEMENT_METADATA_LONGNAME, GST_ELEMENT_METADATA_KLASS, GST_ELEMENT_METADATA_DESCRIPTION}) {
      const gchar* text = gst_element_class_get_metadata(klass, key);
      fail_unless(text && *text, "%s has no %s", name.c_str(), key);
    }
    fail_unless_equals_string(gst_element_class_get_metadata(klass, GST_ELEMENT_METADATA_AUTHOR), "gst-da3");
    fail_unless(gst_element_class_get_pad_template_list(klass) != nullptr, "%s has no pads", name.c_str());
  });
}
GST_END_TEST

GST_START_TEST(pad_templates_hold_no_memory_that_cannot_be_mapped) {
  for_each_element([](GstElement* element, const std::string& name) {
    for (const GList* item = gst_element_class_get_pad_template_list(GST_ELEMENT_GET_CLASS(element)); item;
         item = item->next) {
      GstCaps* caps = gst_pad_template_get_caps(GST_PAD_TEMPLATE(item->data));
      for (guint i = 0; i < gst_caps_get_size(caps) && !gst_caps_is_any(caps); ++i) {
        const GstCapsFeatures* features = gst_caps_get_features(caps, i);
        fail_unless(gst_caps_features_is_any(features) ||
                        gst_caps_features_contains(features, GST_CAPS_FEATURE_MEMORY_SYSTEM_MEMORY) ||
                        gst_caps_features_get_size(features) == 0,
                    "%s offers foreign memory", name.c_str());
      }
      gst_caps_unref(caps);
    }
  });
}
GST_END_TEST

GST_START_TEST(every_property_is_explained) {
  for_each_property([](GstElement*, GParamSpec* spec, const std::string& name) {
    const gchar* blurb = g_param_spec_get_blurb(spec);
    fail_unless(blurb && std::string(blurb).size() > 8, "%s has no description", name.c_str());
    fail_unless(g_param_spec_get_nick(spec) && *g_param_spec_get_nick(spec), "%s has no nick", name.c_str());
  });
}
GST_END_TEST

GST_START_TEST(every_readable_property_can_be_read) {
  for_each_property([](GstElement* element, GParamSpec* spec, const std::string& name) {
    if (!(spec->flags & G_PARAM_READABLE)) return;
    GValue value = G_VALUE_INIT;
    g_value_init(&value, spec->value_type);
    g_object_get_property(G_OBJECT(element), spec->name, &value);
    gchar* text = g_strdup_value_contents(&value);
    fail_unless(text != nullptr, "%s", name.c_str());
    g_free(text);
    g_value_unset(&value);
  });
}
GST_END_TEST

GST_START_TEST(defaults_are_in_range_and_in_force) {
  for_each_property([](GstElement* element, GParamSpec* spec, const std::string& name) {
    GValue value = G_VALUE_INIT;
    g_value_init(&value, spec->value_type);
    g_param_value_set_default(spec, &value);
    fail_if(g_param_value_validate(spec, &value), "the default of %s is out of range", name.c_str());
    const bool plain = (spec->flags & G_PARAM_READWRITE) == G_PARAM_READWRITE;
    if (plain) {
      GValue now = G_VALUE_INIT;
      g_value_init(&now, spec->value_type);
      g_object_get_property(G_OBJECT(element), spec->name, &now);
      fail_unless(g_param_values_cmp(spec, &value, &now) == 0, "%s does not start at its default",
                  name.c_str());
      g_value_unset(&now);
    }
    g_value_unset(&value);
  });
}
GST_END_TEST

GST_START_TEST(every_writable_property_takes_its_default_and_says_when) {
  for_each_property([](GstElement* element, GParamSpec* spec, const std::string& name) {
    if (!(spec->flags & G_PARAM_WRITABLE)) return;
    const guint when =
        spec->flags & (GST_PARAM_MUTABLE_READY | GST_PARAM_MUTABLE_PAUSED | GST_PARAM_MUTABLE_PLAYING);
    fail_unless(when != 0, "%s does not say in which states it can be changed", name.c_str());
    GValue value = G_VALUE_INIT;
    g_value_init(&value, spec->value_type);
    g_param_value_set_default(spec, &value);
    g_object_set_property(G_OBJECT(element), spec->name, &value);
    g_value_unset(&value);
  });
}
GST_END_TEST

GST_START_TEST(enumerations_have_nicks_that_can_be_typed) {
  for_each_property([](GstElement* element, GParamSpec* spec, const std::string& name) {
    if (!G_IS_PARAM_SPEC_ENUM(spec) || !(spec->flags & G_PARAM_WRITABLE)) return;
    const GEnumClass* klass = G_PARAM_SPEC_ENUM(spec)->enum_class;
    for (guint i = 0; i < klass->n_values; ++i) {
      const GEnumValue& value = klass->values[i];
      fail_unless(strpbrk(value.value_nick, " \t!") == nullptr, "%s: '%s'", name.c_str(), value.value_nick);
      gst_util_set_object_arg(G_OBJECT(element), spec->name, value.value_nick);
      gint now = -1;
      g_object_get(element, spec->name, &now, nullptr);
      fail_unless(now == value.value, "%s=%s was not taken", name.c_str(), value.value_nick);
    }
  });
}
GST_END_TEST

GST_START_TEST(strings_can_be_null) {
  for_each_property([](GstElement* element, GParamSpec* spec, const std::string&) {
    if (!G_IS_PARAM_SPEC_STRING(spec) || !(spec->flags & G_PARAM_WRITABLE)) return;
    g_object_set(element, spec->name, nullptr, nullptr);
    gchar* text = nullptr;
    g_object_get(element, spec->name, &text, nullptr);
    g_free(text);
  });
}
GST_END_TEST

GST_START_TEST(buffers_before_the_start_are_refused) {
  for_each_element([](GstElement* element, const std::string& name) {
    GstPad* pad = gst_element_get_static_pad(element, "sink");
    if (!pad) return;
    fail_unless(gst_pad_chain(pad, gst_buffer_new()) == GST_FLOW_FLUSHING, "%s", name.c_str());
    gst_object_unref(pad);
  });
}
GST_END_TEST

GST_START_TEST(the_plugin_brings_no_libtorch) {
  g_setenv("DA3_ENGINE_PATH", "/nowhere/libda3engine.so", TRUE);
  for_each_element([](GstElement*, const std::string&) {});
  const std::string maps = read_maps();
  fail_unless(maps.find("libgstda3") != std::string::npos, "the plugin is not in memory");
  for (const char* library : {"libtorch", "libc10", "libda3engine"}) {
    fail_unless(maps.find(library) == std::string::npos, "%s was loaded", library);
  }
}
GST_END_TEST

GST_START_TEST(gst_inspect_describes_every_element) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return;  // a program that is not built like this cannot load the plugin
#endif
  gchar* program = g_find_program_in_path("gst-inspect-1.0");
  if (!program) return;  // not part of the development packages everywhere
  g_setenv("DA3_ENGINE_PATH", "/nowhere/libda3engine.so", TRUE);
  std::vector<std::string> names = element_names();
  names.emplace_back("da3");
  for (const std::string& name : names) {
    const gchar* arguments[] = {program, name.c_str(), nullptr};
    gchar *out = nullptr, *problems = nullptr;
    gint status = -1;
    fail_unless(g_spawn_sync(nullptr, const_cast<gchar**>(arguments), nullptr, G_SPAWN_DEFAULT, nullptr,
                             nullptr, &out, &problems, &status, nullptr));
    fail_unless_equals_int(status, 0);
    fail_unless(strstr(out, "gst-da3") != nullptr);
    fail_unless(*problems == '\0', "%s: %s", name.c_str(), problems);
    g_free(out);
    g_free(problems);
  }
  g_free(program);
}
GST_END_TEST

GST_START_TEST(nothing_else_is_registered) {
  fail_unless(gst_element_factory_make("da3nonsense", nullptr) == nullptr);
  GstPlugin* plugin = gst_registry_find_plugin(gst_registry_get(), "da3");
  fail_unless(plugin != nullptr);
  fail_unless_equals_string(gst_plugin_get_source(plugin), "gst-da3");
  gst_object_unref(plugin);
}
GST_END_TEST

static Suite* plugin_suite() {
  Suite* suite = suite_create("plugin");
  TCase* elements = tcase_create("elements");
  tcase_add_test(elements, all_elements_are_there);
  tcase_add_test(elements, elements_come_and_go);
  tcase_add_test(elements, elements_say_what_they_are);
  tcase_add_test(elements, pad_templates_hold_no_memory_that_cannot_be_mapped);
  tcase_add_test(elements, every_property_is_explained);
  tcase_add_test(elements, every_readable_property_can_be_read);
  tcase_add_test(elements, defaults_are_in_range_and_in_force);
  tcase_add_test(elements, every_writable_property_takes_its_default_and_says_when);
  tcase_add_test(elements, enumerations_have_nicks_that_can_be_typed);
  tcase_add_test(elements, strings_can_be_null);
  tcase_add_test(elements, buffers_before_the_start_are_refused);
  tcase_add_test(elements, the_plugin_brings_no_libtorch);
  tcase_add_test(elements, gst_inspect_describes_every_element);
  tcase_add_test(elements, nothing_else_is_registered);
  suite_add_tcase(suite, elements);
  return suite;
}

GST_CHECK_MAIN(plugin)
