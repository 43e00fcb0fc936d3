// SPDX-License-Identifier: MIT
//
// The engine through its border: what comes back, known cameras, and requests that are refused.
#include "engine_api.h"

using namespace da3;
using namespace da3::test;

TEST_SUITE("results") {
  TEST_CASE("are the network's, bit for bit, for every output") {
    const auto engine = open(Models::any_view(), 1);
    const Direct network(Models::any_view(), tiny_any_view());
    for (const int views : {1, 2, 4}) {
      const Pictures pictures(3, views, kWidth, kHeight, views == 2 ? 13 : 0);
      Ticket ticket;
      ticket.submit(*engine, pictures.request(kAllOutputs));
      const Da3ResultData& d = ticket.data();
      NetworkOptions options;
      options.want_ray = true;
      const NetworkOutput out = network(pictures, options);
      CHECK(d.struct_size == sizeof d);
      CHECK(d.n_views == uint32_t(views));
      CHECK(d.width == kWidth);
      CHECK(d.height == kHeight);
      CHECK(d.ray_width == 32);
      CHECK(d.ray_height == 24);
      CHECK(same_bits(depth_of(d), out.depth[0]));
      CHECK(same_bits(plane(d.confidence, {views, kHeight, kWidth}), out.confidence[0]));
      CHECK(same_bits(plane(d.ray, {views, 24, 32, 6}), out.ray[0]));
      CHECK(same_bits(plane(d.ray_confidence, {views, 24, 32}), out.ray_confidence[0]));
      CHECK(same_bits(plane(d.extrinsics, {views, 3, 4}), out.extrinsics[0]));
      CHECK(same_bits(plane(d.intrinsics, {views, 3, 3}), out.intrinsics[0]));
      CHECK(d.sky == nullptr);
      CHECK(d.kind == DA3_KIND_RELATIVE);
      CHECK(d.scale_factor == 1.0f);
      CHECK(d.batch == 1);
      CHECK(d.queued_ns >= 0);
      CHECK(d.inference_ns > 0);
    }
  }

  TEST_CASE("hold what was asked for and nothing else; depth always") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 2);
    for (const uint32_t outputs : {0u, uint32_t(DA3_OUTPUT_CONFIDENCE), uint32_t(DA3_OUTPUT_POSE),
                                   uint32_t(DA3_OUTPUT_RAY | DA3_OUTPUT_DEPTH)}) {
      CAPTURE(outputs);
      Ticket ticket;
      ticket.submit(*engine, pictures.request(outputs));
      const Da3ResultData& d = ticket.data();
      CHECK(d.depth != nullptr);
      CHECK((d.confidence != nullptr) == bool(outputs & DA3_OUTPUT_CONFIDENCE));
      CHECK((d.extrinsics != nullptr) == bool(outputs & DA3_OUTPUT_POSE));
      CHECK((d.intrinsics != nullptr) == bool(outputs & DA3_OUTPUT_POSE));
      CHECK((d.ray != nullptr) == bool(outputs & DA3_OUTPUT_RAY));
      CHECK((d.ray_width != 0) == bool(outputs & DA3_OUTPUT_RAY));
    }
  }

  TEST_CASE("the ray pose and the reference strategy reach the network") {
    const auto engine = open(Models::any_view());
    const Direct network(Models::any_view(), tiny_any_view());
    const Pictures pictures(3, 3);
    Da3Request request = pictures.request(DA3_OUTPUT_POSE);
    request.use_ray_pose = 1;
    request.ref_view_strategy = DA3_REF_VIEW_MIDDLE;
    Ticket ticket;
    ticket.submit(*engine, request);
    NetworkOptions options;
    options.use_ray_pose = true;
    options.ref_view_strategy = DA3_REF_VIEW_MIDDLE;
    const NetworkOutput out = network(pictures, options);
    CHECK(same_bits(plane(ticket.data().extrinsics, {3, 3, 4}), out.extrinsics[0]));
    CHECK(same_bits(depth_of(ticket.data()), out.depth[0]));
    CHECK(ticket.data().ray == nullptr);
  }

  TEST_CASE("of a mono model") {
    const auto engine = open(Models::mono());
    const Pictures pictures(3, 2);
    Ticket ticket;
    ticket.submit(*engine, pictures.request(DA3_OUTPUT_SKY));
    const NetworkOutput out = Direct(Models::mono(), tiny_mono())(pictures);
    CHECK(same_bits(depth_of(ticket.data()), out.depth[0]));
    CHECK(same_bits(plane(ticket.data().sky, {2, kHeight, kWidth}), out.sky[0]));
  }

  TEST_CASE("of a nested model are metric, unless nothing could be fitted") {
    const Pictures pictures(3, 2);
    const auto engine = open(Models::nested());
    Ticket ticket;
    ticket.submit(*engine, pictures.request(DA3_OUTPUT_CONFIDENCE));
    const NetworkOutput out = Direct(Models::nested(), tiny_nested())(pictures);
    CHECK(same_bits(depth_of(ticket.data()), out.depth[0]));
    CHECK(ticket.data().kind == DA3_KIND_METRIC);
    CHECK(ticket.data().metric_valid == 1);
    CHECK(ticket.data().scale_factor == out.scale[0].item<float>());
    CHECK(ticket.data().extrinsics == nullptr);

    const TempDir temp;
    StoredTensors tensors = synthetic_tensors(tiny_config(tiny_nested()));
    tensors["model.da3_metric.head.scratch.sky_output_conv2.2.bias"] =
        store(at::full({1}, 100.0, at::TensorOptions(at::kFloat)));
    const auto sky = open(write_model(temp, "sky", tiny_nested(), tensors));
    Ticket all_sky;
    all_sky.submit(*sky, pictures.request());
    CHECK(sky->info().kind == DA3_KIND_METRIC);
    CHECK(all_sky.data().kind == DA3_KIND_RELATIVE);
    CHECK(all_sky.data().metric_valid == 0);
    CHECK(all_sky.data().scale_factor == 1.0f);
  }

  TEST_CASE("outlive references, engine and pixels") {
    const Da3EngineApi& api = EngineModule::instance().api();
    auto engine = open(Models::any_view());
    Tensor before;
    struct Kept {
      Gate gate;
      Da3Result* result = nullptr;
    } kept;
    kept.gate.open();
    {
      const Pictures pictures(1, 1);
      Da3Request request = pictures.request();
      request.user = &kept;
      request.done = [](void* user, Da3Result* result, const Da3Error*) {
        static_cast<Kept*>(user)->result = result;
        static_cast<Kept*>(user)->gate.pass();
      };
      engine->submit(request);
      kept.gate.wait_until_reached();
      before = depth_of(*api.result_data(kept.result));
    }
    CHECK(api.result_ref(kept.result) == kept.result);
    api.result_unref(kept.result);
    engine.reset();
    CHECK(same_bits(depth_of(*api.result_data(kept.result)), before));
    api.result_unref(kept.result);
  }
}

