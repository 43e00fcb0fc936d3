// SPDX-License-Identifier: MIT
#include "common/enums.h"

namespace {

GType register_once(gsize* once, const char* name, const GEnumValue* values) {
  if (g_once_init_enter(once)) g_once_init_leave(once, g_enum_register_static(name, values));
  return *once;
}

}  // namespace

GType gst_da3_process_res_method_get_type(void) {
  using da3::image::ProcessResMethod;
  static gsize once = 0;
  static const GEnumValue values[] = {
      {int(ProcessResMethod::upper_bound_resize), "Longest side to process-res, resize to multiples of 14",
       "upper_bound_resize"},
      {int(ProcessResMethod::upper_bound_crop), "Longest side to process-res, crop to multiples of 14",
       "upper_bound_crop"},
      {int(ProcessResMethod::lower_bound_resize), "Shortest side to process-res, resize to multiples of 14",
       "lower_bound_resize"},
      {int(ProcessResMethod::lower_bound_crop), "Shortest side to process-res, crop to multiples of 14",
       "lower_bound_crop"},
      {0, nullptr, nullptr}};
  return register_once(&once, "GstDa3ProcessResMethod", values);
}

GType gst_da3_precision_get_type(void) {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {DA3_PRECISION_AUTO, "The fastest that the device is native in, measured when the model is loaded",
       "auto"},
      {DA3_PRECISION_FP32, "32-bit floating point", "fp32"},
      {DA3_PRECISION_FP16, "16-bit floating point in the backbone", "fp16"},
      {DA3_PRECISION_BF16, "bfloat16 in the backbone", "bf16"},
      {DA3_PRECISION_INT8, "8-bit linear layers in the backbone, on the CPU", "int8"},
      {DA3_PRECISION_FP8, "Linear layers in 8-bit floats in the backbone, on CUDA", "fp8"},
      {0, nullptr, nullptr}};
  return register_once(&once, "GstDa3Precision", values);
}

GType gst_da3_attention_get_type(void) {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {DA3_ATTENTION_AUTO, "The fastest here, measured when the model is loaded", "auto"},
      {DA3_ATTENTION_PLAIN, "Explicit products", "plain"},
      {DA3_ATTENTION_FUSED, "One pass without a score matrix: our own kernel or LibTorch's", "fused"},
      {DA3_ATTENTION_FLASH, "Flash attention (CUDA, half precision)", "flash"},
      {DA3_ATTENTION_EFFICIENT, "Memory-efficient attention (CUDA)", "efficient"},
      {DA3_ATTENTION_CUDNN, "cuDNN's attention (CUDA, half precision)", "cudnn"},
      {0, nullptr, nullptr}};
  return register_once(&once, "GstDa3Attention", values);
}

GType gst_da3_performance_mode_get_type(void) {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {DA3_PERFORMANCE_BALANCED, "Short measurements, batches that are learned", "balanced"},
      {DA3_PERFORMANCE_MINIMAL, "Least memory and quickest start: nothing measured, no batches", "minimal"},
      {DA3_PERFORMANCE_MAX, "Most throughput: longer measurements, larger batches, TF32 on CUDA", "max"},
      {0, nullptr, nullptr}};
  return register_once(&once, "GstDa3PerformanceMode", values);
}

GType gst_da3_ref_view_strategy_get_type(void) {
  static gsize once = 0;
  static const GEnumValue values[] = {
      {DA3_REF_VIEW_FIRST, "The first view", "first"},
      {DA3_REF_VIEW_MIDDLE, "The middle view", "middle"},
      {DA3_REF_VIEW_SADDLE_BALANCED, "The view nearest to the middle in similarity, norm and variance",
       "saddle_balanced"},
      {DA3_REF_VIEW_SADDLE_SIM_RANGE, "The view with the widest range of similarities", "saddle_sim_range"},
      {0, nullptr, nullptr}};
  return register_once(&once, "GstDa3RefViewStrategy", values);
}
