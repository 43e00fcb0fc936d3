// SPDX-License-Identifier: MIT
//
// Several da3infer of a process share the weights of a model: seen in its resident memory. With the real
// engine and made-up weights; skipped where the engine is not built.
#include <gst/check/gstcheck.h>
#undef fail  // a macro of check that std::ios::fail() does not survive
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace {

constexpr char kModel[] = "synthetic:da3-small?seed=77";
constexpr char kOtherModel[] = "synthetic:da3-small?seed=78";

guint64 resident() {
  std::ifstream file("/proc/self/statm");
  guint64 size = 0, pages = 0;
  file >> size >> pages;
  return pages * guint64(sysconf(_SC_PAGESIZE));
}

// Elements of a pipeline, from READY on with their models.
class Pipeline {
 public:
  Pipeline() : pipeline_(gst_pipeline_new(nullptr)) {}
  ~Pipeline() {
    gst_element_set_state(pipeline_, GST_STATE_NULL);
    gst_object_unref(pipeline_);
  }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  void add(const char* model, int count) {
    for (int i = 0; i < count; ++i) {
      GstElement* element = gst_element_factory_make("da3infer", nullptr);
      fail_unless(element != nullptr);
      // Neither what is measured while it loads nor the precision chosen by that has a part in this.
      gst_util_set_object_arg(G_OBJECT(element), "performance-mode", "minimal");
      gst_util_set_object_arg(G_OBJECT(element), "precision", "fp32");
      g_object_set(element, "model", model, "device", "cpu", nullptr);
      gst_bin_add(GST_BIN(pipeline_), element);
      elements_.push_back(element);
    }
    fail_unless_equals_int(gst_element_set_state(pipeline_, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  }
  // A statistic of the engine of the first element.
  guint64 engine(const char* field) const {
    GstStructure* stats = nullptr;
    g_object_get(elements_.front(), "stats", &stats, nullptr);
    const GValue* part = gst_structure_get_value(stats, "engine");
    fail_unless(part != nullptr, "no engine");
    guint64 value = 0;
    guint small = 0;
    if (!gst_structure_get_uint64(gst_value_get_structure(part), field, &value)) {
      fail_unless(gst_structure_get_uint(gst_value_get_structure(part), field, &small), "no %s", field);
      value = small;
    }
    gst_structure_free(stats);
    return value;
  }

 private:
  GstElement* pipeline_;
  std::vector<GstElement*> elements_;
};

}  // namespace

GST_START_TEST(eight_elements_hold_one_copy_of_the_weights) {
  Pipeline pipeline;
  const guint64 none = resident();
  pipeline.add(kModel, 1);
  const guint64 one = resident();
  pipeline.add(kModel, 7);
  const guint64 eight = resident();
  const guint64 weights = pipeline.engine("memory-weights");
  fail_unless_equals_uint64(pipeline.engine("users"), 8);
  fail_unless(weights > 80'000'000, "%" G_GUINT64_FORMAT " bytes of weights", weights);
  fail_unless(one >= none + weights, "%" G_GUINT64_FORMAT " bytes of weights came with %" G_GUINT64_FORMAT,
              weights, one - none);
  fail_unless(eight < one + weights / 4,
              "seven more elements took %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT, eight - one, weights);
}
GST_END_TEST

GST_START_TEST(weights_of_another_model_are_a_copy_of_their_own) {
  Pipeline pipeline;
  pipeline.add(kModel, 4);
  const guint64 one = resident();
  pipeline.add(kOtherModel, 4);
  const guint64 two = resident();
  const guint64 weights = pipeline.engine("memory-weights");
  fail_unless_equals_uint64(pipeline.engine("users"), 4);
  fail_unless(two > one + 3 * (weights / 4) && two < one + 2 * weights,
              "the other model took %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT, two - one, weights);
}
GST_END_TEST

static Suite* da3infer_weights_suite() {
  Suite* suite = suite_create("da3infer-weights");
  TCase* weights = tcase_create("weights");
  tcase_set_timeout(weights, 240);
  tcase_add_test(weights, eight_elements_hold_one_copy_of_the_weights);
  tcase_add_test(weights, weights_of_another_model_are_a_copy_of_their_own);
  suite_add_tcase(suite, weights);
  return suite;
}

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;  // for Meson
  const gchar* engine = g_getenv("DA3_ENGINE_PATH");
  if (!engine || !*engine || !g_file_test("/proc/self/statm", G_FILE_TEST_EXISTS)) {
    std::puts(
        "skipped: this needs the real engine (DA3_ENGINE_PATH, set by meson test where the engine is built) "
        "and "
        "/proc/self/statm");
    return kSkipped;
  }
  gst_check_init(&argc, &argv);
  return gst_check_run_suite(da3infer_weights_suite(), "da3infer_weights", __FILE__);
}