TEST_SUITE("known cameras") {
  TEST_CASE("come back as given, and depth is in their units") {
    const auto engine = open(Models::any_view(), 4);
    const Direct network(Models::any_view(), tiny_any_view());
    for (const int views : {1, 2, 3}) {
      CAPTURE(views);
      const Pictures pictures(5, views);
      auto [e, k] = make_cameras(1, views);
      e.select(3, 3).mul_(2.5);
      Da3Request request = pictures.request(DA3_OUTPUT_POSE | DA3_OUTPUT_CONFIDENCE);
      std::vector<float> extrinsics(e.data_ptr<float>(), e.data_ptr<float>() + e.numel());
      request.extrinsics = extrinsics.data();
      request.intrinsics = k.data_ptr<float>();
      Ticket ticket;
      ticket.submit(*engine, request);
      std::fill(extrinsics.begin(), extrinsics.end(), -1.0f);  // submit() has copied them
      CHECK(same_bits(plane(ticket.data().extrinsics, {views, 3, 4}), e[0]));
      CHECK(same_bits(plane(ticket.data().intrinsics, {views, 3, 3}), k[0]));

      std::vector<geometry::Matrix34> given, predicted;
      for (int v = 0; v < views; ++v) given.push_back(pose_at(e.data_ptr<float>() + v * 12));
      NetworkOptions options;
      options.extrinsics = e.clone();
      float* p = options.extrinsics.data_ptr<float>();
      for (const auto& pose : geometry::normalise_extrinsics(given))
        for (int i = 0; i < 12; ++i) *p++ = float(pose.data()[i]);
      options.intrinsics = k;
      const NetworkOutput out = network(pictures, options);
      for (int v = 0; v < views; ++v) predicted.push_back(pose_at(out.extrinsics.data_ptr<float>() + v * 12));
      const double scale = geometry::align_trajectories(given, predicted).scale;
      CHECK(same_bits(plane(ticket.data().confidence, {views, kHeight, kWidth}), out.confidence[0]));
      CHECK(distance(depth_of(ticket.data()), out.depth[0] / scale) < 1e-6);
      CHECK((scale == 1.0) == (views == 1));
    }
  }

  TEST_CASE("twice as far apart: depth is twice as large") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(5, 3);
    auto [e, k] = make_cameras(1, 3);
    auto run = [&, k = k](const Tensor& extrinsics) {
      Da3Request request = pictures.request();
      request.extrinsics = extrinsics.data_ptr<float>();
      request.intrinsics = k.data_ptr<float>();
      Ticket ticket;
      ticket.submit(*engine, request);
      CHECK(ticket.data().extrinsics == nullptr);  // not asked for
      return depth_of(ticket.data());
    };
    const Tensor once = run(e);
    const Tensor twice = e.clone();
    twice.select(3, 3).mul_(2);
    CHECK(distance(run(twice), once * 2) < 1e-3);
  }

  TEST_CASE("that the network's poses cannot be compared with fail their item, and only once") {
    // A camera decoder that makes no number of anything.
    const TempDir temp;
    StoredTensors tensors = synthetic_tensors(tiny_config(tiny_any_view()));
    int spoilt = 0;
    for (auto& [name, stored] : tensors) {
      if (name.find("cam_dec.fc_t.bias") == std::string::npos) continue;
      ++spoilt;
      stored = store(at::full(stored.shape, NAN, at::TensorOptions(at::kFloat)));
    }
    REQUIRE(spoilt == 1);
    const auto engine = open(write_model(temp, "no-poses", tiny_any_view(), tensors), 4);
    const Pictures pictures(5, 2);
    const auto [e, k] = make_cameras(1, 2);
    Da3Request request = pictures.request();
    request.extrinsics = e.data_ptr<float>();
    request.intrinsics = k.data_ptr<float>();
    std::deque<Ticket> tickets(3);
    {
      const Busy busy(*engine);
      for (Ticket& t : tickets) t.submit(*engine, request);
    }
    for (Ticket& t : tickets) {
      CHECK(t.code() == DA3_ERROR_FAILED);
      CHECK(t.message().find("not finite") != std::string::npos);
    }
    const Da3EngineStats s = engine->stats();
    CHECK(s.batch_histogram[2] == 1);
    CHECK(s.batches == 2);  // with the one that kept it busy: nothing was run again
    CHECK(s.failed == 3);
    // Who does not ask for poses is served.
    Ticket plain;
    plain.submit(*engine, pictures.request());
    CHECK(plain.code() == DA3_OK);
  }

  TEST_CASE("differ between the items of a batch") {
    const auto engine = open(Models::any_view(), 4);
    const Pictures pictures(5, 3);
    const auto [e, k] = make_cameras(3, 3);
    std::vector<Tensor> alone;
    std::deque<Ticket> tickets;
    auto submit = [&, &e = e, &k = k](int64_t b) {
      Da3Request request = pictures.request();
      request.extrinsics = e.data_ptr<float>() + b * 36;
      request.intrinsics = k.data_ptr<float>() + b * 27;
      tickets.emplace_back();
      tickets.back().submit(*engine, request);
    };
    for (int64_t b = 0; b < 3; ++b) {
      submit(b);
      alone.push_back(depth_of(tickets.back().data()));
    }
    {
      const Busy busy(*engine);
      for (int64_t b = 0; b < 3; ++b) submit(b);
    }
    for (size_t b = 0; b < 3; ++b) {
      CHECK(tickets[3 + b].data().batch == 3);
      CHECK(distance(depth_of(tickets[3 + b].data()), alone[b]) < 1e-3);
    }
  }

  TEST_CASE("that are incomplete or impossible are refused before they can spoil a batch") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(5, 2);
    const auto [e, k] = make_cameras(1, 2);
    Da3Request request = pictures.request();
    request.extrinsics = e.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("both or none"));
    request.extrinsics = nullptr;
    request.intrinsics = k.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("both or none"));
    for (const float value : {NAN, INFINITY, -INFINITY}) {
      const Tensor bad_e = e.clone(), bad_k = k.clone();
      bad_e[0][1][2][3] = value;
      bad_k[0][1][0][0] = value;
      request.extrinsics = bad_e.data_ptr<float>();
      request.intrinsics = k.data_ptr<float>();
      CHECK(submit_refusal(*engine, request).says("view 1"));
      request.extrinsics = e.data_ptr<float>();
      request.intrinsics = bad_k.data_ptr<float>();
      CHECK(submit_refusal(*engine, request).says("view 1"));
    }
    for (const double focal : {0.0, -300.0}) {
      const Tensor bad_k = k.clone();
      bad_k[0][0][1][1] = focal;
      request.intrinsics = bad_k.data_ptr<float>();
      CHECK(submit_refusal(*engine, request).says("focal"));
    }
    const Tensor no_rotation = e.clone();
    no_rotation[0][0].zero_();
    request.extrinsics = no_rotation.data_ptr<float>();
    request.intrinsics = k.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("rotation"));
    const Tensor mirrored = e.clone();
    mirrored[0][1].select(1, 1).neg_();
    request.extrinsics = mirrored.data_ptr<float>();
    CHECK(submit_refusal(*engine, request).says("rotation"));
  }
}

TEST_SUITE("requests that are refused") {
  TEST_CASE("sizes, strides, pixels") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 2);
    for (const auto& [w, h] :
         {std::pair<int, int>{55, 42}, {56, 43}, {0, 42}, {56, 0}, {-14, 42}, {7, 7}, {13, 14}}) {
      Da3Request request = pictures.request();
      request.width = w;
      request.height = h;
      const Refusal r = submit_refusal(*engine, request);
      CHECK(r.code == DA3_ERROR_SETTINGS);
      CHECK(r.says(std::to_string(w) + "x" + std::to_string(h)));
      CHECK(r.says("multiple of 14"));
    }
    for (const int stride : {3 * kWidth - 1, 0, -3 * kWidth}) {
      Da3Request request = pictures.request();
      const std::vector<Da3View> views = {request.views[0], {request.views[1].rgb, stride}};
      request.views = views.data();
      CHECK(submit_refusal(*engine, request).says("View 1"));
    }
    Da3Request request = pictures.request();
    const std::vector<Da3View> views = {{nullptr, 3 * kWidth}, request.views[1]};
    request.views = views.data();
    CHECK(submit_refusal(*engine, request).says("View 0"));
    // A width whose rows would not fit a stride.
    request = pictures.request();
    request.width = 14 * 100000000;
    CHECK(submit_refusal(*engine, request).code == DA3_ERROR_SETTINGS);
  }

  TEST_CASE("incomplete ones") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request request = pictures.request();
    request.n_views = 0;
    CHECK(submit_refusal(*engine, request).says("incomplete"));
    request = pictures.request();
    request.views = nullptr;
    CHECK(submit_refusal(*engine, request).says("incomplete"));
    request = pictures.request();
    request.struct_size = DA3_REQUEST_SIZE_1 - 4;
    CHECK(submit_refusal(*engine, request).code == DA3_ERROR_SETTINGS);
    request = pictures.request();  // no done()
    CHECK(refusal_of([&] { engine->submit(request); }).code == DA3_ERROR_SETTINGS);
    const int unknown = 9;
    std::memcpy(&request.ref_view_strategy, &unknown, sizeof unknown);
    CHECK(submit_refusal(*engine, request).says("9"));
  }

  TEST_CASE("outputs that the model does not have") {
    const Pictures pictures(1, 1);
    const auto any_view = open(Models::any_view()), mono = open(Models::mono()),
               gaussians = open(Models::gaussians());
    const Refusal sky = submit_refusal(*any_view, pictures.request(DA3_OUTPUT_SKY));
    CHECK(sky.code == DA3_ERROR_UNSUPPORTED);
    CHECK(sky.says("sky"));
    CHECK(sky.says("'tiny'"));
    const Refusal several =
        submit_refusal(*mono, pictures.request(DA3_OUTPUT_POSE | DA3_OUTPUT_CONFIDENCE | DA3_OUTPUT_SKY));
    CHECK(several.code == DA3_ERROR_UNSUPPORTED);
    CHECK(several.says("does not compute confidence, pose"));
    CHECK(several.says("has depth, sky"));
    CHECK(submit_refusal(*gaussians, pictures.request(DA3_OUTPUT_GAUSSIANS)).says("Gaussians"));
    CHECK(submit_refusal(*mono, pictures.request(1u << 20)).code == DA3_ERROR_UNSUPPORTED);
    Da3Request ray_pose = pictures.request();
    ray_pose.use_ray_pose = 1;
    CHECK(submit_refusal(*mono, ray_pose).says("ray"));
    const auto [e, k] = make_cameras(1, 1);
    Da3Request known = pictures.request();
    known.extrinsics = e.data_ptr<float>();
    known.intrinsics = k.data_ptr<float>();
    const Refusal cameras = submit_refusal(*mono, known);
    CHECK(cameras.code == DA3_ERROR_UNSUPPORTED);
    CHECK(cameras.says("'tiny-mono' has no camera encoder"));
  }

  TEST_CASE("and the engine lives on") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    submit_refusal(*engine, pictures.request(DA3_OUTPUT_SKY));
    Ticket ticket;
    ticket.submit(*engine, pictures.request());
    CHECK(ticket.code() == DA3_OK);
  }

  TEST_CASE("more memory than there is: one error for this request, the next one works") {
    const auto engine = open(Models::any_view());
    const Pictures pictures(1, 1);
    Da3Request request = pictures.request();
    // More bytes than a processor can address; no pixel is ever read.
    request.width = request.height = 7000000;
    const std::vector<Da3View> views = {{request.views[0].rgb, 3 * 7000000}};
    request.views = views.data();
    Ticket too_large, next;
    too_large.submit(*engine, request);
    CHECK(too_large.code() == DA3_ERROR_NO_MEMORY);
    CHECK(too_large.message().find("7000000x7000000") != std::string::npos);
    next.submit(*engine, pictures.request());
    CHECK(next.code() == DA3_OK);
    CHECK(too_large.calls() == 1);
  }
}
